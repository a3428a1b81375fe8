"""The commands and their groups."""

import typer
from pydantic import ValidationError

from tuner.cli import audit, backup, dataset, job, model, notes, run, schedule, serve, study, token, trial
from tuner.errors import TunerError


def main() -> None:
    """Exit code 1 and one line on standard error where something is refused; 2 where the command line is wrong."""
    try:
        _app()()
    except ValidationError as error:
        _refuse("; ".join(f"TUNER_{_path(e['loc'])}: {e['msg']}, but got {e['input']!r}" for e in error.errors()))
    except TunerError as error:
        _refuse(str(error))


def _app() -> typer.Typer:
    app = typer.Typer(
        help="Tune the hyperparameters of small neural nets.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.command()(serve.serve)
    app.command()(run.run)
    app.command()(notes.notes)
    app.add_typer(study.app, name="study", help="Studies: what was searched, and how it goes.")
    app.add_typer(trial.app, name="trial", help="Trials of a study.")
    app.add_typer(job.app, name="job", help="Jobs: the work on studies.")
    app.add_typer(schedule.app, name="schedule", help="Schedules: studies that run again and again.")
    app.add_typer(model.app, name="model", help="Models that were kept.")
    app.add_typer(dataset.app, name="dataset", help="Data sets: the images that studies are on.")
    app.add_typer(token.app, name="token", help="Tokens: who may use the service.")
    app.command()(audit.audit)
    app.command()(backup.backup)
    app.command()(backup.restore)
    return app


def _path(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc)).upper()


def _refuse(message: str) -> None:
    typer.echo(f"tuner: {message}", err=True)
    raise SystemExit(1)
