"""`tuner model`: the nets that were kept."""

from itertools import islice
from typing import Annotated

import typer

from tuner.cli.door import open_door
from tuner.cli.tables import models_table, print_table

app = typer.Typer(no_args_is_help=True)


@app.callback()
def model() -> None:
    """Keeps `list` a command of its own while it is the only one."""


@app.command("list")
def list_models(limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50) -> None:
    """List models, the newest first."""
    with open_door() as client:
        print_table(models_table(islice(client.models(), limit)))
