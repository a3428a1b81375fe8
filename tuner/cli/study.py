"""`tuner study`: what was searched, how it goes, what came out."""

import webbrowser
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Literal

import typer

from tuner.cli.configuration import in_words
from tuner.cli.door import open_door
from tuner.cli.estimating import estimated
from tuner.cli.facts import print_facts
from tuner.cli.report import print_report
from tuner.cli.spec_file import read_spec
from tuner.cli.tables import (
    best_table,
    deliveries_table,
    front_table,
    importances_table,
    print_table,
    share,
    studies_table,
)
from tuner.client.answers import StudyStatus
from tuner.specs.job import PromoteWork, SearchWork

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The study's name, or @ID of one that another program made.")]


@app.command("list")
def list_studies(
    state: Annotated[str | None, typer.Option(help="As of jobs; or foreign, made by other programs.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
) -> None:
    """List studies, the newest first."""
    with open_door() as client:
        print_table(studies_table(islice(client.studies(state), limit)))


@app.command()
def show(name: Name) -> None:
    """Show one study: its state, its trials, its best."""
    with open_door() as client:
        _tell(client.study(name))


@app.command()
def estimate(
    spec: Annotated[str, typer.Argument(metavar="SPEC.json|-", help="A StudySpec of our own nets.")],
) -> None:
    """Say what a study would cost; where nothing was timed on this machine yet, a runner first times a few nets."""
    expected = estimated(read_spec(spec))
    print_facts(
        seconds=f"{expected.seconds:.0f}, in four of five cases {expected.low:.0f} to {expected.high:.0f}",
        search=f"{expected.search_seconds:.0f}",
        promotion=f"{expected.promotion_seconds:.0f}",
        from_=f"{expected.timings} timed epochs and {expected.studies} ended studies, with {expected.slots} trials at once",
    )


@app.command()
def best(
    name: Name,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many.")] = 5,
    stage: Annotated[str | None, typer.Option(help="search or promotion; without it, the furthest there is.")] = None,
) -> None:
    """Show a study's best configurations."""
    with open_door() as client:
        found = client.best(name, k, stage)
    typer.echo(f"by {found.stage}", err=True)
    print_table(best_table(found))


@app.command()
def export(
    name: Name,
    form: Annotated[str, typer.Option("--format", help="yaml, or a script: torch, keras.")] = "torch",
    rank: Annotated[int, typer.Option(min=1, max=100, help="Of the configuration that a script is for.")] = 1,
    stage: Annotated[str | None, typer.Option(help="search or promotion; without it, the furthest there is.")] = None,
) -> None:
    """Print a study's best configuration as a training script of your own, or the best few as YAML."""
    with open_door() as client:
        typer.echo(client.export(name, form, rank, stage), nl=False)


@app.command()
def importances(name: Name) -> None:
    """Show which parameters decided how good a trial became."""
    with open_door() as client:
        found = client.importances(name)
    print_table(importances_table(found))
    typer.echo(found.note or f"PED-ANOVA over {found.trials} COMPLETE trials", err=True)


@app.command()
def pareto(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many trials; the front comes first.")] = 20,
) -> None:
    """Show the trials that no other one beats on every axis: two objectives, or the one against the size of the net."""
    with open_door() as client:
        print_table(front_table(client.pareto(name, limit)))


@app.command()
def report(
    name: Name,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as one page to this file.")
    ] = None,
    show_page: Annotated[bool, typer.Option("--open", help="Open that page in the browser.")] = False,
) -> None:
    """Tell what a study has brought: its gain over the default configuration, its cost, what was the matter with its nets."""
    with open_door() as client:
        found = client.report(name)
        page = client.report_page(name) if html is not None or show_page else None
    if page is not None:
        file = html or Path(mkdtemp(prefix="tuner-")) / "report.html"
        file.write_text(page)
        typer.echo(f"the page is in {file}", err=True)
        if show_page:
            webbrowser.open(file.resolve().as_uri())
    print_report(found)


@app.command()
def pause(name: Name) -> None:
    """Pause a study; trials under way will run again under their numbers."""
    with open_door() as client:
        _tell(client.pause(name))


@app.command()
def resume(name: Name) -> None:
    """Queue a paused study again, for `tuner serve` or the `tuner run` that began it to go on with."""
    with open_door() as client:
        _tell(client.resume(name))


@app.command()
def cancel(name: Name) -> None:
    """End a study for good; what has been found stays."""
    with open_door() as client:
        _tell(client.cancel(name))


Queue = Annotated[bool, typer.Option("--queue", help="Wait for the study's unfinished job, if there is one.")]


@app.command()
def extend(
    name: Name,
    trials: Annotated[int, typer.Option(min=1, help="The study's new total of trials.")],
    queue: Queue = False,
) -> None:
    """Search on, up to a new total of trials."""
    with open_door() as client:
        job = client.queue_job(name, SearchWork(n_trials=trials, queue=queue))
    typer.echo(f"job {job.id} is {job.state}")


@app.command()
def promote(
    name: Name,
    top_k: Annotated[int | None, typer.Option(min=1, max=50, help="Without it, the study's own.")] = None,
    max_seeds: Annotated[int | None, typer.Option(min=1, max=50, help="Likewise.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=1000, help="Likewise.")] = None,
    force_test: Annotated[
        bool, typer.Option("--force-test", help="Open the sealed test set again; every later verdict tells of it.")
    ] = False,
    ensemble: Annotated[
        bool,
        typer.Option("--ensemble", help="And make a bag and a student of the winner: the study's own, or of five."),
    ] = False,
    queue: Queue = False,
) -> None:
    """Promote the best of all trials anew."""
    kind: Literal["promote", "ensemble"] = "ensemble" if ensemble else "promote"
    work = PromoteWork(kind=kind, top_k=top_k, max_seeds=max_seeds, epochs=epochs, force_test=force_test, queue=queue)
    with open_door() as client:
        job = client.queue_job(name, work)
    typer.echo(f"job {job.id} is {job.state}")


@app.command()
def delete(name: Name) -> None:
    """Delete an ended study: it is gone from every list and its name is free, and `restore` brings it back."""
    with open_door() as client:
        client.delete(name)


@app.command()
def restore(name: Name) -> None:
    """Bring back the study that was last deleted under this name."""
    with open_door() as client:
        _tell(client.restore(name))


@app.command()
def purge(name: Name) -> None:
    """Remove for good, rows, models and all, what was deleted under this name; a runner does so within seconds."""
    with open_door() as client:
        client.purge(name)


@app.command()
def deliveries(
    name: Name,
    send_again: Annotated[str | None, typer.Option(metavar="ID", help="First send this one again, at once.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
) -> None:
    """List a study's webhooks: those on their way, those that arrived, those that were given up."""
    with open_door() as client:
        if send_again is not None:
            client.send_again(name, send_again)
        print_table(deliveries_table(islice(client.deliveries(name), limit)))


def _tell(status: StudyStatus) -> None:
    counts, progress, best = status.trials, status.progress, status.best
    print_facts(
        study=status.name,
        state=status.state,
        stage=status.stage,
        progress=f"{progress.done} of {progress.total} ({progress.fraction:.0%})",
        trials=f"{counts.total}: {counts.complete} complete, {counts.pruned} pruned, {counts.fail} failed, "
        f"{counts.running} running, {counts.waiting} waiting",
        best=None if best is None else f"{share(best.value)}, trial {best.number}",
        at=None if best is None or best.hyperparameters is None else in_words(best.hyperparameters),
        promoted=None if status.promoted is None else in_words(status.promoted.hyperparameters),
        sealed_test=None if status.promoted is None else share(status.promoted.test_accuracy),
        job=None if status.job is None else str(status.job.id),
        stopped_by=status.stop_reason,
        error=status.error,
        note="; ".join(status.notes) or None,
    )
