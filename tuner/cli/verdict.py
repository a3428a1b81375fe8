"""What is told of a study when there is nothing more to wait for."""

from rich.console import Console

from tuner.cli.tables import best_table, print_table
from tuner.client import Client
from tuner.client.answers import StudyStatus

NOTES_ACCURACY = 0.9686
"""The best sealed-test accuracy in the course notes: RMSProp, 5 epochs, 128 units."""


def tell(console: Console, client: Client, status: StudyStatus) -> None:
    """The best configurations, the search's best, and the promoted net against the course notes; or why there are none."""
    for note in status.notes:
        _line(console, f"note: {note}")
    if status.state in ("failed", "cancelled"):
        reason = (status.error or status.stop_reason or "no reason is known").strip().splitlines()[-1]
        _line(console, f"{status.name} is {status.state}: {reason}")
    if status.best is None:
        return
    best, counts, promoted = client.best(status.name), status.trials, status.promoted
    _line(console, f"\nThe best configurations of {status.name}, by {best.stage}", style="bold")
    print_table(best_table(best))
    _line(
        console,
        f"\nSearch: {counts.finished} trials ({counts.complete} complete, {counts.pruned} pruned, {counts.fail} failed); "
        f"the best, trial {status.best.number}, has {status.best.value:.4f} on the subset's validation images.",
    )
    if promoted is not None and promoted.test_accuracy is not None:
        _line(
            console,
            f"Sealed test of the promoted model {promoted.model}: {promoted.test_accuracy:.4f}; "
            f"the course notes: {NOTES_ACCURACY:.4f}.",
        )
    if promoted is not None and promoted.verdict is not None:
        found = promoted.verdict
        if found.gain is not None:
            _line(console, f"Gain: {found.gain.words}.")
        _line(console, f"Race: {found.race.words}.")
        _line(console, f"Subset: {found.tau.words}.")


def _line(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
