"""Answers as tables."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.cli.configuration import in_words
from tuner.client.answers import (
    AuditEntry,
    Best,
    Dataset,
    Decision,
    Delivery,
    EnsembleTable,
    Front,
    Importances,
    Job,
    Model,
    Predictions,
    Schedule,
    ScheduleRun,
    StudySummary,
    Token,
    Trial,
)
from tuner.specs.finding import FindingName
from tuner.specs.notes import NotesRow

NONE = "–"

PIPE_WIDTH = 200


class Difference(Protocol):
    """Of two runs of one thing."""

    @property
    def where(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def recorded(self) -> object: ...
    @property
    def replayed(self) -> object: ...


def studies_table(studies: Iterable[StudySummary]) -> Table:
    table = _table("study", "state", "stage", ">trials", ">complete", ">pruned", ">failed", ">best", "created")
    for study in studies:
        counts = study.trials
        numbers = (str(number) for number in (counts.total, counts.complete, counts.pruned, counts.fail))
        created = _minute(study.created_at)
        _add(table, study.name, study.state, study.stage or NONE, *numbers, share(study.best_value), created)
    return table


def jobs_table(jobs: Iterable[Job]) -> Table:
    table = _table(">job", "study", "kind", "state", "stage", ">progress", ">attempt", "created")
    for job in jobs:
        progress, created = f"{job.progress.fraction:.0%}", _minute(job.created_at)
        _add(table, str(job.id), job.study, job.kind, job.state, job.stage or NONE, progress, str(job.attempt), created)
    return table


def trials_table(trials: Iterable[Trial]) -> Table:
    table = _table(">trial", "state", ">value", ">seconds", ">attempts", "reason", "finding", "configuration")
    for trial in trials:
        seconds = NONE if trial.seconds is None else f"{trial.seconds:.1f}"
        reason = "void" if trial.void else trial.reason or NONE
        point = NONE if trial.hyperparameters is None else in_words(trial.hyperparameters)
        finding = NONE if trial.finding is None else trial.finding.name.replace("_", " ")
        row = (trial.state, share(trial.value), seconds, str(trial.attempts), reason, finding, point)
        _add(table, str(trial.number), *row)
    return table


def datasets_table(datasets: Iterable[Dataset]) -> Table:
    table = _table("data set", "shape", ">classes", ">train", ">test", ">studies", "created")
    for dataset in datasets:
        counts = (dataset.classes, dataset.counts.train, dataset.counts.test, dataset.study_count)
        shape = "×".join(map(str, dataset.shape))
        _add(table, dataset.name, shape, *(f"{count:,}" for count in counts), _minute(dataset.created_at))
    return table


def models_table(models: Iterable[Model]) -> Table:
    table = _table("model", "study", "kind", ">parameters", ">validation", ">sealed test", "configuration")
    for model in models:
        _add(
            table,
            model.id,
            model.study,
            model.kind,
            f"{model.parameters:,}",
            share(model.metrics.validation_accuracy),
            share(model.metrics.test_accuracy),
            in_words(model.hyperparameters),
        )
    return table


def best_table(best: Best) -> Table:
    """The configurations of one stage; a search has not opened the sealed test set."""
    tested = [">sealed test"] if best.stage != "search" else []
    table = _table(">", "tied", ">trial", "configuration", ">parameters", ">validation", *tested)
    for item in best.items:
        row = [
            str(item.rank),
            "=" if item.tied else "",
            "default" if item.number is None else str(item.number),
            in_words(item.hyperparameters),
            NONE if item.parameters is None else f"{item.parameters:,}",
            share(item.value),
        ]
        _add(table, *row, *(share(item.test_accuracy) for _ in tested))
    return table


def importances_table(importances: Importances) -> Table:
    table = _table("parameter", ">share")
    for item in importances.items:
        _add(table, item.parameter, f"{item.share:.1%}")
    return table


def findings_table(findings: Mapping[FindingName, int]) -> Table:
    table = _table("finding", ">nets")
    for name, count in findings.items():
        if count:
            _add(table, name.replace("_", " "), str(count))
    return table


def models_reported_table(models: EnsembleTable) -> Table:
    table = _table("model", ">sealed test", "95 %", ">parameters", ">ms an image")
    named = {"default": models.default, "tuned": models.single, "bag": models.bag, "student": models.student}
    for name, model in named.items():
        if model is not None:
            interval = NONE if model.test_interval is None else "{:.4f} to {:.4f}".format(*model.test_interval)
            speed = NONE if model.milliseconds_per_image is None else f"{model.milliseconds_per_image:.3f}"
            _add(table, name, share(model.test_accuracy), interval, f"{model.parameters:,}", speed)
    return table


def front_table(front: Front) -> Table:
    """A trial on the front has a star."""
    table = _table("", ">trial", *(f">{axis.name}" for axis in front.axes), "configuration")
    for item in front.items:
        values = (NONE if value is None else f"{value:,.4g}" if value % 1 else f"{value:,.0f}" for value in item.values)
        point = NONE if item.hyperparameters is None else in_words(item.hyperparameters)
        _add(table, "*" if item.on_front else "", str(item.number), *values, point)
    return table


def differences_table(differences: Iterable[Difference]) -> Table:
    """Of a replay; numbers with all their digits."""
    table = _table("", "", ">recorded", ">replayed")
    for difference in differences:
        values = (str(value) for value in (difference.recorded, difference.replayed))
        _add(table, difference.where, difference.name, *values)
    return table


def deliveries_table(deliveries: Iterable[Delivery]) -> Table:
    table = _table("webhook", "event", ">job", "state", ">attempts", "next", "last error", "url")
    for one in deliveries:
        due = NONE if one.next_attempt_at is None else one.next_attempt_at[:19].replace("T", " ")
        row = (one.event, str(one.job), one.state, str(one.attempts), due, one.last_error or NONE, one.url)
        _add(table, one.id, *row)
    return table


def schedules_table(schedules: Iterable[Schedule]) -> Table:
    table = _table("schedule", "due", "next", "study", "policy", "overlap", "last")
    for schedule in schedules:
        following = "paused" if schedule.paused else _second(schedule.next_fire_time)
        last = NONE if schedule.last_run is None else schedule.last_run.outcome
        row = (timing_in_words(schedule), following, schedule.study.name, schedule.policy, schedule.overlap, last)
        _add(table, schedule.name, *row)
    return table


def schedule_runs_table(runs: Iterable[ScheduleRun]) -> Table:
    table = _table("due", "outcome", ">job", "study", "reason")
    for run in runs:
        job = NONE if run.job is None else str(run.job)
        _add(table, _second(run.fire_time), run.outcome, job, run.study or NONE, run.reason or NONE)
    return table


def champions_table(decisions: Iterable[Decision]) -> Table:
    """A model in full, so that it can be asked for; of the reason the numbers, where there are any."""
    table = _table("decided", ">job", "study", "verdict", "champion", ">difference", "95 % interval", "reason")
    for one in decisions:
        difference = NONE if one.difference is None else f"{one.difference:+.4f}"
        interval = NONE if one.interval is None else "{:+.4f} to {:+.4f}".format(*one.interval)
        row = (str(one.job), one.study or NONE, one.verdict, one.model, difference, interval)
        _add(table, _second(one.decided_at), *row, one.reason.partition(":")[0])
    return table


def timing_in_words(schedule: Schedule) -> str:
    if schedule.cron is not None:
        return f"{schedule.cron} ({schedule.time_zone})"
    return f"every {schedule.interval_seconds} s"


def tokens_table(tokens: Iterable[Token]) -> Table:
    table = _table("token", "role", "state", "created", "by", "expires", "last used")
    for token in tokens:
        times = _minute(token.expires_at), _minute(token.last_used_at)
        _add(table, token.name, token.role, token.state, _minute(token.created_at), token.created_by, *times)
    return table


def audit_table(entries: Iterable[AuditEntry]) -> Table:
    table = _table("at", "who", "", "path", ">status", "made")
    for entry in entries:
        at = entry.at[:19].replace("T", " ")
        _add(table, at, entry.who, entry.method, entry.path, str(entry.status), entry.location or NONE)
    return table


def predictions_table(predictions: Predictions) -> Table:
    """The classes of one picture, the likeliest first."""
    table = _table("class", ">probability")
    [probabilities] = predictions.probabilities
    for label in sorted(range(len(probabilities)), key=lambda label: -probabilities[label]):
        _add(table, str(label), f"{probabilities[label]:.4f}")
    return table


def notes_table(rows: Iterable[NotesRow]) -> Table:
    """A diverged run counts with the accuracy of guessing."""
    table = _table("experiment", "", "the notes", ">ours", ">±", ">seeds", ">fit", ">images", ">epochs", "read on")
    for row in rows:
        seeds = f"{row.seeds} ({row.diverged} diverged)" if row.diverged else str(row.seeds)
        numbers = (share(row.accuracy), share(row.deviation), seeds, share(row.train_accuracy), f"{row.train:,}")
        read = f"{row.images_count:,} {row.images} images"
        _add(table, row.experiment, row.arm, row.notes, *numbers, f"{row.epochs:.0f}", read)
    return table


def print_table(table: Table) -> None:
    """As wide as the terminal; where there is none, wide enough for a row a line."""
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)


def share(value: float | None) -> str:
    """An accuracy, or any other value of a foreign study."""
    return NONE if value is None else f"{value:.4f}"


def _table(*headings: str) -> Table:
    """`>` before a heading: its column holds numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        numbers = heading.startswith(">")
        table.add_column(
            heading.removeprefix(">"), justify="right" if numbers else "left", no_wrap=numbers or heading == "created"
        )
    return table


def _add(table: Table, *cells: str) -> None:
    """As they are: another program's study may be named `[red]`, which is markup to rich."""
    table.add_row(*(Text(cell) for cell in cells))


def _second(time: str | None) -> str:
    return NONE if time is None else time[:19].replace("T", " ")


def _minute(time: str | None) -> str:
    return NONE if time is None else time[:16].replace("T", " ")
