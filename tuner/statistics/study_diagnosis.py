"""What is the matter with a study's nets together, in the course notes' order, and what to search next.

*Blame.* For each finding, and each value of a choice or half of a range: is the finding more frequent among the trials that have
it than among the others? The difference of the two shares has Newcombe's interval (1998, method 10), which keeps its level for
shares near 0 and 1. Many such questions are asked of one study, so each interval is of 1 − 0.05 / (number of questions): by
Bonferroni, in at most 5 % of studies in which nothing depends on anything, anything is blamed. The sampler, though, has not drawn
the trials independently of what it saw; so a blame is a strong hint, and no experiment.

*Edges.* An end of a range is too near where at least half of the best trials lie in the outermost tenth of it; were they spread
evenly, five best trials would do so in 0.9 % of all cases.

* Newcombe, R. G. (1998). Interval estimation for the difference between independent proportions. Stat. in Medicine 17, 873–890.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import scipy

from tuner.specs.diagnosis import Blame, Edge, Question, StudyDiagnosis
from tuner.specs.finding import FINDINGS, Finding, FindingName
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import Choice, Dimension, FloatRange, IntRange, SearchSpace, Value
from tuner.statistics.diagnosis import TrainingRun

ERROR = 0.05
"""Of all of a study's blames together."""

LEAST_FINDINGS = 4
LEAST_GROUP = 4
"""With fewer trials of a finding, or on a side, no interval could exclude 0."""

MIN_COMPLETE = 10
"""With fewer there are no best trials worth the name."""

BEST_SHARE = 0.1
LEAST_BEST = 5

OUTERMOST = 0.1
AT_EDGE = 0.5
AT_LAST_CHOICE = 0.8
"""Of the best trials: a range's outermost tenth is a rare place, the last of three choices is none."""

WIDER_LOG = 4.0
WIDER = 0.5
"""A touched end moves by this factor on a logarithmic range, by this share of its length on another."""

CAUSES_TO_AVOID = frozenset(FINDINGS) - {"healthy", "stopped_too_early"}
"""Findings for which a space is narrowed; too few epochs are no fault of a hyperparameter."""


@dataclass(frozen=True)
class JudgedTrial:
    """A trial that has ended; `value` is that of a COMPLETE one, the larger the better."""

    run: TrainingRun
    finding: Finding
    value: float | None

    @property
    def point(self) -> Hyperparameters:
        return self.run.hyperparameters


@dataclass(frozen=True)
class Side:
    """A value of a choice, or half of a range."""

    name: str
    value: Value | None
    low: float | None
    high: float | None
    words: str
    holds: Callable[[Hyperparameters], bool]


def diagnose_study(trials: Sequence[JudgedTrial], space: SearchSpace) -> StudyDiagnosis:
    """Of the trials of one study, whose points lie in `space`."""
    counts = Counter(trial.finding.name for trial in trials)
    best = best_trials(trials)
    comparisons, blames = find_blame(trials, space)
    edges = find_edges(best, space)
    next_space, changes = next_search_space(space, blames, edges, best)
    training, validation = _questions(trials)
    return StudyDiagnosis(
        trials=len(trials),
        findings={name: counts[name] for name in FINDINGS},
        training=training,
        validation=validation,
        words=_in_words(counts, training, validation),
        comparisons=comparisons,
        blame=tuple(blames),
        edges=tuple(edges),
        next_search_space=next_space,
        changes=tuple(changes),
    )


def best_trials(trials: Sequence[JudgedTrial]) -> list[JudgedTrial]:
    """The best tenth of the COMPLETE ones, at least five, the best first; none where there are too few."""
    complete = [(trial.value, trial) for trial in trials if trial.value is not None]
    if len(complete) < MIN_COMPLETE:
        return []
    ranked = sorted(complete, key=lambda pair: -pair[0])
    return [trial for _, trial in ranked[: max(LEAST_BEST, math.ceil(BEST_SHARE * len(ranked)))]]


def _questions(trials: Sequence[JudgedTrial]) -> tuple[Question, Question]:
    good = [trial for trial in trials if trial.run.records and trial.run.is_good and trial.run.ending != "diverged"]
    on_training = Question(
        good=len(good),
        of=len(trials),
        words=f"{len(good)} of {len(trials)} nets were good on their own training images when they ended.",
    )
    overfit = sum(trial.finding.name == "overfit" for trial in good)
    on_validation = Question(
        good=len(good) - overfit,
        of=len(good),
        words=f"Of those, {len(good) - overfit} were about as good on images they had not seen; {overfit} overfit.",
    )
    return on_training, on_validation


def _in_words(counts: Counter[FindingName], training: Question, validation: Question) -> str:
    if not training.of:
        return "No net has ended yet that could be judged."
    ill = [(count, name) for name, count in counts.items() if name not in ("healthy", "overfit")]
    if 2 * training.good < training.of and ill:
        count, name = max(ill)
        return (
            f"Look at the training set first: most nets are not good even there, mostly by {_plain(name)} "
            f"({count} of {training.of})."
        )
    if validation.of and 2 * validation.good < validation.of:
        return "The nets learn their training images, but not what others have in common with them: they overfit."
    return "Most nets are good on their training images, and about as good on others."


def _plain(name: str) -> str:
    return name.replace("_", " ")


# Blame


@dataclass(frozen=True)
class Share:
    hits: int
    count: int

    @property
    def value(self) -> float:
        return self.hits / self.count

    def wilson(self, z: float) -> tuple[float, float]:
        scale = 1 + z * z / self.count
        centre = (self.value + z * z / (2 * self.count)) / scale
        variance = self.value * (1 - self.value) / self.count + z * z / (4 * self.count**2)
        reach = z * math.sqrt(variance) / scale
        return max(0.0, centre - reach), min(1.0, centre + reach)


def newcombe(one: Share, other: Share, error: float) -> tuple[float, float]:
    """The interval of the difference of two shares at the level 1 − `error`."""
    z = -float(scipy.special.ndtri(error / 2))
    (low, high), (other_low, other_high) = one.wilson(z), other.wilson(z)
    difference = one.value - other.value
    return (
        difference - math.hypot(one.value - low, other_high - other.value),
        difference + math.hypot(high - one.value, other.value - other_low),
    )


def find_blame(trials: Sequence[JudgedTrial], space: SearchSpace) -> tuple[int, list[Blame]]:
    """How many questions were asked, and the blames whose intervals exclude 0, the largest difference first."""
    counts = Counter(trial.finding.name for trial in trials)
    names = [name for name in FINDINGS if name != "healthy" and counts[name] >= LEAST_FINDINGS]
    questions = [
        (name, choices, *_split(trials, choices[0]))
        for choices in alternatives(space)
        for name in names
        if min(map(len, _split(trials, choices[0]))) >= LEAST_GROUP
    ]
    blames = []
    for name, (side, complement), inside, outside in questions:
        hits, others = (Share(sum(t.finding.name == name for t in group), len(group)) for group in (inside, outside))
        if complement is not None and others.value > hits.value:
            side, hits, others = complement, others, hits
        low, high = newcombe(hits, others, ERROR / len(questions))
        if low > 0:
            blames.append(_blame(name, side, hits, others, (low, high)))
    return len(questions), sorted(blames, key=lambda blame: -blame.difference)


def _split(trials: Sequence[JudgedTrial], side: Side) -> tuple[list[JudgedTrial], list[JudgedTrial]]:
    """Of the trials that have the hyperparameter, those on the side and the others."""
    having = [trial for trial in trials if getattr(trial.point, side.name) is not None]
    return [t for t in having if side.holds(t.point)], [t for t in having if not side.holds(t.point)]


def _blame(name: FindingName, side: Side, inside: Share, outside: Share, interval: tuple[float, float]) -> Blame:
    return Blame(
        finding=name,
        hyperparameter=side.name,
        value=side.value,
        low=side.low,
        high=side.high,
        trials_with=inside.count,
        share_with=inside.value,
        trials_without=outside.count,
        share_without=outside.value,
        difference=inside.value - outside.value,
        interval=interval,
        words=f"{side.words}: {inside.hits} of {inside.count} nets had the finding {_plain(name)}, of the others "
        f"{outside.hits} of {outside.count}.",
    )


def alternatives(space: SearchSpace) -> Iterator[tuple[Side, Side | None]]:
    """Every value of each choice, against all its others, and the halves of each range that varies; the second side is the rest,
    where it has a name of its own."""
    for name in SearchSpace.model_fields:
        dimension = getattr(space, name)
        if dimension == "auto":
            yield _halves_of_auto(space)
        elif isinstance(dimension, Choice) and len(dimension.choices) == 2:
            yield _value_side(name, dimension.choices[0]), _value_side(name, dimension.choices[1])
        elif isinstance(dimension, Choice) and len(dimension.choices) > 2:
            yield from ((_value_side(name, value), None) for value in dimension.choices)
        elif isinstance(dimension, IntRange | FloatRange) and dimension.low < dimension.high:
            yield _halves(name, dimension)


def _value_side(name: str, value: Value) -> Side:
    return Side(name, value, None, None, f"{name} = {value}", lambda point: getattr(point, name) == value)


def _halves(name: str, dimension: IntRange | FloatRange) -> tuple[Side, Side]:
    middle = _middle(dimension)

    def is_upper(point: Hyperparameters) -> bool:
        return bool(getattr(point, name) > middle)

    return (
        Side(name, None, dimension.low, middle, f"{name} up to {middle:.3g}", lambda point: not is_upper(point)),
        Side(name, None, middle, dimension.high, f"{name} above {middle:.3g}", is_upper),
    )


def _halves_of_auto(space: SearchSpace) -> tuple[Side, Side]:
    """Of each optimizer's own range."""

    def is_upper(point: Hyperparameters) -> bool:
        dimension = space.dimension("learning_rate", point)
        return isinstance(dimension, FloatRange) and point.learning_rate > _middle(dimension)

    words = "learning_rate in the {} half of its optimizer's range"
    return (
        Side("learning_rate", None, None, None, words.format("lower"), lambda point: not is_upper(point)),
        Side("learning_rate", None, None, None, words.format("upper"), is_upper),
    )


def _middle(dimension: IntRange | FloatRange) -> float:
    return math.sqrt(dimension.low * dimension.high) if dimension.log else (dimension.low + dimension.high) / 2


# Edges


def find_edges(best: Sequence[JudgedTrial], space: SearchSpace) -> list[Edge]:
    """Of the ranges that could be wider; a hyperparameter's own limit is no edge."""
    edges: list[Edge] = []
    for name in SearchSpace.model_fields:
        if name == "learning_rate" and space.learning_rate == "auto":
            edges += _edges_of_auto(best, space)
            continue
        points = [getattr(trial.point, name) for trial in best if getattr(trial.point, name) is not None]
        edges += _edges(name, name, getattr(space, name), points)
    return edges


def _edges_of_auto(best: Sequence[JudgedTrial], space: SearchSpace) -> Iterator[Edge]:
    """Of the optimizer that most of the best have."""
    if not best:
        return
    optimizer, _ = Counter(trial.point.optimizer for trial in best).most_common(1)[0]
    points = [trial.point for trial in best if trial.point.optimizer == optimizer]
    dimension = space.dimension("learning_rate", points[0])
    rates = [point.learning_rate for point in points]
    for edge in _edges("learning_rate", f"learning_rate_{optimizer}", dimension, rates):
        alone = len(points) == len(best)
        yield edge if alone else edge.model_copy(update={"next": None})


def _edges(name: str, shown: str, dimension: Dimension, points: Sequence[float]) -> Iterator[Edge]:
    if len(points) < LEAST_BEST or not _is_numeric(dimension):
        return
    for upper in (False, True):
        end, there, needed = _at_end(dimension, points, upper)
        wider = _wider(name, dimension, upper)
        if wider is None or there < needed * len(points):
            continue
        direction = "above" if upper else "below"
        words = f"{there} of the {len(points)} best trials lie at the end {shown} = {end:g}; better ones may lie {direction}."
        yield Edge(hyperparameter=shown, end=end, best_there=there, best=len(points), next=wider, words=words)


def _is_numeric(dimension: Dimension) -> bool:
    if isinstance(dimension, Choice):
        return len(dimension.choices) > 2 and not any(isinstance(choice, str) for choice in dimension.choices)
    return isinstance(dimension, IntRange | FloatRange) and dimension.low < dimension.high


def _at_end(dimension: Dimension, points: Sequence[float], upper: bool) -> tuple[float, int, float]:
    """The end, how many of the points lie there, and the share of them that would make it an edge."""
    if isinstance(dimension, Choice):
        end = float(max(dimension.choices) if upper else min(dimension.choices))
        return end, sum(point == end for point in points), AT_LAST_CHOICE
    assert isinstance(dimension, IntRange | FloatRange)
    scale: Callable[[float], float] = math.log if dimension.log else float
    low, high = scale(dimension.low), scale(dimension.high)
    places = ((scale(point) - low) / (high - low) for point in points)
    there = sum(place >= 1 - OUTERMOST if upper else place <= OUTERMOST for place in places)
    return float(dimension.high if upper else dimension.low), there, AT_EDGE


def _wider(name: str, dimension: Dimension, upper: bool) -> float | None:
    """The end moved outwards, within the hyperparameter's own limits; None where it cannot be."""
    if isinstance(dimension, Choice):
        numbers = sorted(dimension.choices)
        moved = _next_in_row(numbers if upper else numbers[::-1])
        end = numbers[-1 if upper else 0]
    else:
        assert isinstance(dimension, IntRange | FloatRange)
        end, length = (dimension.high if upper else dimension.low), dimension.high - dimension.low
        if dimension.log:
            moved = end * WIDER_LOG if upper else end / WIDER_LOG
        else:
            moved = end + WIDER * length if upper else end - WIDER * length
        if isinstance(dimension, IntRange) or dimension.step is not None:
            step = dimension.step or 1
            moved = end + step * math.trunc((moved - end) / step)
    moved = SearchSpace.within_limits(name, moved, end)
    return None if moved == end else float(moved)


def _next_in_row(numbers: Sequence[float]) -> float:
    """As the last step went: by a factor where all steps are by one, else by a difference."""
    before, last = numbers[-2], numbers[-1]
    factors = {b / a for a, b in pairwise(numbers) if a}
    if 0 not in numbers and len(factors) == 1:
        return last * last / before
    return last + (last - before)


# The next space


def next_search_space(
    space: SearchSpace, blames: Sequence[Blame], edges: Sequence[Edge], best: Sequence[JudgedTrial]
) -> tuple[SearchSpace, list[str]]:
    """The space, narrowed where a side is blamed and none of the best lies there, widened at its edges; and what was changed."""
    changes = []
    for blame in blames:
        narrowed = _without(space, blame, best)
        if narrowed is not None:
            changes.append(f"narrowed {blame.hyperparameter}: {blame.words}")
            space = narrowed
    for edge in edges:
        widened = _widened(space, edge, best)
        if widened is not None:
            changes.append(f"widened {edge.hyperparameter} to {edge.next:g}: {edge.words}")
            space = widened
    return space, changes


def _without(space: SearchSpace, blame: Blame, best: Sequence[JudgedTrial]) -> SearchSpace | None:
    """None where the blame is no reason to leave a side out, one of the best lies there, or nothing would be left."""
    name, dimension = blame.hyperparameter, getattr(space, blame.hyperparameter)
    if blame.finding not in CAUSES_TO_AVOID or not best:
        return None
    values = [value for trial in best if (value := getattr(trial.point, name)) is not None]
    if isinstance(dimension, Choice) and blame.value in dimension.choices:
        left = [choice for choice in dimension.choices if choice != blame.value]
        inside_a_row = _is_numeric(dimension) and blame.value not in (min(dimension.choices), max(dimension.choices))
        if not left or blame.value in values or inside_a_row:
            return None
        return _changed(space, name, {"choices": left})
    if not isinstance(dimension, IntRange | FloatRange) or blame.low is None or blame.high is None:
        return None
    if any(blame.low <= value <= blame.high for value in values) or (dimension.step or 1) != 1:
        return None
    is_upper = blame.high >= dimension.high
    cut = blame.low if is_upper else blame.high
    if isinstance(dimension, IntRange):
        cut = math.floor(cut) if is_upper else math.ceil(cut)
    if not dimension.low < cut < dimension.high:
        return None
    return _changed(space, name, {**dimension.model_dump(), "high" if is_upper else "low": cut})


def _widened(space: SearchSpace, edge: Edge, best: Sequence[JudgedTrial]) -> SearchSpace | None:
    if edge.next is None:
        return None
    if edge.hyperparameter.startswith("learning_rate_"):  # auto, and all of the best have one optimizer
        optimizer, point = best[0].point.optimizer, best[0].point
        dimension = space.dimension("learning_rate", point)
        space = _changed(space, "optimizer", optimizer)
        name = "learning_rate"
    else:
        name = edge.hyperparameter
        dimension = getattr(space, name)
    if isinstance(dimension, Choice):
        number = int(edge.next) if all(isinstance(choice, int) for choice in dimension.choices) else edge.next
        return _changed(space, name, {"choices": sorted([*dimension.choices, number])})
    assert isinstance(dimension, IntRange | FloatRange)
    number = int(edge.next) if isinstance(dimension, IntRange) else edge.next
    return _changed(space, name, {**dimension.model_dump(), "high" if edge.next > edge.end else "low": number})


def _changed(space: SearchSpace, name: str, dimension: object) -> SearchSpace:
    """Checked as if it had been posted."""
    body = {**space.model_dump(mode="json"), name: dimension}
    if isinstance(dimension, dict):
        body[name] = {key: value for key, value in dimension.items() if value is not None}
    return SearchSpace.model_validate(body)
