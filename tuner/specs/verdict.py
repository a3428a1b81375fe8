"""What a promotion has found, and how sure that is: plain numbers, as the job has stored them at its end.

Accuracies and their differences are shares, 0 to 1; intervals are of 95 % and have their lower end first.
"""

from typing import Literal

from pydantic import Field

from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.spec import Spec

Interval = tuple[float, float]


class Tau(Spec):
    """Kendall's τ-b between the search's values on the subset and the rung's, over the configurations that have both."""

    value: float | None = Field(description="null where fewer than two differ")
    interval: Interval | None
    configurations: int
    verdict: Literal["agrees", "unclear", "subset too small", "unknown"] = Field(
        description="agrees: the interval lies above the gate; subset too small: below it; unknown: no rung was climbed"
    )
    gate: float = Field(description="the τ that a subset must be able to have")
    widened: bool = Field(
        description="whether more configurations were taken along into the rung for that: twice as many, or all that time allowed"
    )
    words: str


class Optimism(Spec):
    """How far the search's best value flatters its configuration, which was chosen by it: that value minus what the same training
    reaches with fresh seeds on fresh images."""

    contender: str
    search_value: float
    fresh_value: float = Field(description="mean over the fresh seeds")
    value: float = Field(description="search_value − fresh_value")
    interval: Interval | None = Field(description="null with a single seed")
    seeds: int
    images: int


class Entrant(Spec):
    """A configuration in the race."""

    contender: str = Field(description="`default`, or `trial-<number>` of the search")
    hyperparameters: Hyperparameters = Field(description="as they were trained, fitted to the full data")
    parameters: int
    seeds: int = Field(description="with which it was trained to the end")
    accuracy: float | None = Field(description="on the validation images, mean over its seeds; null without a run")
    difference: float | None = Field(None, description="to the leader, when it was last compared")
    interval: Interval | None = Field(None, description="of that difference")
    basis: Literal["images and seeds", "images"] | None = Field(
        None, description="of what that interval tells; with a single seed it cannot tell of seeds"
    )
    standing: Literal["winner", "tied", "behind", "dropped", "failed", "too large"] = Field(
        description="tied: not to be told apart from the best; behind: clearly worse at the last look; dropped: at an earlier "
        "one; too large: the default configuration where `constraints` leave it out, trained to be compared with"
    )
    dropped_at_look: int | None = None
    words: str = ""


class Race(Spec):
    """The contenders with the same seeds, on the validation images. It selects, and proves nothing."""

    images: int
    looks: int = Field(description="comparisons that were made; none with a single seed")
    planned_looks: int = Field(description="over which the error level was split")
    error: float = Field(description="at most such a share of races drops its best configuration early")
    margin: float = Field(description="a configuration that is not worse by more may win by being smaller")
    leader: str = Field(description="of those that may win, the contender of the highest accuracy")
    winner: str
    stopped_by: Literal["one left", "non-inferior", "max_seeds", "cost", "time"]
    entrants: tuple[Entrant, ...] = Field(
        description="the winner first, then the tied, the smallest first, then the rest"
    )
    words: str


class Gain(Spec):
    """The winner against the default configuration, on the sealed test set."""

    over_default: float | None = Field(description="null where the default configuration could not be trained")
    interval: Interval | None
    verdict: Literal["better", "not worth it", "worse", "unknown"] = Field(
        description="not worth it: the interval contains zero"
    )
    seeds: int = Field(description="with which both were trained")
    fresh: bool = Field(description="false: the race's own seeds, which have chosen the winner, for want of time")
    images: int
    basis: Literal["images and seeds", "images"] = Field(
        description="of what the interval tells; with a single seed it cannot tell of seeds"
    )
    winner_accuracy: float | None = Field(description="mean over the seeds")
    default_accuracy: float | None
    words: str


class Accuracy(Spec):
    """Of the delivered model, on the sealed test set."""

    value: float
    interval: Interval = Field(description="Wilson's")
    correct: int
    images: int


class Delivered(Spec):
    """The model that is handed out: the winner's median-seed run by validation accuracy, of an even number the lower one."""

    contender: str
    model: str
    seed: int
    validation_accuracy: float
    seeds: int = Field(description="among which it is the median")
    train_images: int | None = Field(
        None, description="on which it was trained; null of an earlier version, whose nets had the race's"
    )
    validation_images: int | None = Field(None, description="by which it is the median; null likewise")


class ForcedOpening(Spec):
    """Of the sealed test set, by a study that had opened it before."""

    study: str
    opened_at: str
    opened_by: str | None


class OpeningTold(Spec):
    """Of the sealed test set, by this job."""

    number: int = Field(description="this was so many-eth opening of these images, by all studies")
    forced: bool = Field(description="whether it was opened although the study had opened it before")
    opened_by: str | None = Field(description="who asked for the job; null where that is not known any more")
    models: int = Field(description="nets on the frozen list")
    forced_openings: tuple[ForcedOpening, ...] = Field(
        (), description="of these images, by all studies, up to this one"
    )


class StageCost(Spec):
    stage: str
    runs: int
    seconds: float = Field(description="of training, summed over runs that may have run at once")
    cpu_seconds: float


class BagMember(Spec):
    """A net of a bag."""

    contender: str = Field(description="`member`, or the configuration that the race has trained")
    hyperparameters: Hyperparameters
    seed: int
    bootstrap: bool = Field(description="whether it was trained on a bootstrap sample, drawn by its seed")
    votes: int = Field(ge=1, description="how often it counts in the average")


class Ensemble(Spec):
    """The bag of nets and the student. The gains are on the sealed test set, of the delivered nets, and tell of other images, not
    of other seeds."""

    members_wanted: int
    members_trained: int
    selection: Literal["bag", "greedy", "none"] = Field(
        description="bag: all members and the winner's nets of race and verdict; greedy: a selection from the nets of race, "
        "verdict and bag that was better on those validation images that none of them was trained on"
    )
    members: tuple[BagMember, ...]
    bag_gain: float | None = Field(None, description="of the bag over the single net; null: unknown")
    bag_interval: Interval | None = None
    student_gain: float | None = Field(None, description="of the student over the single net; null: unknown")
    student_interval: Interval | None = None
    student_behind_bag: float | None = Field(None, description="the bag's accuracy minus the student's")
    words: str


class Verdict(Spec):
    version: Literal[1] = 1
    tau: Tau
    optimism: Optimism | None = Field(description="null where the data has no fresh images, or time was short")
    race: Race
    gain: Gain | None = Field(description="null where the sealed test set stayed closed")
    accuracy: Accuracy | None = Field(description="likewise")
    delivered: Delivered
    default_net: Delivered | None = Field(
        None, description="the default configuration's, likewise; null where it has won or has no net to compare"
    )
    opening: OpeningTold | None = Field(description="likewise")
    ensemble: Ensemble | None = Field(None, description="null where the study wants none")
    costs: tuple[StageCost, ...] = Field(description="of this job's runs, by stage")
