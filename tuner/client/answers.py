"""What the service answers, as far as this client reads it; fields of a newer service are passed over."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from tuner.specs.build import Build
from tuner.specs.diagnosis import StudyDiagnosis
from tuner.specs.estimate import Estimate
from tuner.specs.finding import Finding
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.job import PromoteWork, SearchWork
from tuner.specs.outside_study import AnyStudySpec
from tuner.specs.verdict import Optimism, Race, Verdict

T = TypeVar("T")

ENDED = ("succeeded", "failed", "cancelled", "foreign")
"""The states of a study on which nothing works any more, now or later."""


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Page(Answer, Generic[T]):
    items: tuple[T, ...]
    next_cursor: str | None


class TrialCounts(Answer):
    total: int
    complete: int
    pruned: int
    fail: int
    running: int
    waiting: int

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.fail


class Progress(Answer):
    done: int
    total: int
    fraction: float
    eta_seconds: float | None


Configuration = Hyperparameters | dict[str, bool | int | float | str]
"""Of our nets, or of an outside objective's own space."""


class BestTrial(Answer):
    number: int
    value: float
    hyperparameters: Configuration | None


class Promoted(Answer):
    model: str
    hyperparameters: Hyperparameters
    test_accuracy: float | None
    verdict: Verdict | None


class Job(Answer):
    id: int
    study: str
    kind: str
    state: str
    stage: str | None
    priority: int
    after: int | None
    work: SearchWork | PromoteWork | None
    attempt: int
    stalled: int
    progress: Progress
    stop_reason: str | None
    error: str | None
    elapsed_seconds: float
    created_at: str
    started_at: str | None
    finished_at: str | None


class LogEntry(Answer):
    id: int
    at: str
    kind: str
    data: dict[str, Any]
    text: str


class StudySummary(Answer):
    name: str
    state: str
    stage: str | None
    trials: TrialCounts
    best_value: float | None
    created_at: str | None


class StudyStatus(Answer):
    name: str
    state: str
    stage: str | None
    stop_reason: str | None
    error: str | None
    notes: tuple[str, ...]
    estimate: Estimate | None = None
    dataset_checksum: str | None = None
    trials: TrialCounts
    progress: Progress
    best: BestTrial | None
    promoted: Promoted | None
    spec: AnyStudySpec | None
    job: Job | None
    created_at: str | None
    started_at: str | None
    finished_at: str | None


class StudyPosted(Answer):
    study: StudyStatus
    job: Job


class Trial(Answer):
    number: int
    state: str
    value: float | None
    values: list[float | None] | None = None
    params: dict[str, Any]
    hyperparameters: Configuration | None
    seed: int | None
    attempts: int
    seconds: float | None
    parameters: int | None
    reason: str | None
    detail: str | None
    finding: Finding | None
    void: bool
    void_reason: str | None
    datetime_start: str | None
    datetime_complete: str | None


class Attempt(Answer):
    job: int
    started_at: str
    ended_at: str | None
    outcome: str | None
    detail: str | None


class TrialWithCurves(Trial):
    history: tuple[Attempt, ...]
    curves: dict[str, tuple[float, ...]]
    build: Build | None


class BestConfiguration(Answer):
    rank: int
    number: int | None
    contender: str
    value: float
    seeds: int | None
    tied: bool | None
    hyperparameters: Configuration
    parameters: int | None
    seed: int | None
    seed_value: float | None
    epochs: int | None
    train_images: int | None
    kept_epoch: int | None = None
    model: str | None
    test_accuracy: float | None


class Best(Answer):
    stage: str
    items: tuple[BestConfiguration, ...]


class Importance(Answer):
    parameter: str
    share: float


class Importances(Answer):
    """`note` says why there are none."""

    trials: int
    items: tuple[Importance, ...]
    note: str | None


class StageCost(Answer):
    stage: str
    runs: int
    cpu_seconds: float


class Cost(Answer):
    cpu_seconds: float | None
    wall_seconds: float | None
    estimate: Estimate | None
    stages: tuple[StageCost, ...]


class ReportedBest(Answer):
    """Of the furthest stage; `value` has chosen it, and so flatters."""

    stage: str
    number: int | None
    hyperparameters: Configuration
    parameters: int | None
    value: float
    train_images: int | None
    model: str | None
    test_accuracy: float | None
    test_interval: tuple[float, float] | None


class Gain(Answer):
    """Over the default configuration, in accuracy on the sealed test set."""

    over_default: float | None
    interval: tuple[float, float] | None
    verdict: str
    winner_accuracy: float | None
    default_accuracy: float | None
    words: str


class ReportedTau(Answer):
    value: float | None
    interval: tuple[float, float] | None
    verdict: str
    words: str


class ReportedModel(Answer):
    model: str
    parameters: int
    test_accuracy: float | None
    test_interval: tuple[float, float] | None
    milliseconds_per_image: float | None


class EnsembleTable(Answer):
    default: ReportedModel | None
    single: ReportedModel | None
    bag: ReportedModel | None
    student: ReportedModel | None
    words: str | None


class Reading(Answer):
    study: str
    opened_at: str
    models: int
    forced: bool


class Ledger(Answer):
    opened: int
    readings: tuple[Reading, ...]


class Reproduce(Answer):
    seed: int | None
    dataset: str | None
    dataset_checksum: str | None
    versions: Build | None
    commands: tuple[str, ...]


class Report(Answer):
    study: str
    state: str
    headline: str
    trials: TrialCounts
    cost: Cost
    best: ReportedBest | None
    gain: Gain
    optimism: Optimism | None
    tau: ReportedTau
    race: Race | None
    importances: Importances
    diagnosis: StudyDiagnosis | None
    ensemble: EnsembleTable
    test_ledger: Ledger
    reproduce: Reproduce


class FrontAxis(Answer):
    name: str
    direction: str


class FrontTrial(Answer):
    number: int
    values: tuple[float | None, ...]
    on_front: bool
    params: dict[str, Any]
    hyperparameters: Configuration | None


class Front(Answer):
    axes: tuple[FrontAxis, ...]
    trials: int
    items: tuple[FrontTrial, ...]


class Predictions(Answer):
    """An entry for each image."""

    model: str
    labels: tuple[int, ...]
    probabilities: tuple[tuple[float, ...], ...]


class ModelMetrics(Answer):
    validation_accuracy: float
    validation_images: int | None
    test_accuracy: float | None
    test_interval: tuple[float, float] | None
    milliseconds_per_image: float | None


class Reign(Answer):
    """A time in which a model was a schedule's champion."""

    schedule: str
    since: str
    until: str | None


class Model(Answer):
    id: str
    study: str
    kind: str
    contender: str
    promoted: bool
    hyperparameters: Hyperparameters
    parameters: int
    metrics: ModelMetrics
    sha256: str
    created_at: str
    files_removed_at: str | None
    champion_of: tuple[Reign, ...]


class DatasetCounts(Answer):
    train: int
    test: int
    train_per_class: tuple[int, ...]
    test_per_class: tuple[int, ...]


class Dataset(Answer):
    """`studies` are the newest of `study_count`."""

    name: str
    built_in: bool
    shape: tuple[int, ...]
    classes: int
    counts: DatasetCounts
    checksum: str
    test_checksum: str
    test_split_off: bool
    notes: tuple[str, ...]
    study_count: int
    studies: tuple[str, ...]
    schedules: tuple[str, ...]
    created_at: str | None


class Delivery(Answer):
    id: str
    event: str
    job: int
    url: str
    state: str
    attempts: int
    next_attempt_at: str | None
    delivered_at: str | None
    last_error: str | None
    created_at: str


class ScheduleRun(Answer):
    fire_time: str
    outcome: str
    reason: str | None
    started_at: str | None
    job: int | None
    study: str | None


class ScheduledStudy(Answer):
    """As far as a list needs it; its name may hold `{date}`."""

    name: str


class Decision(Answer):
    """What came of a job's challenge; `model` is the champion from then on."""

    verdict: str
    model: str
    job: int
    study: str | None
    decided_at: str
    reason: str
    challenger: str
    champion: str | None
    seeds: tuple[int, ...]
    images: int | None
    challenger_accuracy: float | None
    champion_accuracy: float | None
    difference: float | None
    interval: tuple[float, float] | None
    p_value: float | None


class Champion(Answer):
    """`comparison` is the schedule's last one."""

    model: str
    study: str | None
    since: str
    comparison: Decision


class Schedule(Answer):
    name: str
    cron: str | None
    interval_seconds: int | None
    time_zone: str
    study: ScheduledStudy
    policy: str
    overlap: str
    misfire_grace_seconds: int
    coalesce: bool
    challenge_seeds: int
    paused: bool
    next_fire_time: str | None
    last_run: ScheduleRun | None
    champion: Champion | None
    created_at: str


class Token(Answer):
    name: str
    role: str
    state: str
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class CreatedToken(Token):
    token: str


class AuditEntry(Answer):
    id: int
    at: str
    who: str
    method: str
    path: str
    status: int
    location: str | None
    request_id: str


class SuggestedTrial(Answer):
    number: int
    params: dict[str, bool | int | float | str]
    lease_expires_at: str


class Suggested(Answer):
    trials: tuple[SuggestedTrial, ...]
    done: bool


class ShouldStop(Answer):
    should_stop: bool


class Completed(Answer):
    number: int
    state: str
    late: bool


class Event(Answer):
    """One of a study's; `data` is what its kind tells."""

    id: int
    kind: str
    data: dict[str, Any]


class WhoAmI(Answer):
    name: str
    role: str
    access_control: bool
    expires_at: str | None


class Health(Answer):
    status: str


class Ready(Answer):
    status: str
    runner_beat_at: str
