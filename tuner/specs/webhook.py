"""A study's webhook: where it tells of its jobs, of what, and what it says."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, HttpUrl, field_validator

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.spec import Spec

WebhookEvent = Literal["job.succeeded", "job.failed", "job.cancelled", "job.paused", "champion.changed"]


class WebhookSpec(Spec):
    """A signed POST to `url` for each of `events`, sent until the receiver has it. Its host must be one the service allows."""

    url: HttpUrl = Field(examples=["https://hooks.example.com/tuner"])
    events: tuple[WebhookEvent, ...] = Field(
        ("job.succeeded", "job.failed", "job.cancelled", "champion.changed"), min_length=1
    )

    @field_validator("url")
    @classmethod
    def _carry_no_credentials(cls, url: HttpUrl) -> HttpUrl:
        if url.username is not None or url.password is not None:
            raise ValueError(f"a webhook's URL must carry no user and password, but got some for {url.host!r}")
        return url

    @property
    def host(self) -> str:
        """As it is compared with the allowed ones: lower case, an IPv6 address without its brackets."""
        return (self.url.host or "").strip("[]")

    @property
    def port(self) -> int:
        return self.url.port or 0


def _from_url(given: Any) -> Any:
    return {"url": given} if isinstance(given, str) else given


Webhook = Annotated[WebhookSpec, BeforeValidator(_from_url, json_schema_input_type=WebhookSpec | HttpUrl)]
"""A URL alone stands for a webhook with the default events."""


class BestFound(Spec):
    """The search's best trial."""

    number: int
    value: float
    params: dict[str, Any] = Field(description="as Optuna holds them")
    hyperparameters: Hyperparameters | None = Field(description="null for a study with a space of its own")


class PromotedModel(Spec):
    """The study's winner on the full data."""

    model: str = Field(description="its id, for `/v1/models/{id}/download`")
    hyperparameters: Hyperparameters
    test_accuracy: float | None = Field(description="on the sealed test set; null where it was not opened")


class NewChampion(Spec):
    """The job's winner is its schedule's champion from now on."""

    schedule: str = Field(examples=["nightly"])
    model: str = Field(description="the champion's id")
    previous: str | None = Field(description="the id of the champion before it")
    reason: str


class JobReport(Spec):
    """How a job stands; the study's best and winner are those of this moment."""

    study: str = Field(examples=["mnist-quick"])
    job: int = Field(examples=[1])
    kind: str = Field(examples=["search"])
    state: str = Field(examples=["succeeded"])
    stop_reason: str | None = Field(examples=["n_trials"])
    error: str | None = Field(description="in one line; the whole of it is in the job")
    best: BestFound | None = Field(description="null too where several objectives leave no single best")
    promoted: PromotedModel | None
    champion: NewChampion | None = Field(None, description="of `champion.changed`; the job is still running then")
    created_at: str = Field(description="RFC 3339, UTC; as the other times")
    started_at: str | None
    finished_at: str | None


class WebhookMessage(Spec):
    """The body of a webhook. What was sent once is sent again byte for byte, so that `webhook-id` names one content."""

    type: WebhookEvent
    timestamp: str = Field(description="when it happened: RFC 3339, UTC")
    data: JobReport
