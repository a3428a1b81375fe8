"""A trial's record brought here, trained again, and the outcome told. It loads what trains, so it is imported late."""

from contextlib import closing

import typer

from tuner.cli.tables import differences_table, print_table
from tuner.client.answers import StudyStatus, TrialWithCurves
from tuner.data.catalogue import check_same_data, open_dataset
from tuner.errors import InvalidInput
from tuner.executors.local import LocalExecutor
from tuner.settings import Settings
from tuner.specs.epoch import EpochRecord
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import StudySpec
from tuner.stages.replay import Replay, TrialRecord, replay


def replay_here(study: StudyStatus, trial: TrialWithCurves) -> bool:
    """Whether every number came out equal; which did not is told."""
    record = record_of(trial)
    if not isinstance(study.spec, StudySpec):
        raise InvalidInput(f"only a trial of our own nets can be replayed, but those of {study.name!r} are not")
    dataset = open_dataset(study.spec.dataset, Settings().datasets_dir)
    check_same_data(study.name, study.dataset_checksum, dataset)
    with closing(LocalExecutor(slots=1)) as executor:
        outcome = replay(record, study.spec, dataset, executor)
    _tell(study.name, record, outcome)
    return not outcome.differences


def record_of(trial: TrialWithCurves) -> TrialRecord:
    if not isinstance(trial.hyperparameters, Hyperparameters) or trial.seed is None:
        raise InvalidInput(f"a replay needs hyperparameters and a seed, but trial {trial.number} has none on record")
    curves = {name: trial.curves[name] for name in EpochRecord.model_fields if name in trial.curves}
    epochs = (dict(zip(curves, row, strict=True)) for row in zip(*curves.values(), strict=True))
    return TrialRecord(
        number=trial.number,
        state=trial.state,
        hyperparameters=trial.hyperparameters,
        seed=trial.seed,
        value=trial.value,
        reason=trial.reason,
        detail=trial.detail,
        epochs=tuple(EpochRecord.model_validate(epoch) for epoch in epochs),
        build=trial.build,
    )


def _tell(study: str, record: TrialRecord, outcome: Replay) -> None:
    if outcome.differences or outcome.builds:
        print_table(differences_table([*outcome.builds, *outcome.differences]))
    if record.build is None:
        typer.echo("the build that trained it was not recorded")
    elif outcome.builds:
        typer.echo("another build or processor than the recorded one may round otherwise")
    count = len(outcome.differences)
    found = f"{count} {'differs' if count == 1 else 'differ'}" if count else "all are equal, bit for bit"
    typer.echo(f"trial {record.number} of {study}: {outcome.compared} numbers of {len(record.epochs)} epochs; {found}")
