"""The record of a drill: every trial ever seen finished, by REST or in the database, must be there at the end, unchanged."""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, Engine, NullPool, bindparam, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from drills.finding import Finding
from drills.service import Service

LOOK_SECONDS = 0.3

FINISHED = "SELECT trial_id FROM trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')"

TRIALS = """
    SELECT trial_id, study_name, number, CAST(state AS TEXT), CAST(datetime_start AS TEXT), CAST(datetime_complete AS TEXT)
    FROM trials JOIN studies USING (study_id) WHERE trial_id IN :ids
"""
DETAILS = (
    "SELECT trial_id, param_name, param_value, distribution_json FROM trial_params WHERE trial_id IN :ids",
    "SELECT trial_id, objective, value, CAST(value_type AS TEXT) FROM trial_values WHERE trial_id IN :ids",
    "SELECT trial_id, step, intermediate_value, CAST(intermediate_value_type AS TEXT) "
    "FROM trial_intermediate_values WHERE trial_id IN :ids",
    "SELECT trial_id, key, value_json FROM trial_user_attributes WHERE trial_id IN :ids",
)


@dataclass(frozen=True)
class FinishedTrial:
    """All that the database holds of it, but what samplers note for themselves."""

    study: str
    number: int
    state: str
    times: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    """Parameters, values, reports and attributes."""


def open_read_only(database_url: str) -> Engine:
    """Sees what the service has committed; can change nothing."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        return create_engine(f"sqlite:///file:{url.database}?mode=ro&uri=true", poolclass=NullPool)
    options = {"options": "-c default_transaction_read_only=on"}
    return create_engine(url, poolclass=NullPool, connect_args={**options, "connect_timeout": 5})


class Record:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: dict[int, FinishedTrial] = {}
        self._told: dict[tuple[str, int], dict[str, Any]] = {}

    def look(self) -> bool:
        """Remember what has finished by now; False where the database cannot be read at the moment."""
        try:
            with self._engine.connect() as connection:
                ended = set(connection.execute(text(FINISHED)).scalars())
                for trial_id, trial in _read(connection, ended - self._seen.keys()).items():
                    self._seen.setdefault(trial_id, trial)
        except DBAPIError:
            return False
        return True

    def hear(self, study: str, trials: Iterable[dict[str, Any]]) -> None:
        """Remember what the service has told of its finished trials."""
        told = ("state", "value", "params", "seed", "datetime_complete")
        for trial in trials:
            if trial["state"] in ("COMPLETE", "PRUNED", "FAIL"):
                self._told.setdefault((study, trial["number"]), {key: trial[key] for key in told})

    def __len__(self) -> int:
        return len(self._seen)

    def findings(self) -> list[Finding]:
        """What is missing of it in the database, or is there and differs."""
        with self._engine.connect() as connection:
            now = _read(connection, set(connection.execute(text(FINISHED)).scalars()))
        by_number = {(trial.study, trial.number): trial for trial in now.values()}
        found = [Finding("lost", _loss(was, now.get(i))) for i, was in self._seen.items() if now.get(i) != was]
        for (study, number), told in self._told.items():
            trial = by_number.get((study, number))
            if trial is None:
                found.append(Finding("lost", f"the API told of trial {number} of {study}, which is not there"))
            elif not _agrees(trial, told):
                found.append(
                    Finding("lost", f"the API told {told} of trial {number} of {study}, but it has {trial.rows}")
                )
        return found


def _read(connection: Connection, ids: set[int]) -> dict[int, FinishedTrial]:
    if not ids:
        return {}
    expanding: BindParameter[int] = bindparam("ids", expanding=True)
    rows: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for details in DETAILS:
        for row in connection.execute(text(details).bindparams(expanding), {"ids": list(ids)}):
            rows[row[0]].append(tuple(row[1:]))
    return {
        trial_id: FinishedTrial(study, number, state, tuple(times), tuple(sorted(rows[trial_id], key=repr)))
        for trial_id, study, number, state, *times in connection.execute(
            text(TRIALS).bindparams(expanding), {"ids": list(ids)}
        )
    }


def _loss(was: FinishedTrial, is_now: FinishedTrial | None) -> str:
    name = f"trial {was.number} of {was.study}"
    if is_now is None:
        return f"{name} was {was.state}, and is not there or not finished any more"
    changed = sorted(set(was.rows) ^ set(is_now.rows), key=repr)
    return f"{name} was {was.state} at {was.times}, and is {is_now.state} at {is_now.times}; changed: {changed[:4]}"


def _agrees(trial: FinishedTrial, told: dict[str, Any]) -> bool:
    values = [row[1] for row in trial.rows if len(row) == 3 and row[0] == 0]
    attributes = {row[0]: json.loads(row[1]) for row in trial.rows if len(row) == 2}
    same_value = told["value"] is None or told["value"] in values
    return trial.state == told["state"] and same_value and attributes.get("seed") == told["seed"]


class Watch:
    """Keeps a record up to date in a thread, as long as it is entered."""

    def __init__(self, record: Record, services: Callable[[], list[Service]]) -> None:
        self._record, self._services = record, services
        self._finished: dict[str, int] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            self._record.look()
            for service in self._services():
                if service.is_up:
                    self._listen(service)

    def _listen(self, service: Service) -> None:
        studies = service.get("/v1/studies?limit=500")
        for study in studies["items"] if studies is not None else []:
            counts = study["trials"]
            finished = counts["complete"] + counts["pruned"] + counts["fail"]
            if finished != self._finished.get(study["name"]):
                page = service.get(f"/v1/studies/{study['name']}/trials?limit=500&sort=-number")
                if page is not None:
                    self._record.hear(study["name"], page["items"])
                    self._finished[study["name"]] = finished
