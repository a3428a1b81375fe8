"""The ensemble: a bag of the winner's configuration, and a student of it.

The members are trained on bootstrap samples with fresh seeds; the winner's nets of race and verdict, which are paid for, join
them. A greedy selection from all nets of race, verdict and bag takes the bag's place where it is better on those validation
images that none of them was trained on. The student has the winner's configuration, too, and learns what those other nets of the
winner say of the images, as it sees them moved. Its training is the longest, and so is the first to begin.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from tuner.data.catalogue import images_of
from tuner.executors.protocol import Teacher
from tuner.nets.bagging import average, choose, pack
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import PATIENCE, TEACHERS, EnsembleSpec, PromotionSpec, student_cost
from tuner.specs.verdict import BagMember, Ensemble
from tuner.stages.allowance import allowance, refit_seconds
from tuner.stages.finalists import Finals
from tuner.stages.job import RunningJob
from tuner.stages.progress import ahead
from tuner.stages.promotion import Promoted
from tuner.stages.race import full_plan
from tuner.stages.retraining import Contender, ended_alone, retrain, stage_seeds
from tuner.store.model_files import WEIGHTS, AnyNet, StoredBag, remove_weights, write_weights
from tuner.store.runs import Run, RunState

CHUNK = 5000
"""Images that a net is asked for between two signs of life."""


@dataclass(frozen=True)
class Built:
    """A model that is kept."""

    kind: Literal["single", "default", "bag", "student"]
    weights: bytes
    net: AnyNet
    hyperparameters: Hyperparameters
    parameters: int
    validation_accuracy: float
    seed: int
    epochs: int
    best_epoch: int
    members: tuple[BagMember, ...] = ()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.weights).hexdigest()


def built_of(job: RunningJob, kind: Literal["single", "default", "student"], run: Run, epochs: int) -> Built:
    """The net of a run of so many epochs that has reached its end."""
    return Built(
        kind=kind,
        weights=job.weights(run),
        net=job.net(run),
        hyperparameters=run.hyperparameters,
        parameters=run.parameters,
        validation_accuracy=run.validation_accuracy or 0.0,
        seed=run.seed,
        epochs=epochs,
        best_epoch=run.best_epoch or 0,
    )


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
        winner = self._raced.winner
        self._teachers = [run for run in reversed(self._paid) if run.contender == winner.name][:TEACHERS]
        self._lesson = pack([load(job.weights(run)) for run in self._teachers])
        self._folder = job.models_dir / f"teacher-{job.lease.job_id}"
        student_seed, *self._seeds = stage_seeds(job.spec.seed, "ensemble", spec.members + 1)
        # By the winner's name and the teachers' weights: should these be others after a restart, members and student are, too.
        self._members = Contender(f"member-{winner.name}", winner.hyperparameters, bootstrap=True)
        # The longest first; of very few epochs two can come to the same.
        lengths = dict.fromkeys(round(patience * promotion.epochs) for patience in PATIENCE)
        self._students = [self._student(epochs, student_seed) for epochs in lengths if spec.student]
        self._images, self._labels = images_of(job.dataset, job.refit_slice.validation)

    def _student(self, epochs: int, seed: int) -> Contender:
        return Contender(
            f"student-{hashlib.sha256(self._lesson).hexdigest()[:8]}-{epochs}",
            self._members.hyperparameters,
            epochs=epochs,
            seeds=(seed,),
            teacher=Teacher(
                self._folder / WEIGHTS,
                tuple(run.hyperparameters for run in self._teachers),
                (1,) * len(self._teachers),
                self._spec.temperature,
                self._spec.soft_weight,
            ),
        )

    def run(self) -> Assembled:
        wanted = self._affordable()
        trained = self._train(wanted)
        members = [run for run in trained if run.contender == self._members.name]
        bag, greedy = self._bag(members)
        epochs = {contender.name: contender.epochs for contender in self._students}
        student = next(
            (
                built_of(self._job, "student", run, epochs[run.contender] or 0)
                for run in trained
                if run.contender in epochs
            ),
            None,
        )
        told = Ensemble(
            members_wanted=self._spec.members,
            members_trained=len(members),
            selection="none" if bag is None else "greedy" if greedy else "bag",
            members=() if bag is None else bag.members,
            words=self._words(len(members), bag, greedy, student),
        )
        return Assembled(tuple(one for one in (bag, student) if one is not None), told)

    def _affordable(self) -> list[Contender]:
        """The student and the members that there is time for, the student before further members; after the test set was opened,
        those whose nets have ended."""
        if self._job.has_opened_test():
            return [ended_alone(self._job, "ensemble", one) for one in (*self._students, self._of(len(self._seeds)))]
        runs = self._job.runs("ensemble")
        ended = Counter(run.contender for run in runs if run.state != RunState.RUNNING)
        begun = Counter(run.contender for run in runs)
        seconds, left, fewest = self._seconds(), allowance(self._job, self._promotion), begun[self._members.name]
        mine = [[one] for one in self._students if begun[one.name]]
        for students in mine or [*([one] for one in self._students), []]:
            taught = [seconds * self._cost(one) for one in students if not ended[one.name]]
            if mine and left.seconds is not None:  # it goes on in any case, and has some of its epochs behind it
                taught = [min(one, left.seconds) for one in taught]
            for count in range(len(self._seeds), fewest - 1, -1):
                if left.in_time([*taught, *[seconds] * (count - ended[self._members.name])]):
                    return [*students, self._of(count)]
        return [*(mine[0] if mine else []), self._of(fewest)]

    def _of(self, count: int) -> Contender:
        """So many members."""
        return replace(self._members, seeds=tuple(self._seeds[:count]))

    def _cost(self, student: Contender) -> float:
        """Seconds, where a member takes one."""
        return student_cost((student.epochs or 0) / self._promotion.epochs, len(self._teachers))

    def _seconds(self) -> float:
        """Of a member, by the winner's fresh nets, which have as many images, or else by its net in the race."""
        if self._finals.fresh:
            return max(net.run.seconds or 0.0 for net in self._finals.winner.nets)
        return refit_seconds(self._job, self._raced.runs[self._raced.winner.name][0].seconds or 0.0)

    def _train(self, wanted: list[Contender]) -> list[Run]:
        """The runs that reached their end, in the order of their seeds."""
        keys = [(one.name, seed) for one in wanted for seed in one.seeds or ()]
        epochs = sum((one.epochs or self._promotion.epochs) * len(one.seeds or ()) for one in wanted)
        planned = ahead(self._job, self._job.challenge_epochs)
        show = self._meter.measure("ensemble", epochs, self._job.refit_slice.train_count, planned)
        if any(one.teacher for one in wanted):
            self._job.outlast(lambda: write_weights(self._folder, self._lesson))
        runs = retrain(self._job, full_plan(self._job, self._promotion, "ensemble", ()), wanted, show)
        remove_weights(self._folder)
        ended = {(run.contender, run.seed): run for run in runs if run.state == RunState.COMPLETE}
        return [ended[key] for key in keys if key in ended]

    def _bag(self, members: list[Run]) -> tuple[Built | None, bool]:
        """The better of all the winner's nets and of the greedy selection; whether it is the selection."""
        pool = [*members, *self._paid]
        said = [self._ask(self._job.net(run), self._images) for run in pool]
        own = (self._members.name, self._raced.winner.name)
        alike = [k for k, run in enumerate(pool) if run.contender in own]
        chosen, greedy = choose(said, self._labels, self._spec.members, alike)
        if not chosen:
            return None, False
        right = float((average([said[k] for k in chosen]).argmax(1) == self._labels).mean())
        return self._join(pool, chosen, right), greedy

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
            epochs=self._promotion.epochs,
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
        if student is not None and student.epochs < round(PATIENCE[0] * self._promotion.epochs):
            words.append(f"for want of time the student was trained for {student.epochs} epochs only")
        return "; ".join(words)
