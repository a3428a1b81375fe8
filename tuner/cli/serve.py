"""`tuner serve`: the API and a runner, kept running until SIGTERM or Ctrl-C."""

import secrets
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tuner.cli import verdict
from tuner.cli.begun import QUICKSTART, begin
from tuner.cli.children import serve_api, work_on_jobs
from tuner.cli.interrupt import interrupt_on_signals
from tuner.cli.listening import listen, reachable_url
from tuner.cli.logs import log_to_stderr
from tuner.cli.ownership import owning
from tuner.cli.supervisor import Role, Supervisor
from tuner.cli.watching import Watching
from tuner.client import Client, Refused
from tuner.client.answers import StudyStatus
from tuner.errors import TunerError
from tuner.settings import LOOPBACK, Settings
from tuner.specs.study import StudySpec
from tuner.webhooks import WebhookRules

POLL_SECONDS = 0.1


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; another than loopback needs a token.")] = None,
    port: Annotated[int | None, typer.Option(help="0: any free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Database, data sets, models.")] = None,
    quickstart: Annotated[
        bool, typer.Option("--quickstart", help="Also run the MNIST quickstart and watch it.")
    ] = False,
) -> None:
    """Serve the REST API and work on the jobs, until SIGTERM or Ctrl-C."""
    given = {"host": host, "port": port, "data_dir": data_dir}
    settings = Settings(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    if quickstart and "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "WARNING"})  # sentences would tear the progress bar
    log_to_stderr(settings.log_level)
    _check_access(settings)
    WebhookRules(settings).secrets()  # and those by which no webhook could be sent
    interrupt_on_signals()
    with suppress(KeyboardInterrupt):  # so it ends, wherever that comes: what has begun by then is ended in order
        _serve(settings, quickstart)


def _check_access(settings: Settings) -> None:
    """Raises InvalidInput where the settings would let everybody in from everywhere; nothing is made before."""
    if settings.file_token() is not None or settings.host in LOOPBACK:
        return
    from tuner.store.database import is_there, open_database
    from tuner.store.tokens import access_is_controlled

    guarded = False
    if is_there(settings.database_url):
        engine = open_database(settings.database_url)
        guarded = access_is_controlled(engine)
        engine.dispose()
    settings.check_address(guarded)


def _serve(settings: Settings, quickstart: bool) -> None:
    token = secrets.token_urlsafe()  # for this process to watch its own API with; it is written nowhere
    with ExitStack() as closing:
        closing.enter_context(owning(settings, f"`tuner serve` for port {settings.port}"))
        listening = closing.enter_context(listen(settings))
        _migrate(settings)
        roles = Role("API", serve_api, (settings, listening, token)), Role("runner", work_on_jobs, (settings,))
        closing.enter_context(Supervisor(*roles))
        url = reachable_url(settings, listening)
        client = closing.enter_context(Client.over_http(url, token))
        _wait_until_ready(client)
        _tell_addresses(url)
        if quickstart:
            _run_quickstart(client)
            _tell_addresses(url)
        while True:
            signal.pause()


def _migrate(settings: Settings) -> None:
    """The database has its schemas before two processes use it."""
    # Optuna and SQLAlchemy take half a second to import, for which no other command should wait.
    from tuner.store.database import migrate, open_database

    engine = open_database(settings.database_url)
    try:
        migrate(engine)
    finally:
        engine.dispose()


def _wait_until_ready(client: Client) -> None:
    while not client.is_ready():
        time.sleep(POLL_SECONDS)


def _tell_addresses(url: str) -> None:
    typer.echo(f"tuner serves\n  API        {url}/v1/studies\n  docs       {url}/docs\n  dashboard  {url}/dashboard")


def _run_quickstart(client: Client) -> None:
    """The study is begun, or found, and watched through REST like `tuner run` with TUNER_URL; the service outlives it."""
    try:
        begun = _begin_or_find(client, QUICKSTART)
        with Watching(Console(stderr=True)) as watching:
            status = client.wait(begun.name, watching.show)
        verdict.tell(Console(), client, status)
    except TunerError as error:  # who serves goes on serving
        typer.echo(f"tuner: {error}", err=True)


def _begin_or_find(client: Client, spec: StudySpec) -> StudyStatus:
    """Also a study of that name with another spec is worth showing."""
    try:
        return begin(client, spec.said())
    except Refused as refused:
        typer.echo(f"tuner: {refused}", err=True)
        return client.study(spec.name)
