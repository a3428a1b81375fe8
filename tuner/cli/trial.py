"""`tuner trial`: single trials of a study."""

import json
from itertools import islice
from typing import Annotated, Any

import typer

from tuner.cli.configuration import in_words
from tuner.cli.door import open_door
from tuner.cli.facts import print_facts
from tuner.cli.tables import print_table, share, trials_table
from tuner.client.answers import Trial
from tuner.errors import InvalidInput

app = typer.Typer(no_args_is_help=True)

StudyName = Annotated[str, typer.Argument(metavar="STUDY")]
Number = Annotated[int, typer.Argument(min=0, metavar="NUMBER")]


@app.command("list")
def list_trials(
    name: StudyName,
    state: Annotated[str | None, typer.Option(help="COMPLETE, PRUNED, FAIL, RUNNING or WAITING.")] = None,
    sort: Annotated[str, typer.Option(help="number, -number, value or -value.")] = "number",
    limit: Annotated[int, typer.Option(min=1, help="The first so many.")] = 50,
) -> None:
    """List a study's trials."""
    with open_door() as client:
        print_table(trials_table(islice(client.trials(name, state, sort), limit)))


@app.command()
def show(name: StudyName, number: Number) -> None:
    """Show one trial, and every start of it."""
    with open_door() as client:
        trial = client.trial(name, number)
    _tell(trial)
    for attempt in trial.history:
        outcome = f"{attempt.outcome} at {attempt.ended_at}" if attempt.ended_at else "under way"
        typer.echo(f"{'start':<11}{attempt.started_at} by job {attempt.job}: {outcome}")


@app.command()
def enqueue(
    name: StudyName,
    hyperparameters: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...")] = None,
) -> None:
    """Have hyperparameters tried next, as in `tuner trial enqueue STUDY width=64 optimizer=sgd learning_rate=0.1`.

    What is not given is as the study's space fixes it, or else as in the default configuration.
    """
    given = dict(_assignment(text) for text in hyperparameters or ())
    with open_door() as client:
        _tell(client.enqueue_trial(name, given))


@app.command()
def void(
    name: StudyName,
    number: Number,
    reason: Annotated[str | None, typer.Option(help="For whoever sees it later.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let it count again.")] = False,
) -> None:
    """Declare an ended trial void: it stays in the history, and counts for nothing."""
    with open_door() as client:
        _tell(client.restore_trial(name, number) if undo else client.void_trial(name, number, reason))


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


def _assignment(text: str) -> tuple[str, Any]:
    """A number where the value is one, else a word."""
    name, sign, value = text.partition("=")
    if not sign:
        raise InvalidInput(f"a hyperparameter must be NAME=VALUE, but got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _tell(trial: Trial) -> None:
    print_facts(
        trial=str(trial.number),
        state=trial.state,
        value=None if trial.value is None else share(trial.value),
        at=None if trial.hyperparameters is None else in_words(trial.hyperparameters),
        seconds=None if trial.seconds is None else f"{trial.seconds:.1f}",
        reason=trial.reason,
        finding=None if trial.finding is None else trial.finding.name.replace("_", " "),
        because=None if trial.finding is None else trial.finding.evidence.sentence,
        void=(trial.void_reason or "no reason given") if trial.void else None,
    )
