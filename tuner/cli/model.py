"""`tuner model`: the nets that were kept."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.configuration import in_words
from tuner.cli.door import open_door
from tuner.cli.facts import print_facts
from tuner.cli.tables import models_table, predictions_table, print_table, share
from tuner.errors import InvalidInput, Unavailable

app = typer.Typer(no_args_is_help=True)

ModelId = Annotated[str, typer.Argument(metavar="ID")]


@app.command("list")
def list_models(limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50) -> None:
    """List models, the newest first."""
    with open_door() as client:
        print_table(models_table(islice(client.models(), limit)))


@app.command()
def show(model_id: ModelId) -> None:
    """Show one model."""
    with open_door() as client:
        model = client.model(model_id)
    print_facts(
        model=model.id,
        study=model.study,
        kind=model.kind,
        promoted="yes" if model.promoted else "no",
        net=in_words(model.hyperparameters),
        parameters=f"{model.parameters:,}",
        validation=share(model.metrics.validation_accuracy),
        sealed_test=None if model.metrics.test_accuracy is None else share(model.metrics.test_accuracy),
        created=model.created_at,
    )


@app.command()
def download(model_id: ModelId, to: Annotated[Path, typer.Argument(metavar="FILE.zip")]) -> None:
    """Write a model's files into a zip archive: weights, configuration, metrics, card."""
    with open_door() as client:
        try:
            to.write_bytes(client.download(model_id))
        except OSError as error:
            raise Unavailable(f"{to} cannot be written: {error.strerror}") from error
    typer.echo(f"{to}: {to.stat().st_size:,} bytes")


@app.command()
def predict(model_id: ModelId, png: Annotated[Path, typer.Argument(metavar="FILE.png")]) -> None:
    """Say what a picture shows, and how likely each class is."""
    try:
        content = png.read_bytes()
    except OSError as error:
        raise InvalidInput(f"a picture must be a readable file, but {png}: {error.strerror}") from error
    with open_door() as client:
        print_table(predictions_table(client.predict(model_id, content)))
