"""What the service answers, one class a resource. What it is asked is in `tuner.specs`."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.job import Work
from tuner.specs.study import StudySpec
from tuner.store.attempts import Ending
from tuner.store.jobs import JobState
from tuner.store.model_registry import ModelMetrics

T = TypeVar("T")

StudyState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled", "foreign"]
TrialStateName = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"]
Time = str


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_cursor: str | None = Field(description="for the next page; null on the last one")


class TrialCounts(BaseModel):
    """They add up: total is the sum of the others."""

    total: int
    complete: int
    pruned: int
    fail: int
    running: int
    waiting: int


class ProgressAnswer(BaseModel):
    """Of the whole job: trials of the search plus epochs of the rung and of the promoted nets."""

    done: int
    total: int
    fraction: float = Field(description="0 to 1")
    eta_seconds: float | None


class BestTrial(BaseModel):
    number: int
    value: float
    hyperparameters: Hyperparameters | None = Field(description="null for a foreign study")


class Promoted(BaseModel):
    model: str = Field(description="the model's id")
    hyperparameters: Hyperparameters
    test_accuracy: float | None


class JobAnswer(BaseModel):
    id: int
    study: str
    kind: str
    state: JobState
    stage: str | None
    priority: int = Field(description="-100 to 100; of the jobs that wait, a higher one is started first")
    after: int | None = Field(description="the job that this one waits for, or has waited for")
    work: Work | None = Field(description="what a further job does; null: the study's first job, which does all of its spec")
    attempt: int = Field(description="how often a runner has begun or taken over this job")
    stalled: int = Field(description="runners lost in a row without progress between them; the fifth fails the job")
    progress: ProgressAnswer
    stop_reason: str | None = Field(description="n_trials, timeout, exhausted, no_improvement, target, max_failed, …")
    error: str | None
    elapsed_seconds: float = Field(description="while it was running; pauses do not count")
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class LogEntry(BaseModel):
    id: int = Field(description="rises from entry to entry, with gaps")
    at: Time
    kind: str = Field(description="job, stage, trial_started, epoch, trial_finished, run_finished, warning, …")
    data: dict[str, Any]
    text: str = Field(description="the same in words")


class StudySummary(BaseModel):
    name: str
    state: StudyState
    stage: str | None
    trials: TrialCounts
    best_value: float | None
    created_at: Time | None


class StudyStatus(BaseModel):
    name: str
    state: StudyState
    stage: str | None
    stop_reason: str | None
    error: str | None
    notes: list[str] = Field(description="what the service has changed of the request, and why")
    trials: TrialCounts
    progress: ProgressAnswer
    best: BestTrial | None = Field(description="of the search; its value flatters, since it was chosen by it")
    promoted: Promoted | None
    spec: StudySpec | None = Field(description="null for a foreign study")
    job: JobAnswer | None
    created_at: Time | None
    started_at: Time | None
    finished_at: Time | None


class StudyPosted(BaseModel):
    study: StudyStatus
    job: JobAnswer


class TrialAnswer(BaseModel):
    number: int
    state: TrialStateName
    value: float | None = Field(
        description="validation accuracy after the last epoch; of a pruned trial, after its last one"
    )
    params: dict[str, Any] = Field(description="as Optuna holds them")
    hyperparameters: Hyperparameters | None
    seed: int | None
    attempts: int
    seconds: float | None
    parameters: int | None = Field(description="weights and biases of the net")
    reason: Ending | None = Field(description="why it was pruned or has failed")
    detail: str | None
    datetime_start: Time | None
    datetime_complete: Time | None


class AttemptAnswer(BaseModel):
    """One start of a trial and how it ended."""

    job: int
    started_at: Time
    ended_at: Time | None = Field(description="null while it is under way")
    outcome: Ending | None
    detail: str | None


class TrialWithCurves(TrialAnswer):
    history: list[AttemptAnswer] = Field(description="every start of this trial, the first one first")
    curves: dict[str, list[float]] = Field(description="by name, a number an epoch; `epoch` is the axis")


class BestConfiguration(BaseModel):
    """Ready to use. Of promotion, the hyperparameters are those trained on the full data, with `weight_decay` and `batch_size`
    fitted to its size (unless the space fixes them)."""

    rank: int
    number: int | None = Field(
        description="the trial's; null for the default configuration where the space excludes it"
    )
    contender: str
    value: float = Field(description="validation accuracy at this stage")
    hyperparameters: Hyperparameters
    parameters: int | None
    seed: int | None
    model: str | None = Field(description="the id of the model that was kept of it")
    test_accuracy: float | None = Field(description="on the sealed test set; null where it was not among those tested")


class BestAnswer(BaseModel):
    stage: Literal["search", "promotion"]
    items: list[BestConfiguration]


class ModelAnswer(BaseModel):
    id: str
    study: str
    kind: Literal["single", "bag", "student", "default"]
    contender: str
    promoted: bool
    hyperparameters: Hyperparameters
    parameters: int
    metrics: ModelMetrics
    sha256: str = Field(description="of the weights")
    created_at: Time


class Health(BaseModel):
    status: Literal["ok"]


class Ready(BaseModel):
    status: Literal["ready"]
    runner_beat_at: Time
