"""`tuner schedule`: studies that run again and again."""

from itertools import islice
from typing import Annotated

import typer

from tuner.cli.door import open_door
from tuner.cli.facts import print_facts
from tuner.cli.spec_file import read_spec
from tuner.cli.tables import champions_table, print_table, schedule_runs_table, schedules_table, timing_in_words
from tuner.client.answers import Schedule, ScheduleRun

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The schedule's name.")]


@app.command()
def create(
    spec: Annotated[str, typer.Argument(metavar="SPEC.json|-", help="A ScheduleSpec, as POST /v1/schedules takes it.")],
) -> None:
    """Create a schedule; a running `tuner serve` fires it."""
    with open_door() as client:
        _tell(client.create_schedule(read_spec(spec)))


@app.command("list")
def list_schedules(limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50) -> None:
    """List schedules, the newest first."""
    with open_door() as client:
        print_table(schedules_table(islice(client.schedules(), limit)))


@app.command()
def show(name: Name) -> None:
    """Show one schedule: when it is due, and what came of it last."""
    with open_door() as client:
        _tell(client.schedule(name))


@app.command()
def pause(name: Name) -> None:
    """Let due times pass by; jobs that have been started go on."""
    with open_door() as client:
        _tell(client.edit_schedule(name, paused=True))


@app.command()
def resume(name: Name) -> None:
    """Fire again from the next due time on; what was left out is not made up for."""
    with open_door() as client:
        _tell(client.edit_schedule(name, paused=False))


@app.command()
def run(name: Name) -> None:
    """Run a schedule's study now, beside its due times, also while it is paused."""
    with open_door() as client:
        _tell_run(client.run_schedule(name))


@app.command()
def runs(name: Name, limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50) -> None:
    """List what came of a schedule's due times, the newest first."""
    with open_door() as client:
        print_table(schedule_runs_table(islice(client.schedule_runs(name), limit)))


@app.command()
def champions(name: Name, limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50) -> None:
    """List a schedule's champions and what their challengers came to, the newest first."""
    with open_door() as client:
        print_table(champions_table(islice(client.champions(name), limit)))


@app.command()
def delete(name: Name) -> None:
    """Delete a schedule and its history; the studies that it has started stay."""
    with open_door() as client:
        client.delete_schedule(name)
    typer.echo(f"{name} is deleted")


def _tell(schedule: Schedule) -> None:
    last, champion = schedule.last_run, schedule.champion
    print_facts(
        schedule=schedule.name,
        due=timing_in_words(schedule),
        next="paused" if schedule.paused else schedule.next_fire_time,
        study=schedule.study.name,
        policy=schedule.policy,
        overlap=schedule.overlap,
        last=None if last is None else f"{last.outcome}, due {last.fire_time}",
        job=None if last is None or last.job is None else str(last.job),
        reason=None if last is None else last.reason,
        champion=None if champion is None else f"{champion.model}, since {champion.since}",
        challenge=None if champion is None else f"{champion.comparison.verdict}: {champion.comparison.reason}",
    )


def _tell_run(run: ScheduleRun) -> None:
    print_facts(
        due=run.fire_time,
        outcome=run.outcome,
        study=run.study,
        job=None if run.job is None else str(run.job),
        reason=run.reason,
    )
