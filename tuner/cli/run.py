"""`tuner run`: one study from its spec to its table, in the terminal."""

import contextlib
import signal
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from tuner.cli import verdict
from tuner.cli.begun import QUICKSTART, begin
from tuner.cli.spec_file import read_spec
from tuner.cli.watching import Watching
from tuner.cli.workshop import Workshop
from tuner.client import Client, Refused
from tuner.client.address import Address
from tuner.client.answers import StudyStatus
from tuner.settings import Settings

INTERRUPTED = 130
"""As a shell says it of a command that Ctrl-C ended."""


def run(
    spec: Annotated[
        str | None, typer.Argument(metavar="[SPEC.json|-]", help="A StudySpec; without it the MNIST quickstart.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The study's name.")] = None,
    trials: Annotated[int | None, typer.Option(help="budget.n_trials, a total.")] = None,
    seed: Annotated[int | None, typer.Option(help="The study's seed.")] = None,
) -> None:
    """Run a study and watch it; the same command again goes on with it, or shows it.

    With TUNER_URL it runs in that service. Without, on the data folder: by the service that works on it, or by a runner
    that lives as long as this command. Ctrl-C pauses the study.
    """
    body = QUICKSTART.said() if spec is None else read_spec(spec)
    body |= {key: value for key, value in (("name", name), ("seed", seed)) if value is not None}
    if trials is not None and isinstance(budget := body.get("budget", {}), Mapping):  # another kind is refused as it is
        body["budget"] = {**budget, "n_trials": trials}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    address = Address()
    if address.url:
        with Client.over_http(address.url, address.bearer()) as client:
            status = _carry(client, body, lambda _status: None)
    else:
        settings = Settings(log_level="WARNING")
        # The client first: it makes the tables that a runner looks for.
        with Client.in_process(settings) as client, Workshop(settings) as workshop:
            status = _carry(client, body, lambda _status: workshop.open_if_free())
    if status.state != "succeeded":
        raise typer.Exit(INTERRUPTED if status.state == "paused" else 1)


def _carry(client: Client, body: Mapping[str, Any], look: Callable[[StudyStatus], None]) -> StudyStatus:
    """The study's last status, shown on the way and told at the end; Ctrl-C pauses it, a second one only leaves."""
    status = begin(client, body)
    console = Console(stderr=True)
    with Watching(console) as watching:

        def show(status: StudyStatus) -> None:
            look(status)
            watching.show(status)

        try:
            status = client.wait(status.name, show)
        except KeyboardInterrupt:
            with contextlib.suppress(Refused):  # it has ended meanwhile
                client.pause(status.name)
            status = client.wait(status.name, show)
    verdict.tell(Console(), client, status)
    if status.state == "paused":
        hint = f"`tuner study resume {status.name}` queues it again; the same `tuner run` goes on with it"
        typer.echo(f"{status.name} is paused: {hint}", err=True)
    return status
