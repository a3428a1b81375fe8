"""`tuner trial`: single trials of a study."""

from typing import Annotated

import typer

from tuner.cli.door import open_door

app = typer.Typer(no_args_is_help=True)

StudyName = Annotated[str, typer.Argument(metavar="STUDY")]
Number = Annotated[int, typer.Argument(min=0, metavar="NUMBER")]


@app.callback()
def trial() -> None:
    """Keeps `replay` a command of its own while it is the only one."""


@app.command()
def replay(name: StudyName, number: Number) -> None:
    """Train a trial again from its record, and compare every number, bit for bit.

    It is trained here, also where TUNER_URL names the service that has the record; its data set must be in TUNER_DATA_DIR.
    Exit code 0 if all is equal, 1 if not.
    """
    with open_door() as client:
        status, trial = client.study(name), client.trial(name, number)
    from tuner.cli.replaying import replay_here  # torch's world, for which no other question need wait

    if not replay_here(status, trial):
        raise typer.Exit(1)
