"""The ensemble: a bag of the winner's configuration, and a student of it.

The members are trained on bootstrap samples with fresh seeds; the winner's nets of race and verdict, which are paid for, join
them. A greedy selection from all nets of race, verdict and bag takes the bag's place where it is better on those validation
images that none of them was trained on. The student has the winner's configuration, too, and learns what those other nets of the
winner say of the images, as it sees them moved. Its training is the longest, and so is the first to begin.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from tuner.data.catalogue import images_of
from tuner.executors.protocol import Teacher
from tuner.nets.bagging import average, cross_entropy, pack, select
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import PATIENCE, TEACHERS, EnsembleSpec, PromotionSpec
from tuner.specs.verdict import BagMember, Ensemble
from tuner.stages.allowance import allowance, refit_seconds
from tuner.stages.finalists import Finals
from tuner.stages.job import RunningJob
from tuner.stages.progress import ahead
from tuner.stages.promotion import Promoted
from tuner.stages.race import full_plan
from tuner.stages.retraining import Contender, retrain, stage_seeds
from tuner.store.model_files import WEIGHTS, AnyNet, StoredBag, remove_weights, write_weights
from tuner.store.runs import Run, RunState

CHUNK = 5000
"""Images that a net is asked for between two signs of life."""


@dataclass(frozen=True)
class Built:
    """A model that stands on the verdict's frozen list beside the winner's and the default's nets."""

    kind: Literal["bag", "student"]
    weights: bytes
    net: AnyNet
    hyperparameters: Hyperparameters
    parameters: int
    validation_accuracy: float
    seed: int
    best_epoch: int
    members: tuple[BagMember, ...] = ()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.weights).hexdigest()


@dataclass(frozen=True)
class Assembled:
    """`built`: the bag, where there is one, and then the student."""

    built: tuple[Built, ...]
    told: Ensemble


def assemble(job: RunningJob, promotion: PromotionSpec, promoted: Promoted, finals: Finals) -> Assembled | None:
    """None where the study wants none. What the time limit leaves no time for is left out, and told."""
    spec = job.ensemble
    if spec is None:
        return None
    job.enter("ensemble")
    return _Assembling(job, promotion, spec, promoted, finals).run()


@dataclass(frozen=True)
class _Extent:
    members: int
    student: bool


class _Assembling:
    def __init__(
        self, job: RunningJob, promotion: PromotionSpec, spec: EnsembleSpec, promoted: Promoted, finals: Finals
    ) -> None:
        self._job, self._promotion, self._spec = job, promotion, spec
        self._raced, self._meter = promoted.raced, promoted.meter
        self._finals = finals
        raced = [run for name in sorted(self._raced.runs) for run in self._raced.runs[name]]
        # A net that is too large to win is none for a bag.
        self._paid = [run for run in [*raced, *finals.fresh_runs()] if run.contender not in self._raced.race.aside]
        self._student_seed, *self._member_seeds = stage_seeds(job.spec.seed, "ensemble", spec.members + 1)
        # By its configuration's name: should another one win after a restart, its members are others.
        winner = self._raced.winner
        self._member = Contender(f"member-{winner.name}", winner.hyperparameters, bootstrap=True)
        self._own = [run for run in reversed(self._paid) if run.contender == winner.name]
        self._images, self._labels = images_of(job.dataset, job.refit_slice.validation)

    def run(self) -> Assembled:
        extent = self._affordable()
        members, taught = self._train(extent)
        bag, greedy = self._bag(members)
        student = None if taught is None else self._student(taught)
        told = Ensemble(
            members_wanted=self._spec.members,
            members_trained=len(members),
            selection="none" if bag is None else "greedy" if greedy else "bag",
            members=() if bag is None else bag.members,
            words=self._words(len(members), bag, greedy, student),
        )
        return Assembled(tuple(one for one in (bag, student) if one is not None), told)

    def _affordable(self) -> _Extent:
        """What there is time for, the student before members; nothing more after the test set was opened."""
        begun = self._job.runs("ensemble")
        mine = [run for run in begun if run.contender == self._member.name]
        taught = [run for run in begun if run.contender.startswith("student")]
        fewest = _Extent(len(mine), bool(taught))
        if self._job.has_opened_test():
            return fewest
        seconds, left = self._seconds(), allowance(self._job, self._promotion)
        ended = sum(run.state != RunState.RUNNING for run in mine)
        student_ended = any(run.state != RunState.RUNNING for run in taught)
        for student in [True] if taught else sorted({self._spec.student, False}, reverse=True):
            for count in range(self._spec.members, len(mine) - 1, -1):
                ahead_of_it = self._spec.batch(seconds, count - ended, student and not student_ended)
                if left.in_time(ahead_of_it):
                    return _Extent(count, student)
        return fewest

    def _seconds(self) -> float:
        """Of a member, by the winner's fresh nets, which have as many images, or else by its net in the race."""
        if self._finals.fresh:
            return max(net.run.seconds or 0.0 for net in self._finals.winner.nets)
        return refit_seconds(self._job, self._raced.runs[self._raced.winner.name][0].seconds or 0.0)

    def _train(self, extent: _Extent) -> tuple[list[Run], Run | None]:
        """The members that reached their end, in the order of their seeds, and the student's run if it did."""
        seeds = tuple(self._member_seeds[: extent.members])
        members = replace(self._member, seeds=seeds)
        folder = self._job.models_dir / f"teacher-{self._job.lease.job_id}"
        try:
            student = self._pupil(folder) if extent.student else None
            wanted = [members] if student is None else [student, members]
            epochs = (extent.members + PATIENCE * extent.student) * self._promotion.epochs
            planned = ahead(self._job, self._job.challenge_epochs)
            show = self._meter.measure("ensemble", epochs, self._job.refit_slice.train_count, planned)
            found = retrain(self._job, full_plan(self._job, self._promotion, "ensemble", ()), wanted, show)
        finally:
            remove_weights(folder)
        ended = {(run.contender, run.seed): run for run in found if run.state == RunState.COMPLETE}
        trained = [ended[key] for seed in seeds if (key := (members.name, seed)) in ended]
        return trained, None if student is None else ended.get((student.name, self._student_seed))

    def _pupil(self, folder: Path) -> Contender:
        """The student-to-be, with its teachers' weights in `folder`: the winner's nets of verdict and then race."""
        teachers = self._own[:TEACHERS]
        weights = pack([load(self._job.weights(run)) for run in teachers])
        # Its name holds its teachers: a restart that comes to others trains another student.
        digest = hashlib.sha256(weights).hexdigest()
        self._job.outlast(lambda: write_weights(folder, weights))
        return Contender(
            f"student-{digest[:8]}",
            self._raced.winner.hyperparameters,
            epochs=PATIENCE * self._promotion.epochs,
            seeds=(self._student_seed,),
            teacher=Teacher(
                folder / WEIGHTS,
                tuple(run.hyperparameters for run in teachers),
                (1,) * len(teachers),
                self._spec.temperature,
                self._spec.soft_weight,
            ),
        )

    def _bag(self, members: list[Run]) -> tuple[Built | None, bool]:
        """The better of all the winner's nets and of the greedy selection, if there are two for any; whether it is the selection.

        Better is the lower cross-entropy on the images by which the selection was made.
        """
        pool = [*members, *self._paid]
        said = [self._ask(self._job.net(run), self._images) for run in pool]
        choices = []
        alike = [k for k, run in enumerate(pool) if run in [*members, *self._own]]
        if len(alike) > 1:
            choices.append(alike)
        chosen = select(said, self._labels, self._spec.members)
        if len(set(chosen)) > 1:
            choices.append(chosen)
        if not choices:
            return None, False
        answers = [average([said[k] for k in one]) for one in choices]
        best = int(np.argmin([cross_entropy(answer, self._labels) for answer in answers]))
        right = float((answers[best].argmax(1) == self._labels).mean())
        return self._join(pool, choices[best], right), choices[best] is chosen

    def _join(self, pool: list[Run], chosen: list[int], validation_accuracy: float) -> Built:
        places = sorted(set(chosen))
        nets, votes = [pool[k] for k in places], tuple(chosen.count(k) for k in places)
        weights = pack([load(self._job.weights(run)) for run in nets])
        return Built(
            kind="bag",
            weights=weights,
            net=StoredBag(tuple(self._job.net(run) for run in nets), votes),
            hyperparameters=self._raced.winner.hyperparameters,
            parameters=sum(run.parameters for run in nets),
            validation_accuracy=validation_accuracy,
            seed=nets[0].seed,
            best_epoch=max(run.best_epoch or 0 for run in nets),
            members=tuple(
                BagMember(
                    contender="member" if run.stage == "ensemble" else run.contender,
                    hyperparameters=run.hyperparameters,
                    seed=run.seed,
                    bootstrap=run.stage == "ensemble",
                    votes=count,
                )
                for run, count in zip(nets, votes, strict=True)
            ),
        )

    def _student(self, run: Run) -> Built:
        return Built(
            kind="student",
            weights=self._job.weights(run),
            net=self._job.net(run),
            hyperparameters=run.hyperparameters,
            parameters=run.parameters,
            validation_accuracy=run.validation_accuracy or 0.0,
            seed=run.seed,
            best_epoch=run.best_epoch or 0,
        )

    def _ask(self, net: AnyNet, images: NDArray[Any]) -> NDArray[np.float32]:
        """The net's probabilities (images, classes)."""
        parts = []
        for first in range(0, len(images), CHUNK):
            parts.append(net.predict(images[first : first + CHUNK]))
            self._job.tick()
        return np.concatenate(parts).astype(np.float32)

    def _words(self, trained: int, bag: Built | None, greedy: bool, student: Built | None) -> str:
        words = [f"{trained} of {self._spec.members} members were trained"]
        if trained < self._spec.members:
            words.append("the time limit left no time for more, or a run did not reach its end")
        if bag is None:
            words.append("there is no bag, since no two nets were better than the best one alone")
        elif greedy:
            words.append(
                "the bag is a greedy selection from the nets of race, verdict and bag, which was better on the validation images "
                "that none of them was trained on"
            )
        if not self._finals.fresh:
            words.append(
                "the single net is the race's, since there was no time for a fresh one, and has fewer images than these"
            )
        if self._spec.student and student is None:
            words.append("there was no time or no end for a student")
        return "; ".join(words)
