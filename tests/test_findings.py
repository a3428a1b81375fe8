"""The findings of a study's trials, as they are kept."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from api.findings import Findings
from benchmarks.bookkeeping import Bookkeeping
from tuner.store import trials
from tuner.store.database import reading
from tuner.store.studies import find_study_by_id
from tuner.store.tables import curves


def test_an_ended_trial_is_judged_once(engine: Engine) -> None:
    """A page asked again reads no curves, and says the same as one that nothing was kept for; of a trial that has ended since it
    reads those alone."""
    study = Bookkeeping(engine, "a", 10)
    kept, read = Findings(Path()), list[str]()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        read.extend([statement] if f"FROM {curves.name}" in statement else [])

    def ask(findings: Findings) -> dict[int, Any]:
        with reading(engine) as connection:
            found = find_study_by_id(connection, study.study_id)
            assert found is not None
            return dict(findings.of(connection, found, trials.load_trials(connection, study.study_id)))

    for _ in range(3):
        study.trial(reports_apart=False)
    event.listen(engine, "before_cursor_execute", note)
    first = ask(kept)
    assert (len(first), len(read)) == (3, 1)
    assert (ask(kept), len(read)) == (first, 1)
    study.trial(reports_apart=False)
    second = ask(kept)
    assert (len(second), len(read)) == (4, 2)
    assert second == ask(Findings(Path()))
