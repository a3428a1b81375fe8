"""The app: `create_app` puts together what the other modules make. Nothing is created at import."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from api import problems
from api.dashboard import DashboardStorage, make_dashboard
from api.routes import further_jobs, health, jobs, models, studies, trials
from api.security import Gate
from tuner import __version__
from tuner.settings import Settings
from tuner.store.database import migrate, open_database

DESCRIPTION = """
Post a study; the service searches on a small subset, promotes the best few to the full data, and scores the winner once on a
sealed test set. Errors are problem+json (RFC 9457). Times are RFC 3339, UTC. Lists page by `next_cursor`.

The [Optuna dashboard](/dashboard) shows the same trials, read only.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service's app. Raises InvalidInput where the settings would let everybody in, Unavailable without a database."""
    settings = settings or Settings()
    token = settings.token()
    engine = open_database(settings.database_url)
    migrate(engine)
    storage = DashboardStorage(settings.database_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        close(app)

    app = FastAPIOffline(  # FastAPI's own pages would load their scripts from elsewhere
        title="tuner",
        lifespan=lifespan,
        version=__version__,
        description=DESCRIPTION,
        redirect_slashes=False,
        responses=problems.described(422),
    )
    app.state.engine, app.state.storage, app.state.settings = engine, storage, settings
    problems.install(app)
    for routes in (health, studies, trials, jobs, further_jobs, models):
        app.include_router(routes.router)
    # The router's last resort and no mount: a mount at "/" would swallow every known path asked with a wrong method.
    app.router.default = make_dashboard(storage)
    app.add_middleware(Gate, settings=settings, token=token)
    return app


def close(app: FastAPI) -> None:
    """The app's connections are closed."""
    app.state.engine.dispose()
    app.state.storage.close()
