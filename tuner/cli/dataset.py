"""`tuner dataset`: the images that studies are on."""

from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.door import open_door
from tuner.cli.facts import print_facts
from tuner.cli.tables import datasets_table, print_table
from tuner.client.answers import Dataset
from tuner.errors import InvalidInput

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The data set's name.")]


@app.command("list")
def list_datasets(limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50) -> None:
    """List data sets, the newest first."""
    with open_door() as client:
        print_table(datasets_table(islice(client.datasets(), limit)))


@app.command()
def show(name: Name) -> None:
    """Show one data set, and what uses it."""
    with open_door() as client:
        _tell(client.dataset(name))


@app.command()
def upload(
    name: Name,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="IDX files, gzipped or not, or one .npz.")],
) -> None:
    """Upload a data set: the four IDX files, or one .npz with x_train, y_train and, if there are, x_test, y_test."""
    with ExitStack() as opened:
        try:
            contents = {file.name: opened.enter_context(file.open("rb")) for file in files}
        except OSError as error:
            raise InvalidInput(
                f"a data set's files must be readable, but {error.filename}: {error.strerror}"
            ) from error
        if len(contents) < len(files):
            raise InvalidInput("files must have different names, but two have the same")
        with open_door(makes_database=True) as client:
            _tell(client.upload_dataset(name, contents))


@app.command()
def delete(name: Name) -> None:
    """Delete a data set that no study or schedule uses."""
    with open_door() as client:
        client.delete_dataset(name)
    typer.echo(f"{name} is deleted")


def _tell(dataset: Dataset) -> None:
    more = dataset.study_count - len(dataset.studies)
    counts = dataset.counts
    print_facts(
        dataset=dataset.name,
        images=f"{counts.train:,} to train on, {counts.test:,} sealed to test on",
        shape="×".join(map(str, dataset.shape)),
        classes=f"{dataset.classes}, of {min(counts.train_per_class)} to {max(counts.train_per_class)} training images",
        checksum=dataset.checksum,
        test=dataset.test_checksum,
        notes="; ".join(dataset.notes) or None,
        studies=", ".join([*dataset.studies, *([f"{more} more"] if more else [])]) or None,
        schedules=", ".join(dataset.schedules) or None,
        created=dataset.created_at or "with the service",
    )
