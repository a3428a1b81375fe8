"""The app: `create_app` puts together what the other modules make. Nothing is created at import."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from sqlalchemy import Engine

from api import documentation, openapi, problems
from api.changes import Changes
from api.conditional import Conditional
from api.dashboard import Dashboard
from api.documents import Documents
from api.findings import Findings
from api.gate import Gate
from api.keyring import Keyring
from api.limits import Limits
from api.media_types import check_media_type
from api.metrics import Measured, Metrics
from api.origins import Origins
from api.remembered import Remembered
from api.routes import (
    access,
    analysis,
    best,
    datasets,
    deliveries,
    estimates,
    events,
    further_jobs,
    health,
    jobs,
    login,
    models,
    outside,
    predictions,
    report,
    schedules,
    studies,
    tokens,
    trials,
)
from api.served_nets import HELD_BYTES, ServedNet
from api.told import Told
from api.unchanged import Unchanged
from tuner import __version__
from tuner.data.staging import clear_leftovers
from tuner.errors import InvalidInput
from tuner.settings import Settings
from tuner.store.data_version import DataVersion
from tuner.store.database import migrate, open_database, reading
from tuner.store.tokens import any_token

DESCRIPTION = """
Post a study; the service searches on a small subset, promotes the best few to the full data, and scores the winner once on a
sealed test set. Errors are problem+json (RFC 9457). Times are RFC 3339, UTC. Lists page by `next_cursor`.

The [Optuna dashboard](/dashboard) shows the same trials, read only.
"""


def create_app(settings: Settings | None = None, local_token: str | None = None) -> FastAPI:
    """The service's app. `local_token` is a secret of whoever starts it, and makes its bearer an operator.

    Raises InvalidInput where the settings would let everybody in, Unavailable without a database.
    """
    settings = settings or Settings()
    keys = settings.file_token(), local_token
    engine = _open(settings)
    clear_leftovers(settings.datasets_dir)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        close(app)

    app = FastAPIOffline(  # it serves the scripts of the documentation, which FastAPI's own pages would load from elsewhere
        docs_url=None,
        redoc_url=None,
        title="tuner",
        lifespan=lifespan,
        version=__version__,
        description=DESCRIPTION,
        redirect_slashes=False,
        responses=problems.described(422),
        dependencies=[Depends(check_media_type)],
        webhooks=deliveries.webhooks,
    )
    app.state.engine, app.state.settings = engine, settings
    app.state.keyring, app.state.limits = Keyring(engine, *keys), Limits(settings)
    app.state.version = version = DataVersion(engine)
    app.state.findings = Findings(settings.datasets_dir)
    app.state.told = Told(engine, version)
    app.state.analyses = Remembered[bytes](analysis.REMEMBERED_BYTES, len)
    app.state.nets = Remembered[ServedNet](HELD_BYTES, ServedNet.bytes)
    problems.install(app)
    openapi.install(app)
    documentation.install(app)
    for routes in (
        health,
        datasets,
        studies,
        best,
        analysis,
        report,
        trials,
        estimates,
        outside,
        jobs,
        further_jobs,
        models,
        predictions,
        schedules,
        deliveries,
        events,
        access,
        tokens,
        login,
    ):
        app.include_router(routes.router)
    # The router's last resort and no mount: a mount at "/" would swallow every known path asked with a wrong method.
    app.state.dashboard = Dashboard(settings.database_url)
    app.router.default = app.state.dashboard
    app.add_middleware(Unchanged, version=version)
    app.add_middleware(Conditional)
    app.add_middleware(Documents)
    app.add_middleware(Changes, engine=engine, spool_dir=settings.datasets_dir)
    app.state.metrics = Metrics(engine)
    app.add_middleware(Gate, origins=Origins(settings), keyring=app.state.keyring, limits=app.state.limits)
    app.add_middleware(Measured, metrics=app.state.metrics)
    return app


def _open(settings: Settings) -> Engine:
    """The database, with today's tables. Raises InvalidInput where it has no token and the settings need one."""
    engine = open_database(settings.database_url)
    migrate(engine)
    with reading(engine) as connection:
        guarded = settings.token_file is not None or any_token(connection)
    try:
        settings.check_address(guarded)
    except InvalidInput:
        engine.dispose()
        raise
    return engine


def close(app: FastAPI) -> None:
    """The app's connections are closed."""
    app.state.version.close()
    app.state.engine.dispose()
    app.state.dashboard.close()
