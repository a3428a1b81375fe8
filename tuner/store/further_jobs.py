"""Further work on a study that is there: the one road by which it gets a second job, and by which its budget is edited."""

from pydantic import ValidationError
from sqlalchemy import Connection, update

from tuner.errors import Conflict, InvalidInput
from tuner.specs.job import PromoteWork, SearchWork, read_work
from tuner.specs.outside_study import OutsideStudySpec, read_spec
from tuner.specs.study import BudgetSpec, StudySpec
from tuner.store import jobs, revisions, studies, trials
from tuner.store.jobs import ENDED, JobKind
from tuner.store.studies import Study
from tuner.store.tables import jobs as job_rows


def queue_job(connection: Connection, study_id: int, work: SearchWork | PromoteWork) -> int:
    """The id of a job that does `work` on the study, once every earlier job of the study has ended.

    Raises Conflict where the study is foreign, where a job of it has not ended and `work.queue` is not set, or where there is
    nothing to promote; InvalidInput where the new total of trials is no more than the study has or will have.
    """
    revisions.lock(connection, study_id)
    study = studies.find_study_by_id(connection, study_id)
    assert study is not None
    spec, job = studies.own_spec(study), studies.own_job(study)
    waits = job.state not in ENDED
    if waits and not work.queue:
        rule = "a study's next job needs its last one to have ended, or `queue` to be set"
        raise Conflict(f"{rule}, but job {job.id} of {study.name!r} is {job.state}")
    match work:
        case SearchWork():
            _check_total(connection, study_id, work.n_trials, spec.budget.n_trials if waits else 0)
            total = work.n_trials
        case PromoteWork():
            if isinstance(spec, OutsideStudySpec):
                raise Conflict(f"only our own nets can be promoted, but {study.name!r} has an external objective")
            if not waits and not trials.best_trials(connection, study_id, study.minimize, 1):
                raise Conflict(f"promotion needs a trial that is COMPLETE and not void, but {study.name!r} has none")
            promotion, ensemble = work.promotion(spec.promotion), work.ensemble_of(spec.ensemble)
            total = trials.count_trials(connection, study_id) + spec.promoted_epochs(promotion, ensemble)
    return jobs.create_job(
        connection,
        study_id,
        JobKind.EXTERNAL if isinstance(spec, OutsideStudySpec) else JobKind(work.kind),
        total,
        work=work.model_dump(mode="json"),
        priority=work.priority,
        after_job_id=job.id if waits else None,
    )


def total_trials(study: Study) -> int:
    """How many trials the study is to have, by its unfinished job or else by its budget."""
    total = studies.own_spec(study).budget.n_trials
    work = None if study.job is None or study.job.work is None else read_work.validate_python(study.job.work)
    return max(total, work.n_trials) if isinstance(work, SearchWork) else total


def _check_total(connection: Connection, study_id: int, n_trials: int, coming: int) -> None:
    """`coming`: the total of the job that is under way."""
    present = trials.count_trials(connection, study_id)
    if n_trials <= max(present, coming):
        has = f"has {present} trials" + (f" and goes on to {coming}" if coming > present else "")
        rule = "n_trials is the new total, and must be more than the study has"
        raise InvalidInput(f"{rule}, but got {n_trials} where it {has}", ("n_trials",))


def edit_budget(connection: Connection, study: Study, budget: BudgetSpec) -> None:
    """The study's budget from now on; its job, which has not ended, follows within a second.

    Raises InvalidInput where it does not go with the rest of the study's spec.
    """
    spec, job = studies.own_spec(study), study.job
    if job is None or job.state in ENDED:
        raise Conflict(f"only an unfinished study's budget can be edited, but {study.name!r} is {job and job.state}")
    spec = spec.model_copy(update={"budget": budget})
    try:
        read_spec.validate_python(spec.model_dump())
    except ValidationError as error:
        raise InvalidInput(error.errors()[0]["msg"], ("budget",)) from error
    work = None if job.work is None else read_work.validate_python(job.work)
    values: dict[str, object] = {}
    if work is None:
        values = {"progress_total": budget.n_trials + spec.promoted_epochs(spec.promotion, spec.ensemble)}
    elif isinstance(work, SearchWork):
        work = work.model_copy(update={"n_trials": budget.n_trials})
        values = {"progress_total": budget.n_trials, "work": work.model_dump(mode="json")}
    if values:
        connection.execute(update(job_rows).where(job_rows.c.id == job.id).values(values))
    studies.write_spec(connection, study.id, spec)


def begin(connection: Connection, study: Study, work: SearchWork | PromoteWork | None) -> StudySpec | OutsideStudySpec:
    """The study's spec as the job that begins, or goes on, is to work by it: a search raises the study's total to its own."""
    spec = studies.own_spec(study)
    if isinstance(work, SearchWork) and work.n_trials > spec.budget.n_trials:
        spec = spec.model_copy(update={"budget": spec.budget.model_copy(update={"n_trials": work.n_trials})})
        studies.write_spec(connection, study.id, spec)
    return spec
