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
        console.print(f"note: {note}", highlight=False)
    if status.state == "failed":
        reason = (status.error or status.stop_reason or "no reason is known").strip().splitlines()[-1]
        console.print(f"{status.name} failed: {reason}", highlight=False, markup=False)
    if status.best is None:
        return
    best = client.best(status.name)
    console.print(f"\n[bold]The best configurations of {status.name}, by {best.stage}[/bold]")
    print_table(best_table(best))
    counts = status.trials
    console.print(
        f"\nSearch: {counts.finished} trials ({counts.complete} complete, {counts.pruned} pruned, {counts.fail} failed); "
        f"the best, trial {status.best.number}, has {status.best.value:.4f} on the subset's validation images.",
        highlight=False,
    )
    if status.promoted is not None and status.promoted.test_accuracy is not None:
        console.print(
            f"Sealed test of the promoted model {status.promoted.model}: {status.promoted.test_accuracy:.4f}; "
            f"the course notes: {NOTES_ACCURACY:.4f}.",
            highlight=False,
        )
