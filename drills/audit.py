"""What must hold in the database when all work has come to its end. Plain SQL: it shares nothing with the code that it judges."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from drills.finding import Finding, Kind

FINISHING = "('complete', 'pruner', 'diverged', 'time_limit', 'error', 'cancelled', 'failed')"
"""Outcomes of an attempt after which its trial does not run again."""


@dataclass(frozen=True)
class Rule:
    """Every row that `query` answers is a finding, told by `sentence` with the row's columns."""

    kind: Kind
    sentence: str
    query: str


RULES = (
    Rule(
        "twice",
        "{study} has {found} trials with the number {number}",
        """SELECT study_name AS study, number, count(*) AS found FROM trials JOIN studies USING (study_id)
        GROUP BY study_name, number HAVING count(*) > 1""",
    ),
    Rule(
        "twice",
        "trial {number} of {study} was finished by {found} attempts",
        f"""SELECT study_name AS study, number, count(*) AS found
        FROM trials JOIN studies USING (study_id) JOIN tuner_attempts USING (trial_id)
        WHERE outcome IN {FINISHING} GROUP BY study_name, number HAVING count(*) > 1""",
    ),
    Rule(
        "twice",
        "trial {number} of {study} is logged as finished {found} times",
        """SELECT study_name AS study, data ->> 'number' AS number, count(*) AS found
        FROM tuner_events JOIN studies USING (study_id) WHERE kind = 'trial_finished'
        GROUP BY study_name, data ->> 'number' HAVING count(*) > 1""",
    ),
    Rule(
        "twice",
        "epoch {epoch} of trial {number} of {study}, which {attempts} attempts trained, is logged {found} times",
        """SELECT study_name AS study, number, epoch, attempts, found FROM (
            SELECT study_id, trial_id, number, count(*) AS attempts FROM trials
            JOIN (SELECT trial_id FROM tuner_attempts) AS started USING (trial_id) GROUP BY study_id, trial_id, number
        ) AS begun JOIN (
            SELECT study_id, CAST(data ->> 'number' AS INTEGER) AS number, data ->> 'epoch' AS epoch, count(*) AS found
            FROM tuner_events WHERE kind = 'epoch' AND data ->> 'number' IS NOT NULL
            GROUP BY study_id, data ->> 'number', data ->> 'epoch'
        ) AS logged USING (study_id, number) JOIN studies USING (study_id) WHERE found > attempts""",
    ),
    Rule(
        "running",
        "trial {number} of {study} is RUNNING",
        """SELECT study_name AS study, number FROM trials JOIN studies USING (study_id) WHERE trials.state = 'RUNNING'""",
    ),
    Rule(
        "running",
        "trial {number} of {study} is WAITING, but the study's job has {state}",
        """SELECT study_name AS study, number, tuner_jobs.state AS state
        FROM trials JOIN studies USING (study_id) JOIN tuner_jobs USING (study_id)
        WHERE trials.state = 'WAITING' AND tuner_jobs.state IN ('succeeded', 'failed', 'cancelled')""",
    ),
    Rule(
        "running",
        "trial {number} of {study} is {state}, but an attempt of it is open",
        """SELECT study_name AS study, number, CAST(trials.state AS TEXT) AS state
        FROM trials JOIN studies USING (study_id) JOIN tuner_attempts USING (trial_id)
        WHERE ended_at IS NULL AND trials.state <> 'RUNNING'""",
    ),
    Rule(
        "running",
        "the {stage} run of {contender} of {study} is running, but its job has succeeded",
        """SELECT study_name AS study, tuner_runs.stage AS stage, contender
        FROM tuner_runs JOIN studies USING (study_id) JOIN tuner_jobs ON tuner_jobs.id = job_id
        WHERE tuner_runs.state = 'running' AND tuner_jobs.state = 'succeeded'""",
    ),
    Rule(
        "stuck",
        "job {job} of {study} is {state} ({reason}): {error}",
        """SELECT study_name AS study, id AS job, state, stop_reason AS reason, error
        FROM tuner_jobs JOIN studies USING (study_id) WHERE state NOT IN ('succeeded', 'cancelled')""",
    ),
    Rule(
        "other",
        "the sealed test set was opened for {study}, but no reading of it was kept",
        """SELECT tuner_test_ledger.study_name AS study FROM tuner_test_ledger JOIN tuner_jobs USING (study_id)
        WHERE state = 'succeeded' AND (reading IS NULL OR CAST(reading AS TEXT) = 'null')""",
    ),
    Rule(
        "fired",
        "{schedule} fired {found} times for {due}",
        """SELECT name AS schedule, fire_time AS due, count(*) AS found
        FROM tuner_schedule_runs JOIN tuner_schedules ON tuner_schedules.id = schedule_id
        GROUP BY name, fire_time HAVING count(*) > 1""",
    ),
    Rule(
        "fired",
        "{schedule} fired for {due} after it had fired for {later}",
        """SELECT name AS schedule, a.fire_time AS due, b.fire_time AS later
        FROM tuner_schedule_runs a JOIN tuner_schedule_runs b ON a.schedule_id = b.schedule_id
        JOIN tuner_schedules ON tuner_schedules.id = a.schedule_id
        WHERE a.id > b.id AND a.fire_time <= b.fire_time""",
    ),
    Rule(
        "fired",
        "job {job} belongs to {found} runs of schedules",
        """SELECT job_id AS job, count(*) AS found FROM tuner_schedule_runs
        WHERE job_id IS NOT NULL GROUP BY job_id HAVING count(*) > 1""",
    ),
    Rule(
        "fired",
        "{study} was made for {schedule}, but no run of it says so",
        """SELECT study_name AS study, name AS schedule FROM studies JOIN tuner_schedules ON study_name LIKE name || '-%'
        WHERE study_id NOT IN (SELECT study_id FROM tuner_schedule_runs WHERE study_id IS NOT NULL)""",
    ),
)

BUDGETS = """
    SELECT study_name, CAST(tuner_studies.spec AS TEXT), count(DISTINCT trial_id)
    FROM tuner_studies JOIN studies USING (study_id) JOIN tuner_jobs USING (study_id) JOIN trials USING (study_id)
    WHERE tuner_jobs.state = 'succeeded' AND stop_reason = 'n_trials' AND trials.state IN ('COMPLETE', 'PRUNED', 'FAIL')
    GROUP BY study_name, CAST(tuner_studies.spec AS TEXT)
"""


MODELS = "SELECT study_name, id, sha256 FROM tuner_models JOIN studies USING (study_id)"


def audit(connection: Connection, models_dir: Path) -> Iterator[Finding]:
    for rule in RULES:
        for row in connection.execute(text(rule.query)).mappings():
            yield Finding(rule.kind, rule.sentence.format(**row))
    yield from _budgets(connection)
    yield from _models(connection, models_dir)


def _budgets(connection: Connection) -> Iterator[Finding]:
    """A study that ended by its number of trials has exactly that number."""
    for study, spec, finished in connection.execute(text(BUDGETS)):
        wanted = json.loads(spec)["budget"]["n_trials"]
        if finished != wanted:
            kind: Kind = "twice" if finished > wanted else "lost"
            yield Finding(kind, f"{study} must end with {wanted} finished trials, but has {finished}")


def _models(connection: Connection, models_dir: Path) -> Iterator[Finding]:
    """A model's file is there, and is the one that was tested."""
    for study, model, sha256 in connection.execute(text(MODELS)):
        file = models_dir / model / "weights.safetensors"
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            yield Finding("lost", f"the weights of model {model} of {study} are not in {file}, or others are")
