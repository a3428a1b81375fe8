"""`tuner job`: the work on studies."""

from itertools import islice
from typing import Annotated

import typer

from tuner.cli.door import open_door
from tuner.cli.facts import print_facts
from tuner.cli.tables import jobs_table, print_table
from tuner.client.answers import Job

app = typer.Typer(no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID")]


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="queued, running, paused, succeeded, failed or cancelled.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
) -> None:
    """List jobs, the newest first."""
    with open_door() as client:
        print_table(jobs_table(islice(client.jobs(state), limit)))


@app.command()
def show(job_id: JobId) -> None:
    """Show one job."""
    with open_door() as client:
        _tell(client.job(job_id))


@app.command()
def cancel(job_id: JobId) -> None:
    """Cancel a job that has not ended."""
    with open_door() as client:
        _tell(client.cancel_job(job_id))


@app.command()
def retry(job_id: JobId) -> None:
    """Queue a failed or cancelled job again: the newest of its study."""
    with open_door() as client:
        _tell(client.retry_job(job_id))


@app.command(context_settings={"ignore_unknown_options": True})  # else -5 would be an option
def priority(
    job_id: JobId, value: Annotated[int, typer.Argument(min=-100, max=100, metavar="PRIORITY", help="-100 to 100.")]
) -> None:
    """Set an unfinished job's priority: of those that wait, a higher one is started first."""
    with open_door() as client:
        _tell(client.set_priority(job_id, value))


@app.command()
def log(job_id: JobId) -> None:
    """Print what happened to a job, a line each, the oldest first."""
    with open_door() as client:
        for entry in client.job_log(job_id):
            typer.echo(f"{entry.at} {entry.text}")


def _tell(job: Job) -> None:
    progress = job.progress
    print_facts(
        job=str(job.id),
        study=job.study,
        kind=job.kind,
        state=job.state,
        stage=job.stage,
        priority=str(job.priority) if job.priority else None,
        after=None if job.after is None else f"job {job.after}",
        progress=f"{progress.done} of {progress.total} ({progress.fraction:.0%})",
        attempt=str(job.attempt),
        elapsed=f"{job.elapsed_seconds:.1f} s",
        created=job.created_at,
        started=job.started_at,
        finished=job.finished_at,
        stopped_by=job.stop_reason,
        error=job.error,
    )
