"""What the service answers, one class a resource. What it is asked is in `tuner.specs`."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from tuner.specs.build import Build
from tuner.specs.estimate import Estimate
from tuner.specs.finding import Finding
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.job import Work
from tuner.specs.outside_study import AnyStudySpec
from tuner.specs.schedule import ScheduleSpec
from tuner.specs.spec import Spec
from tuner.specs.token import Role
from tuner.specs.verdict import Verdict
from tuner.store.attempts import Ending
from tuner.store.champions import Contest, Ruling
from tuner.store.jobs import JobState
from tuner.store.model_registry import ModelMetrics
from tuner.store.schedule_runs import Outcome

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


Configuration = Hyperparameters | dict[str, bool | int | float | str]
"""Of our nets, or of an outside objective's own space."""


class BestTrial(BaseModel):
    number: int
    value: float
    hyperparameters: Configuration | None = Field(description="null for a foreign study")


class Promoted(BaseModel):
    model: str = Field(description="the model's id")
    hyperparameters: Hyperparameters
    test_accuracy: float | None
    verdict: Verdict | None = Field(description="what the promotion has found, and how sure that is")


class JobAnswer(BaseModel):
    id: int
    study: str
    kind: str
    state: JobState
    stage: str | None
    priority: int = Field(description="-100 to 100; of the jobs that wait, a higher one is started first")
    after: int | None = Field(description="the job that this one waits for, or has waited for")
    work: Work | None = Field(
        description="what a further job does; null: the study's first job, which does all of its spec"
    )
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
    estimate: Estimate | None = Field(
        description="of its first job, when it was posted; null where nothing had been timed by then"
    )
    dataset_checksum: str | None = Field(
        description="of the data that it was posted on; a job is failed where other data has the name by now"
    )
    trials: TrialCounts
    progress: ProgressAnswer
    best: BestTrial | None = Field(description="of the search; its value flatters, since it was chosen by it")
    promoted: Promoted | None
    spec: AnyStudySpec | None = Field(description="null for a foreign study")
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
        description="of the first objective: validation accuracy after the last epoch; of a pruned trial, after its last one, "
        "and null where there are several objectives"
    )
    values: list[float | None] | None = Field(
        description="of each objective, in the order of the spec; null: none was told"
    )
    params: dict[str, Any] = Field(description="as Optuna holds them")
    hyperparameters: Configuration | None
    seed: int | None
    attempts: int
    seconds: float | None
    parameters: int | None = Field(description="weights and biases of the net")
    reason: Ending | None = Field(description="why it was pruned or has failed")
    detail: str | None
    finding: Finding | None = Field(
        description="what is the matter with the net, by its curves; null until it has ended, where something else ended it "
        "(FAIL), and of what is no net of ours"
    )
    void: bool = Field(description="declared so by a user: out of the best, of the sampler's view and of promotion")
    void_reason: str | None
    datetime_start: Time | None
    datetime_complete: Time | None


class VoidCall(Spec):
    reason: str | None = Field(None, min_length=1, max_length=1000, examples=["the machine was out of order"])


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
    build: Build | None = Field(description="where its last attempt was trained; null before its first epoch has ended")


class BestConfiguration(BaseModel):
    """Ready to use. Of promotion, the hyperparameters are those trained on the full data, with `weight_decay`, `batch_size` and,
    with `batch_norm`, `learning_rate` fitted to its size, and with what the local search has changed: optimizer, learning rate,
    activation, normalisation, loss, width, dropout, and how images are moved (unless the space fixes them)."""

    rank: int
    number: int | None = Field(
        description="the trial's; null for the default configuration where the space excludes it"
    )
    contender: str
    value: float = Field(
        description="at this stage: validation accuracy, the mean over the seeds, or the first objective of an outside study"
    )
    seeds: int | None = Field(description="with which it was trained at this stage; null of an outside study")
    tied: bool | None = Field(
        description="whether it is not to be told apart from the best of this stage: in promotion by the race, in a search by "
        "the number of its images; null where that is not known"
    )
    hyperparameters: Configuration
    parameters: int | None
    seed: int | None = Field(description="of its first run at this stage; of what is kept as a model, that net's")
    seed_value: float | None = Field(description="of that run, on the images that were left to judge it")
    epochs: int | None = Field(description="that it was trained for at this stage; null of an outside study")
    train_images: int | None = Field(
        description="that run's, where its net was kept; null of others, which have the race's, and of an earlier version"
    )
    kept_epoch: int | None = Field(
        description="whose net that run's is; null of a search, whose values are of the last"
    )
    model: str | None = Field(description="the id of the model that was kept of it")
    test_accuracy: float | None = Field(description="on the sealed test set; null where it was not among those tested")


class BestAnswer(BaseModel):
    stage: Literal["search", "promotion"]
    items: list[BestConfiguration]


class ReignAnswer(BaseModel):
    """A time in which a model was a schedule's champion."""

    model_config = ConfigDict(from_attributes=True)

    schedule: str
    since: Time
    until: Time | None = Field(description="null while it is")


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
    files_removed_at: Time | None = Field(description="to stay below TUNER_KEEP_MODELS_GB; null: they are there")
    champion_of: list[ReignAnswer] = Field(description="the first one first; empty for most models")


class CountsAnswer(BaseModel):
    """Of images."""

    train: int = Field(description="a sixth of them is for validation")
    test: int
    train_per_class: list[int]
    test_per_class: list[int]


class DatasetAnswer(BaseModel):
    name: str
    built_in: bool = Field(description="it comes with the service, and cannot be deleted")
    shape: list[int] = Field(description="of an image", examples=[[28, 28]])
    classes: int
    counts: CountsAnswer
    checksum: str = Field(
        description="SHA-256 of images and labels; a study is of the data with the checksum it was posted on"
    )
    test_checksum: str = Field(description="of the sealed test part alone: the same for the same images in any order")
    test_split_off: bool = Field(description="by the service, since the upload had no test part")
    notes: list[str] = Field(description="what the service has made of the upload, and why")
    study_count: int = Field(description="that use it, deleted ones not among them")
    studies: list[str] = Field(description="the names of the newest 20 of them")
    schedules: list[str] = Field(description="that use it")
    created_at: Time | None = Field(description="null for the built-in one")


class ScheduleRunAnswer(BaseModel):
    """What came of a due time."""

    fire_time: Time = Field(description="the due time; of a run by hand, the full second of its call")
    outcome: Outcome
    reason: str | None = Field(description="why nothing was started, or for which other due times it stands")
    started_at: Time | None
    job: int | None = Field(description="the id of the job that was queued")
    study: str | None


class DecisionAnswer(Contest):
    """Whether a job's winner is its schedule's champion: `first` there was none that it could be compared with, `replaced`
    it is better than the one before, beyond chance, `kept` it is not."""

    verdict: Ruling
    model: str = Field(description="the champion from then on")
    job: int
    study: str | None = Field(description="the job's; null once it was deleted")
    decided_at: Time


class ChampionAnswer(BaseModel):
    model: str = Field(description="the model's id")
    study: str | None = Field(description="that the model comes from; null once it was deleted")
    since: Time
    comparison: DecisionAnswer = Field(description="the schedule's last one, whatever came of it")


class ScheduleAnswer(ScheduleSpec):
    next_fire_time: Time | None = Field(description="null while it is paused")
    last_run: ScheduleRunAnswer | None
    champion: ChampionAnswer | None = Field(description="null until a job of this schedule has promoted a model")
    created_at: Time


class DeliveryAnswer(BaseModel):
    """One webhook on its way to its receiver."""

    id: str = Field(description="the header `webhook-id`, the same at every attempt")
    event: str
    job: int = Field(validation_alias="job_id")
    url: str
    state: Literal["pending", "delivered", "given_up"]
    attempts: int = Field(description="since it was written, or last asked for")
    next_attempt_at: Time | None = Field(
        description="null once it needs none; while it is on its way, when its claim ends"
    )
    delivered_at: Time | None
    last_error: str | None
    created_at: Time


class Health(BaseModel):
    status: Literal["ok"]


class Ready(BaseModel):
    status: Literal["ready"]
    runner_beat_at: Time


class TokenAnswer(BaseModel):
    name: str
    role: Role
    state: Literal["live", "expired", "revoked"]
    created_at: Time
    created_by: str
    expires_at: Time | None = Field(description="null: it ends when it is revoked")
    revoked_at: Time | None
    last_used_at: Time | None = Field(description="at most a minute behind")


class TokenCreated(TokenAnswer):
    token: str = Field(description="the secret; it is told here and never again")


class AuditEntry(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    at: Time
    who: str = Field(
        description="a token's name, `token-file`, `local:<user>` of a command on the data folder, `anonymous`"
    )
    method: str
    path: str
    status: int = Field(description="of the answer; with 400 or more nothing was changed")
    location: str | None = Field(description="the address of what was made")
    request_id: str = Field(description="the answer's `X-Request-ID`")


class WhoAmI(BaseModel):
    name: str = Field(description="as the audit log calls you")
    role: Role
    access_control: bool = Field(description="false: there are no tokens, and everybody on this machine is an operator")
    expires_at: Time | None = Field(description="when your token or session ends; null: when it is revoked")


class PredictionsAnswer(BaseModel):
    """One entry for each image, in their order."""

    model: str
    labels: list[int] = Field(description="the likeliest class")
    probabilities: list[list[float]] = Field(description="of each class")


class ImportanceAnswer(BaseModel):
    parameter: str = Field(description="as Optuna names it: an automatic learning rate is one for each optimizer")
    share: float = Field(description="0 to 1; together 1")


class ImportancesAnswer(BaseModel):
    trials: int = Field(description="COMPLETE ones, from which the importances come")
    items: list[ImportanceAnswer] = Field(description="the largest first")
    note: str | None = Field(description="why there are none")


class FrontAxis(BaseModel):
    name: str
    direction: Literal["maximize", "minimize"]


class FrontTrial(BaseModel):
    number: int
    values: list[float | None] = Field(description="one for each axis; null where it is infinite")
    on_front: bool = Field(description="no other trial is as good on every axis and better on one")
    params: dict[str, Any]
    hyperparameters: Configuration | None


class FrontAnswer(BaseModel):
    axes: list[FrontAxis]
    trials: int = Field(description="COMPLETE ones, among which the front was sought")
    items: list[FrontTrial] = Field(description="those on the front first; each part from its best value down")


class SuggestedTrial(BaseModel):
    number: int
    params: dict[str, bool | int | float | str]
    lease_expires_at: Time = Field(description="unless it is renewed: by a measurement, or by asking again")


class Suggested(BaseModel):
    trials: list[SuggestedTrial]
    done: bool = Field(description="true: the study has ended, and there will be no more")


class ShouldStop(BaseModel):
    should_stop: bool


class Completed(BaseModel):
    number: int
    state: TrialStateName
    late: bool = Field(description="told after the trial's lease had ended, or after the trial had")
