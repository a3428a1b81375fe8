"""A study's report, as it is answered."""

from typing import Literal

from pydantic import BaseModel, Field

from api.answers import Configuration, ImportancesAnswer, StudyState, Time, TrialCounts
from tuner.specs.build import Build
from tuner.specs.diagnosis import StudyDiagnosis
from tuner.specs.estimate import Estimate
from tuner.specs.outside_study import AnyStudySpec
from tuner.specs.verdict import Interval, Optimism, Race


class StageCostAnswer(BaseModel):
    stage: str
    runs: int = Field(description="nets that were trained, trials of the search included")
    cpu_seconds: float = Field(
        description="of training; of the search those of the clock, for each trial has one thread"
    )


class CostAnswer(BaseModel):
    cpu_seconds: float | None = Field(description="of training, by the service's workers; null: it has trained nothing")
    wall_seconds: float | None = Field(description="of the study's jobs, without pauses; null for a foreign study")
    estimate: Estimate | None = Field(description="what was expected when the study was posted; null: nothing was")
    stages: list[StageCostAnswer]


class ReportedBest(BaseModel):
    stage: Literal["search", "promotion"] = Field(description="the furthest there is")
    number: int | None = Field(description="the trial's; null: the default configuration, outside the trials")
    hyperparameters: Configuration
    parameters: int | None = Field(description="weights and biases of the net")
    value: float = Field(description="at this stage, by which it was chosen; so it flatters")
    train_images: int | None = Field(
        description="that the delivered net was trained on; null before there is one, and of an earlier version"
    )
    model: str | None
    test_accuracy: float | None = Field(description="on the sealed test set; null where it stayed closed")
    test_interval: Interval | None = Field(description="95 %")


class GainAnswer(BaseModel):
    """What the tuning has bought: the winner's accuracy minus the default configuration's, on the sealed test set."""

    over_default: float | None
    interval: Interval | None = Field(description="95 %; null: unknown")
    verdict: Literal["better", "not worth it", "worse", "unknown"]
    winner_accuracy: float | None
    default_accuracy: float | None
    seeds: int | None = Field(description="with which both were trained")
    images: int | None
    words: str


class TauAnswer(BaseModel):
    """Kendall's τ between the ranking on the subset and that on twice the images."""

    value: float | None
    interval: Interval | None
    verdict: Literal["agrees", "unclear", "subset too small", "unknown"]
    words: str


class ReportedModel(BaseModel):
    model: str
    parameters: int
    test_accuracy: float | None
    test_interval: Interval | None
    milliseconds_per_image: float | None


class EnsembleAnswer(BaseModel):
    """The newest model of each kind; null where there is none."""

    default: ReportedModel | None
    single: ReportedModel | None
    bag: ReportedModel | None
    student: ReportedModel | None
    words: str | None = Field(description="what bag and student bring; null where the study wants none")


class ReadingAnswer(BaseModel):
    study: str
    opened_at: Time
    models: int = Field(description="nets that were scored")
    forced: bool = Field(description="the study had opened it before")
    this_study: bool


class LedgerAnswer(BaseModel):
    """The openings of this study's sealed test set, by all studies: its images are known by their checksum."""

    opened: int
    readings: list[ReadingAnswer] = Field(description="the first one first; at most the last hundred")


class ReproduceAnswer(BaseModel):
    seed: int | None
    dataset: str | None
    dataset_checksum: str | None
    versions: Build | None = Field(description="of the build that trained the newest trial")
    commands: list[str]
    spec: AnyStudySpec | None = Field(description="as it was posted, with its defaults")


class ReportAnswer(BaseModel):
    """All that is known of a study, at any time of its life; what is not there yet is null or `unknown`."""

    study: str
    state: StudyState
    stage: str | None
    headline: str
    trials: TrialCounts
    cost: CostAnswer
    best: ReportedBest | None
    gain: GainAnswer
    optimism: Optimism | None = Field(description="by how much the search's best value flatters")
    tau: TauAnswer
    race: Race | None
    importances: ImportancesAnswer
    diagnosis: StudyDiagnosis | None = Field(
        description="null for what is no net of ours, and before a trial has ended"
    )
    ensemble: EnsembleAnswer
    test_ledger: LedgerAnswer
    reproduce: ReproduceAnswer
    notes: list[str]
