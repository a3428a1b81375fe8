"""What a disturbed study is held against: the same trainings, and the same studies, left alone."""

import json
import queue
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, text

from drills.record import open_read_only
from drills.service import Service, wait_until
from drills.site import Site
from drills.studies import Spec
from tuner.data.splits import part_sizes, search_slices
from tuner.executors.local import LocalExecutor
from tuner.executors.protocol import DataSlice, EpochEnded, Event, Task
from tuner.specs.epoch import EpochRecord
from tuner.specs.study import StudySpec
from tuner.store import trials as trial_rows

MNIST_TRAINING_IMAGES = 60_000

INTERRUPTED = """
    SELECT trials.study_id AS study_id, trials.trial_id AS trial_id, CAST(spec AS TEXT) AS spec
    FROM trials JOIN tuner_studies ON tuner_studies.study_id = trials.study_id
    WHERE trials.state IN ('COMPLETE', 'PRUNED')
    AND (SELECT count(*) FROM tuner_attempts WHERE tuner_attempts.trial_id = trials.trial_id) > 1
"""

CURVE = "SELECT record FROM tuner_curves WHERE subject = 'trial' AND subject_id = :trial_id ORDER BY epoch"


def compare_trials(site: Site) -> None:
    """Train every interrupted trial again, alone and from its first epoch: each number of each epoch must be the same."""
    with site.engine.connect() as connection:
        tasks = {task.key: (task, curve) for task, curve in _interrupted(site, connection)}
    site.say(f"{len(tasks)} interrupted trials are trained again, undisturbed")
    again = _train([task for task, _ in tasks.values()])
    for key, (_, curve) in tasks.items():
        # A pruned trial's curve ends early.
        if curve != [_numbers(record) for record in again[key][: len(curve)]]:
            site.find("differs", f"{key} was interrupted and has {curve}, but undisturbed it has {again[key]}")
    site.notes.append(f"{len(tasks)} interrupted trials trained again")


def _interrupted(site: Site, connection: Connection) -> Iterator[tuple[Task, list[dict[str, float]]]]:
    for row in connection.execute(text(INTERRUPTED)).mappings():
        spec = StudySpec.model_validate_json(row["spec"])
        [trial] = [t for t in trial_rows.load_trials(connection, row["study_id"]) if t._trial_id == row["trial_id"]]
        train_count, _ = part_sizes(MNIST_TRAINING_IMAGES)
        task = Task(
            key=f"trial {trial.number} of {spec.name}",
            hyperparameters=spec.search_space.restore(trial.params),
            data=DataSlice(
                site.data_dir / "datasets" / "mnist",
                *search_slices(train_count, spec.subset.train, spec.subset.validation),
            ),
            epochs=spec.subset.epochs,
            seed=trial.user_attrs["seed"],
            decay=True,
        )
        stored = connection.execute(text(CURVE), {"trial_id": row["trial_id"]}).scalars()
        yield task, [_numbers(EpochRecord.model_validate(_json(record))) for record in stored]


def _train(tasks: list[Task]) -> dict[str, list[EpochRecord]]:
    executor, events = LocalExecutor(2), queue.SimpleQueue[Event]()
    records: dict[str, list[EpochRecord]] = {task.key: [] for task in tasks}
    try:
        for task in tasks:
            executor.submit(task, events.put)
        unfinished = set(records)
        while unfinished:
            event = events.get(timeout=300)
            if isinstance(event, EpochEnded):
                records[event.key].append(event.record)
            else:
                unfinished.remove(event.key)
    finally:
        executor.close()
    return records


def _numbers(record: EpochRecord) -> dict[str, float]:
    return record.model_dump(exclude={"seconds"})


def compare_with_twins(site: Site, specs: list[Spec]) -> None:
    """Do the studies again, undisturbed: trials, runs and models must be the same, the weights by their checksums.

    For deterministic studies; in others the order in which trials end is a matter of chance.
    """
    site.say(f"{', '.join(spec['name'] for spec in specs)}: done again, undisturbed")
    data_dir = site.folder / "twins"
    url = f"sqlite:///{data_dir / 'tuner.db'}"
    service = Service("twins", data_dir, site.folder, {"TUNER_MAX_JOBS": "2"})
    service.start()
    try:
        for spec in specs:
            service.post("/v1/studies", spec)
        for spec in specs:
            path = f"/v1/studies/{spec['name']}"
            wait_until(lambda path=path: service.get(path)["state"] == "succeeded", f"{path}, undisturbed")  # type: ignore[misc]
    finally:
        service.terminate()
        service.sweep()
    twins = open_read_only(url)
    for spec in specs:
        disturbed, left_alone = _outcome(site.engine, spec["name"]), _outcome(twins, spec["name"])
        for what, rows in left_alone.items():
            if disturbed[what] != rows:
                changed = [pair for pair in zip(disturbed[what], rows, strict=False) if pair[0] != pair[1]]
                lengths = f"{len(disturbed[what])} against {len(rows)}"
                site.find("differs", f"{what} of {spec['name']}: {lengths}; disturbed, left alone: {changed[:2]}")
    site.notes.append(f"{len(specs)} whole studies done again")


OUTCOME = {
    "trials": "SELECT trial_id, number, CAST(state AS TEXT) FROM trials JOIN studies USING (study_id) "
    "WHERE study_name = :study ORDER BY number",
    "runs": "SELECT stage, contender, seed, state, validation_accuracy, best_epoch FROM tuner_runs "
    "JOIN studies USING (study_id) WHERE study_name = :study ORDER BY stage, contender, seed",
    "models": "SELECT kind, contender, sha256, promoted FROM tuner_models "
    "JOIN studies USING (study_id) WHERE study_name = :study ORDER BY contender",
}

PER_TRIAL = {
    "parameters": "SELECT param_name, param_value FROM trial_params WHERE trial_id = :trial_id ORDER BY param_name",
    "values": "SELECT objective, value FROM trial_values WHERE trial_id = :trial_id ORDER BY objective",
    "reports": "SELECT step, intermediate_value FROM trial_intermediate_values WHERE trial_id = :trial_id ORDER BY step",
}


def _outcome(engine: Engine, study: str) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        outcome = {
            what: [tuple(row) for row in connection.execute(text(query), {"study": study})]
            for what, query in OUTCOME.items()
        }
        ids = [row[0] for row in outcome["trials"]]
        outcome["trials"] = [row[1:] for row in outcome["trials"]]
        for what, query in PER_TRIAL.items():
            outcome[what] = [
                (number, *row)
                for number, trial_id in enumerate(ids)
                for row in connection.execute(text(query), {"trial_id": trial_id})
            ]
    return outcome


def _json(stored: Any) -> Any:
    return json.loads(stored) if isinstance(stored, str) else stored
