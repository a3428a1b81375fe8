"""Where the client finds its service."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Address(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TUNER_", frozen=True, env_ignore_empty=True)

    url: str = Field("", pattern="^(https?://.+)?$", description="of the service; empty: the same app in this process")
    token: SecretStr | None = Field(None, description="sent as bearer token")

    def bearer(self) -> str | None:
        return self.token.get_secret_value() if self.token is not None else None
