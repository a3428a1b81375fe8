"""The service's settings, from `TUNER_…` environment variables; an argument that is given wins."""

import os
import sys
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tuner.errors import InvalidInput

MIN_TOKEN_LENGTH = 16
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TUNER_", frozen=True, env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="address to listen on; another than loopback needs a token")
    port: int = Field(8000, ge=0, le=65535)
    data_dir: Path = Field(Path("data"), description="database, data sets, models")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder")
    executor: Literal["local"] = Field("local", description="where nets are trained")
    parallel: int = Field(0, ge=0, le=1024, description="worker processes; 0: one per core")
    worker_memory_mb: int | None = Field(
        None,
        ge=512,
        description="data of one worker, in MiB; a trial that asks for more fails; none: no bound; Linux only",
    )
    max_jobs: int = Field(2, ge=1, le=64, description="jobs running at once; they share the workers")
    allowed_hosts: str = Field("", description="comma-separated Host names besides the loopback ones and TUNER_HOST")
    token_file: Path | None = Field(None, description="a file with one operator token; turns access control on")
    trusted_proxies: str = Field(
        "", description="comma-separated addresses of reverse proxies whose X-Forwarded-For and -Proto are believed"
    )
    requests_per_second: float = Field(500, gt=0, description="of one token, or of one address without a token")
    requests_burst: int = Field(2000, ge=1, description="so many at once after a rest")
    logins_per_minute: int = Field(5, ge=1, description="of one address, at the login page")
    suggest_seconds: float = Field(
        10, gt=0, le=300, description="so long a worker's question for trials waits for a runner to make one ready"
    )
    max_streams: int = Field(20, ge=1, description="event streams that one token, or one address, may have open")
    webhook_hosts: str = Field(
        "", description="comma-separated `host` or `host:port` that webhooks may go to; empty: no webhooks"
    )
    webhook_secret_file: Path | None = Field(
        None,
        description="a file with the secret that signs webhooks: `whsec_` and base64; several lines: several signatures",
    )
    keep_deleted_days: float = Field(30, ge=0, description="a deleted study can be restored so long, then it is purged")
    keep_studies_days: float | None = Field(
        None, ge=0, description="an ended study is deleted so long after its last job; none: never"
    )
    keep_events_days: float = Field(
        30, ge=1, description="jobs' logs, webhooks, schedules' runs, and what failed jobs need for a retry"
    )
    keep_audit_days: float = Field(365, ge=1, description="who asked for which change")
    keep_models_gb: float = Field(
        10, gt=0, description="files of models; above it the oldest but winners and champions go"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.absolute()

    @model_validator(mode="after")
    def _fill(self) -> Self:
        if not self.database_url:
            object.__setattr__(self, "database_url", f"sqlite:///{self.data_dir / 'tuner.db'}")
        if not self.parallel:
            object.__setattr__(self, "parallel", _cores())
        return self

    @field_validator("worker_memory_mb")
    @classmethod
    def _bounds_memory(cls, limit: int | None) -> int | None:
        if limit is not None and sys.platform != "linux":
            raise ValueError("a worker's memory can be bounded on Linux only")
        return limit

    def check_address(self, guarded: bool) -> None:
        """Raises InvalidInput where everybody may come in and the address is not this machine's own."""
        if not guarded and self.host not in LOOPBACK:
            rule = "without a token the service binds to loopback only"
            way = "make one with `tuner token create`, or set TUNER_TOKEN_FILE"
            raise InvalidInput(f"{rule}, but TUNER_HOST is {self.host}; {way}")

    def file_token(self) -> str | None:
        """The operator's token in TUNER_TOKEN_FILE, if that is set.

        Raises InvalidInput where the file cannot be read, or the token is too short for a secret.
        """
        if self.token_file is None:
            return None
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"TUNER_TOKEN_FILE must name a readable text file: {error}") from error
        if len(token) < MIN_TOKEN_LENGTH:
            rule = f"a token must have at least {MIN_TOKEN_LENGTH} characters"
            raise InvalidInput(f"{rule}, but the one in {self.token_file} has {len(token)}")
        return token

    @property
    def on_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    @property
    def datasets_dir(self) -> Path:
        return self.data_dir / "datasets"

    @property
    def models_dir(self) -> Path:
        return self.data_dir / "models"


def _cores() -> int:
    """The cores this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
