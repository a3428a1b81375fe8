"""The ensemble: a bag of the winner's configuration, and a student of it.

The members are trained on bootstrap samples with fresh seeds. A greedy selection from all nets of race, verdict and bag takes
the bag's place where it is better on those validation images that none of them was trained on. The student has the winner's
configuration, and learns what the bag says of the images, as it sees them moved.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from tuner.data.catalogue import images_of
from tuner.executors.protocol import Teacher
from tuner.nets.bagging import average, cross_entropy, pack, select
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import EnsembleSpec, PromotionSpec
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
        self._images, self._labels = images_of(job.dataset, job.refit_slice.validation)

    def run(self) -> Assembled:
        extent = self._affordable()
        members = self._train_members(extent)
        bag, greedy = self._bag(members)
        student = self._student(bag) if bag is not None and extent.student else None
        told = Ensemble(
            members_wanted=self._spec.members,
            members_trained=len(members),
            selection="none" if bag is None else "greedy" if greedy else "bag",
            members=() if bag is None else bag.members,
            words=self._words(len(members), bag, greedy, student),
        )
        return Assembled(tuple(one for one in (bag, student) if one is not None), told)

    def _affordable(self) -> _Extent:
        """What there is time for; nothing more after the test set was opened. A student comes before members: the nets that there
        are can teach it, too."""
        begun = self._job.runs("ensemble")
        mine = [run for run in begun if run.contender == self._member.name]
        members, ended = len(mine), sum(run.state != RunState.RUNNING for run in mine)
        student_begun = any(run.contender.startswith("student") for run in begun)
        if student_begun or self._job.has_opened_test():
            return _Extent(members, student_begun)
        seconds, left = self._seconds(), allowance(self._job, self._promotion)
        for student in sorted({self._spec.student, False}, reverse=True):
            fewest = max(members, 2 - len(self._paid)) if student else members
            for count in range(self._spec.members, fewest - 1, -1):
                if left.in_time([seconds] * (count - ended), [seconds * self._spec.student_cost()] * student):
                    return _Extent(count, student)
        return _Extent(members, student=False)

    def _seconds(self) -> float:
        """Of a member, by the winner's fresh nets, which have as many images, or else by its net in the race."""
        if self._finals.fresh:
            return max(net.run.seconds or 0.0 for net in self._finals.winner.nets)
        return refit_seconds(self._job, self._raced.runs[self._raced.winner.name][0].seconds or 0.0)

    def _train_members(self, extent: _Extent) -> list[Run]:
        """Those that reached their end, in the order of their seeds."""
        seeds = tuple(self._member_seeds[: extent.members])
        if not seeds:
            return []
        found = self._train(self._member, seeds, extent.student * self._promotion.epochs)
        return sorted(found, key=lambda run: seeds.index(run.seed))

    def _train(self, contender: Contender, seeds: tuple[int, ...], later: int) -> list[Run]:
        epochs = len(seeds) * self._promotion.epochs
        planned = ahead(self._job, later + self._job.challenge_epochs)
        show = self._meter.measure("ensemble", epochs, self._job.refit_slice.train_count, planned)
        plan = full_plan(self._job, self._promotion, "ensemble", seeds)
        found = retrain(self._job, plan, [contender], show)
        mine = [run for run in found if run.contender == contender.name and run.seed in seeds]
        return [run for run in mine if run.state == RunState.COMPLETE]

    def _bag(self, members: list[Run]) -> tuple[Built | None, bool]:
        """The better of all members and of the greedy selection, if there are two nets for any; whether it is the selection.

        Better is the lower cross-entropy on the images by which the selection was made.
        """
        pool = [*members, *self._paid]
        said = [self._ask(self._job.net(run), self._images) for run in pool]
        choices = []
        if len(members) > 1:
            choices.append(list(range(len(members))))
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

    def _student(self, bag: Built) -> Built | None:
        """None where its training did not reach its end."""
        # Its name holds its teacher: a restart that comes to another bag trains another student.
        digest = hashlib.sha256(repr((bag.sha256, [member.votes for member in bag.members])).encode()).hexdigest()
        folder = self._job.models_dir / f"teacher-{self._job.lease.job_id}"
        members = bag.members
        teacher = Teacher(
            folder / WEIGHTS,
            tuple(member.hyperparameters for member in members),
            tuple(member.votes for member in members),
            self._spec.temperature,
            self._spec.soft_weight,
        )
        self._job.outlast(lambda: write_weights(folder, bag.weights))
        try:
            contender = Contender(f"student-{digest[:8]}", self._raced.winner.hyperparameters, teacher=teacher)
            found = self._train(contender, (self._student_seed,), 0)
        finally:
            remove_weights(folder)
        if not found:
            return None
        [run] = found
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
            words.append("there was no bag, no time or no end for a student")
        return "; ".join(words)
