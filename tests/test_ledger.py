"""The ledger of the sealed test sets, on either database."""

import pytest
from sqlalchemy import Connection, Engine

from tuner.errors import TestSetSealed
from tuner.specs.study import StudySpec
from tuner.store import audit, ledger, studies
from tuner.store.audit import Entry
from tuner.store.database import reading, writing
from tuner.store.ledger import Opener

CHECKSUM = "c" * 64


def opener(connection: Connection, name: str, force: bool = False) -> Opener:
    """A job of the study `name`, which is made where it is not there; `ann` has asked for it."""
    study = studies.find_study(connection, name)
    if study is None:
        job_id = studies.create_study(connection, StudySpec(name=name), [], 1)
        entry = Entry("ann", "POST", "/v1/studies", 202, f"/v1/jobs/{job_id}", "r")
        audit.record_change(connection, entry)
        study = studies.find_study(connection, name)
    assert study is not None
    assert study.job is not None
    return Opener(study.id, name, study.job.id, "digits", CHECKSUM, force)


def test_the_same_models_are_one_opening(engine: Engine) -> None:
    """Asked again for the same models, in whatever order, the ledger answers the same opening, with who had asked for it."""
    with writing(engine) as connection:
        first = ledger.record_opening(connection, opener(connection, "a"), ["y", "x"])
        again = ledger.record_opening(connection, opener(connection, "a"), ["x", "y"])
    assert first == again
    assert (first.models, first.forced, first.opened_by) == (("x", "y"), False, "ann")


def test_a_second_opening_is_refused_unless_forced(engine: Engine) -> None:
    """Other models of the same study are refused; forced, they are scored, and the ledger shows it to every study."""
    with writing(engine) as connection:
        ledger.record_opening(connection, opener(connection, "a"), ["x"])
        with pytest.raises(TestSetSealed, match="one opening per study"):
            ledger.record_opening(connection, opener(connection, "a"), ["z"])
        forced = ledger.record_opening(connection, opener(connection, "a", force=True), ["z"])
        assert ledger.record_opening(connection, opener(connection, "a"), ["z"]) == forced
        other = ledger.record_opening(connection, opener(connection, "b", force=True), ["z"])
    with reading(engine) as connection:
        openings = ledger.load_openings(connection, CHECKSUM)
        assert [(o.study_name, o.forced) for o in openings] == [("a", False), ("a", True), ("b", False)]
        assert len(ledger.load_openings(connection, CHECKSUM)) == 3
        assert [o.id for o in openings[1:]] == [forced.id, other.id]
