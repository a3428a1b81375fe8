from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine

from tests.conftest import connect
from tuner.settings import Settings
from tuner.specs.study import StudySpec
from tuner.stages.view import View
from tuner.store import jobs, studies, trials
from tuner.store.database import writing


def curve(api: httpx.Client, study_id: int) -> list[tuple[int, float]]:
    """Of trial 0, as the dashboard's page asks for it."""
    [trial] = api.get(f"/api/studies/{study_id}", params={"after": 0}).json()["trials"]
    values: list[dict[str, Any]] = trial["intermediate_values"]
    return [(entry["step"], entry["value"]) for entry in values]


def test_a_curve_grows_with_the_dashboards_next_look(engine: Engine, database_url: str, tmp_path: Path) -> None:
    """A report that was committed is in the very next answer, however short ago the dashboard looked; the coordinator commits
    once a second, so a live curve lags by less than two."""
    spec = StudySpec(name="a")
    view = View(spec, [], {})
    asked = view.ask()
    assert asked is not None
    with writing(engine) as connection:
        job = jobs.find_job(connection, studies.create_study(connection, spec, [], 60))
        assert job is not None
        trial_id = trials.start_trial(connection, job.study_id, view.trial(asked.number))
    with connect(Settings(data_dir=tmp_path / "data", database_url=database_url, parallel=1)) as api:
        expected: list[tuple[int, float]] = []
        assert curve(api, job.study_id) == expected
        for epoch in range(1, 4):
            with writing(engine) as connection:
                trials.add_reports(connection, [(trial_id, epoch, epoch / 10)])
            expected.append((epoch, epoch / 10))
            assert curve(api, job.study_id) == expected
