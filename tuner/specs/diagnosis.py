"""What is the matter with a study: its trials' findings together, and what to search next."""

from collections.abc import Mapping

from pydantic import Field

from tuner.specs.finding import FindingName
from tuner.specs.search_space import SearchSpace
from tuner.specs.spec import Spec


class Question(Spec):
    """One of the course notes' two, in their order."""

    good: int = Field(description="trials")
    of: int = Field(description="trials that were asked")
    words: str


class Blame(Spec):
    """A value, or half a range, with which a finding is more frequent than without, beyond chance."""

    finding: FindingName
    hyperparameter: str
    value: bool | str | int | float | None = Field(description="of a choice; null for half a range")
    low: float | None = Field(
        description="of half a range; of a learning rate that is `auto`, null: of each optimizer's"
    )
    high: float | None
    trials_with: int = Field(description="that have the value")
    share_with: float = Field(description="of them with the finding, 0 to 1")
    trials_without: int
    share_without: float
    difference: float
    interval: tuple[float, float] = Field(
        description="of the difference: Newcombe's, all of a study's together at 95 %"
    )
    words: str


class Edge(Spec):
    """An end of a range, or of a list of numbers, at which most of the best trials lie."""

    hyperparameter: str = Field(description="an automatic learning rate's is named with its optimizer")
    end: float
    best_there: int = Field(description="of the best trials")
    best: int
    next: float | None = Field(
        description="where the next space ends instead; null where that cannot be said in one range"
    )
    words: str


class StudyDiagnosis(Spec):
    trials: int = Field(description="that have a finding")
    findings: Mapping[FindingName, int]
    training: Question
    validation: Question
    words: str
    comparisons: int = Field(description="among which blame was sought; the intervals allow for so many")
    blame: tuple[Blame, ...] = Field(description="the largest difference first")
    edges: tuple[Edge, ...]
    next_search_space: SearchSpace = Field(description="ready to be posted as a study's `search_space`")
    changes: tuple[str, ...] = Field(description="from the study's own space to the next one, and why")
