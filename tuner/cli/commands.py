"""The commands and their groups."""

import typer
from pydantic import ValidationError

from tuner.cli import job, model, run, serve, study
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
    app.add_typer(study.app, name="study", help="Studies: what was searched, and how it goes.")
    app.add_typer(job.app, name="job", help="Jobs: the work on studies.")
    app.add_typer(model.app, name="model", help="Models that were kept.")
    return app


def _path(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc)).upper()


def _refuse(message: str) -> None:
    typer.echo(f"tuner: {message}", err=True)
    raise SystemExit(1)
