"""The pictures of a report, as numbers ready to be drawn: a template writes them as SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from optuna.trial import TrialState
from sqlalchemy import Connection

from api.report import Subject
from api.report_answers import ReportAnswer
from tuner.specs.epoch import EpochRecord
from tuner.specs.verdict import Interval
from tuner.store import curves, runs
from tuner.store.runs import Run, RunState

WIDTH, HEIGHT = 640.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 16.0, 12.0, 40.0

MOST_BARS = 10
ROW = 26.0


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """`points` as SVG writes them; `role` is its colour's name in the style sheet."""

    name: str
    role: str
    points: str


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    role: str
    title: str


@dataclass(frozen=True)
class Chart:
    """Lines and dots between two axes, in units of the picture."""

    title: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    dots: tuple[Dot, ...]
    legend: tuple[tuple[str, str], ...]
    """Role and name."""


@dataclass(frozen=True)
class Bar:
    name: str
    label: str
    y: float
    length: float


@dataclass(frozen=True)
class Climb:
    """A configuration's place on the subset and on the rung, 1 the best."""

    name: str
    before: float
    after: float
    role: str


@dataclass(frozen=True)
class Span:
    """A value with its interval on a line that has zero on it."""

    low: float
    high: float
    value: float
    zero: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Measured:
    """A model's accuracy on the sealed test set, with its interval."""

    name: str
    y: float
    low: float
    high: float
    value: float
    role: str


@dataclass(frozen=True)
class Pictures:
    history: Chart | None
    curves: Chart | None
    importances: tuple[Bar, ...]
    gain: Span | None
    models: tuple[Measured, ...]
    """Empty without an ensemble."""
    model_ticks: tuple[Tick, ...]
    ranks: tuple[Climb, ...]


def draw(connection: Connection, subject: Subject, report: ReportAnswer) -> Pictures:
    models, model_ticks = _models(report)
    return Pictures(
        history=_history(subject),
        curves=_curves(connection, subject, report),
        importances=_importances(report),
        gain=_gain(report.gain.over_default, report.gain.interval),
        models=models,
        model_ticks=model_ticks,
        ranks=_ranks(connection, subject, report),
    )


def _history(subject: Subject) -> Chart | None:
    """Every ended trial's value, and the best until then."""
    study = subject.study
    seen = [
        (trial.number, value, trial.state)
        for trial in subject.ended
        if (value := trial.values[0] if trial.values else _last_report(trial.intermediate_values)) is not None
        and math.isfinite(value)
    ]
    complete = [(number, value) for number, value, state in seen if state == TrialState.COMPLETE]
    if not complete:
        return None
    x = _Axis(0, max(number for number, _, _ in seen), LEFT, WIDTH - RIGHT, whole=True)
    y = _Axis(min(v for _, v, _ in seen), max(v for _, v, _ in seen), HEIGHT - BOTTOM, TOP)
    best = list(accumulate((value for _, value in complete), min if study.minimize else max))
    steps = [(complete[0][0], best[0])]
    for (number, _), before, after in zip(complete[1:], best, best[1:], strict=False):
        steps += [(number, before), (number, after)]
    roles = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    dots = (Dot(x(n), y(v), roles[state], f"trial {n}: {v:.4g}, {state.name}") for n, v, state in seen)
    return Chart(
        title="Every trial, and the best so far",
        x_title="trial",
        y_title=_objective(subject),
        x_ticks=x.ticks,
        y_ticks=y.ticks,
        lines=(Line("best so far", "best", _points(steps, x, y)),),
        dots=tuple(dots),
        legend=(("complete", "complete"), ("pruned", "pruned early"), ("best", "best so far")),
    )


def _last_report(reports: dict[int, float]) -> float | None:
    return reports[max(reports)] if reports else None


def _objective(subject: Subject) -> str:
    spec = subject.study.spec
    return "value" if spec is None else spec.objectives[0].metric


def _curves(connection: Connection, subject: Subject, report: ReportAnswer) -> Chart | None:
    """Accuracy by epoch, of the best and the default configuration at the furthest stage: on training and validation images."""
    pairs = _promoted_records(connection, subject, report) or _searched_records(subject, report)
    if not pairs:
        return None
    shown = [records for _, _, records in pairs]
    accuracies = [a for records in shown for r in records for a in (r.train_accuracy, r.validation_accuracy)]
    x = _Axis(1, max(2, max(len(records) for records in shown)), LEFT, WIDTH - RIGHT, whole=True)
    y = _Axis(min(accuracies), max(accuracies), HEIGHT - BOTTOM, TOP)
    lines = []
    for name, role, records in pairs:
        for kind, suffix in (("validation_accuracy", ""), ("train_accuracy", " faint")):
            places = [(float(record.epoch), float(getattr(record, kind))) for record in records]
            lines.append(Line(f"{name}, {kind}", role + suffix, _points(places, x, y)))
    return Chart(
        title="Learning curves",
        x_title="epoch",
        y_title="accuracy",
        x_ticks=x.ticks,
        y_ticks=y.ticks,
        lines=tuple(lines),
        dots=(),
        legend=tuple((role, name) for name, role, _ in pairs),
    )


Curve = tuple[str, str, Sequence[EpochRecord]]
"""Name, role and records."""


def _promoted_records(connection: Connection, subject: Subject, report: ReportAnswer) -> list[Curve]:
    if report.best is None or report.best.stage != "promotion":
        return []
    job_id = runs.newest_job(connection, subject.study.id, "promotion")
    first: dict[str, Run] = {}
    for run in runs.load_runs(connection, subject.study.id, job_id, "promotion"):
        first.setdefault(run.contender, run)
    winner = "default" if report.best.number is None else f"trial-{report.best.number}"
    chosen = {name: first[name] for name in dict.fromkeys((winner, "default")) if name in first}
    records = curves.load_many(connection, "run", [run.id for run in chosen.values()])
    roles = {winner: "best", "default": "default"}
    return [
        (name.replace("-", " "), roles[name], records[run.id]) for name, run in chosen.items() if records.get(run.id)
    ]


def _searched_records(subject: Subject, report: ReportAnswer) -> list[Curve]:
    if report.best is None:
        return []
    wanted = dict.fromkeys((report.best.number, 0))
    by_number = {trial.number: subject.judged.get(trial._trial_id) for trial in subject.ended}
    found = []
    for number in wanted:
        judged = by_number.get(number) if number is not None else None
        if judged is None or not judged.run.records:
            continue
        is_default = number == 0 and judged.point == getattr(subject.study.spec, "default", lambda: None)()
        if number != report.best.number and not is_default:
            continue
        name = "default" if is_default else f"trial {number}"
        found.append((name, "best" if number == report.best.number else "default", judged.run.records))
    return found


def _importances(report: ReportAnswer) -> tuple[Bar, ...]:
    items = report.importances.items[:MOST_BARS]
    largest = max((item.share for item in items), default=0.0) or 1.0
    room = WIDTH - 260.0
    return tuple(
        Bar(item.parameter, f"{item.share:.0%}", k * ROW, max(1.0, room * item.share / largest))
        for k, item in enumerate(items)
    )


def _gain(value: float | None, interval: Interval | None) -> Span | None:
    """In points of accuracy."""
    if value is None or interval is None:
        return None
    low, high = (100 * end for end in interval)
    axis = _Axis(min(low, 0.0), max(high, 0.0), LEFT, WIDTH - LEFT)
    return Span(axis(low), axis(high), axis(100 * value), axis(0.0), axis.ticks)


def _models(report: ReportAnswer) -> tuple[tuple[Measured, ...], tuple[Tick, ...]]:
    """In per cent, one below the other."""
    told = report.ensemble
    if told.bag is None and told.student is None:
        return (), ()
    named = {"default": told.default, "tuned": told.single, "bag": told.bag, "student": told.student}
    seen = [
        (name, model.test_accuracy, model.test_interval)
        for name, model in named.items()
        if model is not None and model.test_accuracy is not None and model.test_interval is not None
    ]
    if not seen:
        return (), ()
    lowest, highest = min(low for _, _, (low, _) in seen), max(high for _, _, (_, high) in seen)
    axis = _Axis(100 * lowest, 100 * highest, 120.0, WIDTH - RIGHT)
    drawn = tuple(
        Measured(
            name,
            ROW * (k + 1),
            axis(100 * low),
            axis(100 * high),
            axis(100 * value),
            "default" if name == "default" else "best",
        )
        for k, (name, value, (low, high)) in enumerate(seen)
    )
    return drawn, axis.ticks


def _ranks(connection: Connection, subject: Subject, report: ReportAnswer) -> tuple[Climb, ...]:
    """How the rung has ordered what the subset had ordered."""
    study = subject.study
    job_id = runs.newest_job(connection, study.id, "rung")
    rung = {
        run.contender: run.validation_accuracy
        for run in runs.load_runs(connection, study.id, job_id, "rung")
        if run.state == RunState.COMPLETE and run.validation_accuracy is not None
    }
    values = {f"trial-{trial.number}": trial.values[0] for trial in subject.complete if trial.values}
    both = [name for name in rung if name in values]
    before = sorted(both, key=lambda name: (values[name] if study.minimize else -values[name], name))
    after = sorted(both, key=lambda name: (-(rung[name] or 0.0), name))
    winner = None if report.best is None or report.best.number is None else f"trial-{report.best.number}"
    return tuple(
        Climb(
            name.replace("-", " "),
            ROW * (k + 1),
            ROW * (after.index(name) + 1),
            "best" if name == winner else "other",
        )
        for k, name in enumerate(before)
    )


def _points(places: Sequence[tuple[float, float]], x: "_Axis", y: "_Axis") -> str:
    return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in places)


class _Axis:
    """From values to places between `start` and `end`, with round numbers as ticks."""

    def __init__(self, low: float, high: float, start: float, end: float, *, whole: bool = False) -> None:
        if low == high:
            low, high = low - 0.5, high + 0.5
        step = _round_step((high - low) / 5)
        if whole:
            step = max(1.0, step)
        else:
            low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        self._low, self._scale, self._start = low, (end - start) / (high - low), start
        count = math.floor((high - math.ceil(low / step) * step) / step + 1e-9)
        values = (math.ceil(low / step - 1e-9) * step + k * step for k in range(count + 1))
        label: Callable[[float], str] = (lambda v: f"{v:.0f}") if step >= 1 else (lambda v: f"{v:.{_digits(step)}f}")
        self.ticks = tuple(Tick(round(self(value), 1), label(value)) for value in values)

    def __call__(self, value: float) -> float:
        return round(self._start + (value - self._low) * self._scale, 1)


def _round_step(step: float) -> float:
    power = float(10.0 ** math.floor(math.log10(step)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * 0.999)


def _digits(step: float) -> int:
    return max(0, min(12, -math.floor(math.log10(step) + 1e-9)))
