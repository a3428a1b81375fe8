"""`tuner notes`: the course notes' experiments, run here, beside what the notes say."""

import json
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from tuner.cli.interrupt import interrupt_on_signals
from tuner.cli.run import INTERRUPTED
from tuner.cli.tables import notes_table, print_table
from tuner.client.address import Address
from tuner.errors import InvalidInput
from tuner.settings import Settings
from tuner.specs.notes import NotesRow

QUICK_IMAGES = 2_000


def notes(
    only: Annotated[list[str] | None, typer.Option(help="An experiment; may be given again.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed, and at most 2,000 training images: a look, no comparison.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--json", help="Write the rows there, too.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Run the course notes' experiments on MNIST, on this machine, and show their figures beside ours.

    The optimizers' accuracies are of the sealed test set, which is opened for them with an entry in the ledger; all others are of
    validation images.
    """
    if url := Address().url:
        raise InvalidInput(f"`tuner notes` trains on this machine, but TUNER_URL names a service, {url}")
    interrupt_on_signals()
    try:
        rows = _run(Settings(), only or [], quick=quick)
    except KeyboardInterrupt:
        typer.echo("tuner: interrupted; nothing is kept", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if file is not None:
        file.write_text(json.dumps([row.model_dump() for row in rows], indent=2) + "\n", encoding="utf-8")
    if markdown:
        _print_markdown(rows)
    else:
        print_table(notes_table(rows))
        for reason in dict.fromkeys(row.otherwise for row in rows):
            names = ", ".join(dict.fromkeys(row.experiment for row in rows if row.otherwise == reason))
            typer.echo(f"\n{names}: {reason}.")


def _run(settings: Settings, only: Sequence[str], *, quick: bool) -> list[NotesRow]:
    from tuner.data.catalogue import open_dataset
    from tuner.executors.local import LocalExecutor
    from tuner.stages.notes import Extent, arms, experiments, run_notes
    from tuner.store import ledger
    from tuner.store.database import migrate, open_database, writing

    if unknown := sorted(set(only) - set(experiments())):
        raise InvalidInput(f"--only must be one of {', '.join(experiments())}, but got {', '.join(unknown)}")
    chosen = [arm for arm in arms() if not only or arm.experiment in only]
    dataset = open_dataset("mnist", settings.datasets_dir)
    engine = open_database(settings.database_url)

    def record_opening(models: list[str]) -> None:
        migrate(engine)
        # Of no study; with force, since it is another opening whatever was opened before.
        opener = ledger.Opener(None, "tuner notes", None, dataset.name, dataset.checksum, force=True)
        with writing(engine) as connection:
            ledger.record_opening(connection, opener, models)

    extent = Extent(1, QUICK_IMAGES) if quick else Extent(3)
    with (
        closing(LocalExecutor(settings.parallel, settings.worker_memory_mb)) as executor,
        tempfile.TemporaryDirectory() as folder,
        Progress(console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("notes", total=None)
        return run_notes(
            dataset,
            executor,
            chosen,
            extent,
            Path(folder),
            record_opening,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )


def _print_markdown(rows: Sequence[NotesRow]) -> None:
    typer.echo(
        "| experiment | arm | notes | ours | ± | seeds | on training images | images | epochs | read on | otherwise |"
    )
    typer.echo("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        spread = "–" if row.deviation is None else f"{row.deviation:.4f}"
        fit = "–" if row.train_accuracy is None else f"{row.train_accuracy:.4f}"
        read = f"{row.images_count:,} {row.images}"
        cells = (row.experiment, row.arm, row.notes, f"{row.accuracy:.4f}", spread, str(row.seeds), fit)
        typer.echo("| " + " | ".join([*cells, f"{row.train:,}", f"{row.epochs:.0f}", read, row.otherwise]) + " |")
