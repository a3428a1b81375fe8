"""The description of a tuning problem: the body of `POST /v1/studies`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tuner.specs.hyperparameters import MOVING, Hyperparameters
from tuner.specs.neighbours import CHANGES, usual
from tuner.specs.search_space import MAX_GRID, SearchSpace
from tuner.specs.spec import Spec
from tuner.specs.webhook import Webhook

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Of a study, a schedule or a data set."""

Name = Annotated[str, Field(pattern=NAME, examples=["mnist-quick"])]

Direction = Literal["maximize", "minimize"]


Metric = Literal["accuracy", "cross_entropy", "parameters", "seconds"]

BEST_DIRECTIONS: dict[Metric, Direction] = {
    "accuracy": "maximize",
    "cross_entropy": "minimize",
    "parameters": "minimize",
    "seconds": "minimize",
}

OPTIMISM_SEEDS = 3
"""With which the search's best configuration is trained again at the search's own size."""

GROWTH = 2
"""The rung's images, where the search has one."""

EXPECTED_SEEDS = 2
"""Of race and verdict, for a first idea of a job's length."""


class ObjectiveSpec(Spec):
    metric: Metric = Field(
        "accuracy",
        description="accuracy (0 to 1) and cross_entropy after the last epoch, on the subset's validation images; parameters: "
        "weights and biases of the net; seconds: of its training",
    )
    direction: Direction = Field("maximize", description="left out: the metric's own, which is the only one it takes")

    @model_validator(mode="before")
    @classmethod
    def _fill_direction(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "direction" in given:
            return given
        return {**given, "direction": BEST_DIRECTIONS.get(given.get("metric", "accuracy"), "maximize")}

    @model_validator(mode="after")
    def _check_direction(self) -> Self:
        if self.direction != (wanted := BEST_DIRECTIONS[self.metric]):
            raise ValueError(f"{self.metric} takes the direction {wanted}, but got {self.direction}")
        return self


class SamplerSpec(Spec):
    kind: Literal["tpe", "random", "grid", "qmc", "cmaes", "gp"] = "tpe"


LEARNING = ("tpe", "gp")
"""The samplers that learn from whatever trial they are shown; CMA-ES does from those of its own drawing."""


class PrunerSpec(Spec):
    kind: Literal["hyperband", "successive_halving", "median", "none"] = "hyperband"


class SubsetSpec(Spec):
    """What one trial of the search is trained and judged on."""

    train: int = Field(5000, ge=10, description="images")
    validation: int = Field(
        2000, ge=10, description="images, from the part of the training set that no trial trains on"
    )
    epochs: int = Field(5, ge=1, le=1000)


class BudgetSpec(Spec):
    """Totals, never "more"."""

    n_trials: int = Field(60, ge=1, le=100_000)
    timeout_seconds: float | None = Field(
        None, gt=0, description="of the whole job; with promotion the search gets half"
    )
    parallel: int | None = Field(None, ge=1, le=1024, description="trials at once; null: every worker")
    max_failed: int = Field(20, ge=0, description="more FAIL trials than this fail the job")
    no_improvement_trials: int | None = Field(None, ge=1, description="stop after so many trials without a better one")
    target: float | None = Field(None, description="stop when a trial reaches this value")
    trial_timeout_seconds: float | None = Field(600, gt=0, description="one trial's limit; over it the trial is FAIL")


class PromotionSpec(Spec):
    """The best few, and the default configuration, retrained on all training images."""

    top_k: int = Field(3, ge=1, le=50)
    max_seeds: int = Field(
        3,
        ge=1,
        le=50,
        description="of each contender in the race, and again for the verdict: a maximum, see `max_cost`",
    )
    epochs: int = Field(10, ge=1, le=1000)
    max_cost: float | None = Field(
        1.5,
        gt=0,
        description="a further seed is trained only where promotion, with it, takes at most so many times the training seconds "
        "of the search; the first seed of the race and two for the verdict are trained in any case. null: no such bound, nor has "
        "a deterministic study one",
    )

    def likely_seeds(self) -> int:
        """Of the race: with a `max_cost` there is hardly ever a second one."""
        return min(EXPECTED_SEEDS if self.max_cost is None else 1, self.max_seeds)

    def rung_size(self) -> int:
        """How many of the search's best are ranked anew on twice the images: a dozen for a top_k of 3."""
        return 4 * self.top_k

    def local_runs(self) -> int:
        """At most so many nets are trained beside the rung's best: one for each change, and one for all that has helped."""
        return (len(CHANGES) + 1) * self.top_k


LOCAL_SHARE = 0.5
"""What the nets beside the rung's best may take of the training seconds that `max_cost` leaves then."""

ASKING = 0.285
"""What an answer to a batch takes, where training on it takes one (docs/decisions.md, "A student is trained longer than its
teachers")."""

TEACHERS = 3
"""The winner's nets of verdict and race that teach a student, at most."""

PATIENCE = (2.0, 1.5, 1.0)
"""So many times as long as its teachers a student is trained, since what it can learn takes longer: the first for which there is
time."""


def student_cost(patience: float = PATIENCE[0], teachers: int = TEACHERS) -> float:
    """Seconds, where a member takes one: each teacher is asked for each batch."""
    return patience * (1 + ASKING * teachers)


class EnsembleSpec(Spec):
    """Several nets that decide together, and one that learns what they say; `promotion` says how long each is trained."""

    members: int = Field(
        5,
        ge=2,
        le=20,
        description="nets of the winner's configuration, each trained on a bootstrap sample; a maximum. The winner's nets of "
        "race and verdict join them",
    )
    student: bool = Field(
        True,
        description="train one net of the winner's configuration, beside the members and up to twice as long, on what at most "
        "three nets of the winner from verdict and race say",
    )
    temperature: float = Field(1.0, ge=1, le=20, description="of teachers and student, in the student's loss")
    soft_weight: float = Field(
        0.5, gt=0, le=1, description="of the teachers in the student's loss; the rest: the labels"
    )

    def epochs(self, promotion: PromotionSpec) -> int:
        """That are planned, of all training images."""
        return self.members * promotion.epochs + self.student * round(PATIENCE[0] * promotion.epochs)


class ConstraintsSpec(Spec):
    max_parameters: int | None = Field(
        None,
        ge=1,
        description="weights and biases of a net; a larger one is not trained: its trial is PRUNED as infeasible",
    )

    def violation(self, parameters: int) -> float:
        """By what share a net of so many is too large; 0 or less: it is not."""
        return parameters / self.max_parameters - 1 if self.max_parameters is not None else 0.0


GENERATION_SIZE = 16
"""Two workers wait for hardly anything, eight for half of the time; the sampler learns three times in a default study."""


class CommonSpec(Spec):
    """What every study says, whatever it tunes. A value that the service cannot honour yet is refused, never ignored."""

    name: Name
    sampler: SamplerSpec = SamplerSpec()
    pruner: PrunerSpec = PrunerSpec()
    budget: BudgetSpec = BudgetSpec()
    warm_start: tuple[str, ...] = Field((), max_length=0, description="of our own nets only")
    webhook: Webhook | None = Field(None, description="told when a job has ended; a URL alone has the default events")
    priority: int = Field(0, ge=-100, le=100, description="of the study's first job: a higher one is started first")
    seed: int = Field(0, ge=0, lt=2**31)
    deterministic: bool = False


class StudySpec(CommonSpec):
    """A study of our own nets. Only `name` is required."""

    dataset: Name = "mnist"
    objective: Literal["mlp"] = "mlp"
    search_space: SearchSpace = SearchSpace()
    objectives: tuple[ObjectiveSpec, ...] = Field(
        (ObjectiveSpec(),),
        min_length=1,
        max_length=2,
        description="accuracy, by which trials are pruned, ranked and promoted; and a second one for the Pareto front",
    )
    subset: SubsetSpec = SubsetSpec()
    promotion: PromotionSpec | None = PromotionSpec()
    ensemble: EnsembleSpec | None = Field(
        None,
        description="after the verdict's nets: a bag of the winner's configuration, and a student of it. A time limit cuts it "
        "down to what there is time for; the student, or without one the first two members, come before further seeds",
    )
    constraints: ConstraintsSpec = ConstraintsSpec()
    deterministic: bool = Field(
        False,
        description="the search is the same with one worker and with many, disturbed or not: it asks in generations and takes no "
        "time limit, neither of the job nor of a trial",
    )
    warm_start: tuple[Name, ...] = Field(
        (),
        max_length=5,
        description="earlier studies of the same data set, objectives and subset; their trials inform the sampler where their "
        "configurations lie in this study's space, and count as none of its own",
    )
    generation_size: int | None = Field(
        None, ge=1, le=256, description=f"of a deterministic search; null: {GENERATION_SIZE}"
    )

    @model_validator(mode="before")
    @classmethod
    def _lift_the_trials_limit(cls, given: Any) -> Any:
        """A trial's time limit has a default, which a deterministic search leaves out."""
        if not isinstance(given, Mapping) or given.get("deterministic") is not True:
            return given
        budget = given.get("budget", {})
        return {**given, "budget": {"trial_timeout_seconds": None, **budget}} if isinstance(budget, Mapping) else given

    @model_validator(mode="after")
    def _check_deterministic(self) -> Self:
        if not self.deterministic:
            if self.generation_size is not None:
                raise ValueError(
                    f"generation_size goes with deterministic: true, but got {self.generation_size} without it"
                )
            return self
        for name in ("timeout_seconds", "trial_timeout_seconds"):
            limit = getattr(self.budget, name)
            if limit is not None:
                raise ValueError(f"a deterministic study takes no time limit, but got budget.{name}={limit:g}")
        return self

    def said(self) -> dict[str, Any]:
        """As JSON, from which this spec comes back, with all that it leaves to the data."""
        return self.model_dump(mode="json", exclude=self.left_to_data())

    def left_to_data(self) -> dict[str, set[str]]:
        """What was left out, and is fitted to the data, by field; `exclude` of `model_dump` takes it as it is."""
        left = {"subset": {"train", "validation"} - self.subset.model_fields_set}
        left["search_space"] = set(MOVING) - self.search_space.model_fields_set
        return {field: names for field, names in left.items() if names}

    def fitted_like(self, other: "StudySpec") -> "StudySpec":
        """This spec, with what it leaves to the data as `other` has it."""
        parts = {
            field: getattr(self, field).model_copy(
                update={name: getattr(getattr(other, field), name) for name in names}
            )
            for field, names in self.left_to_data().items()
        }
        return self.model_copy(update=parts)

    @model_validator(mode="after")
    def _check_objectives(self) -> Self:
        metrics = [objective.metric for objective in self.objectives]
        if metrics[0] != "accuracy" or len(set(metrics)) < len(metrics):
            raise ValueError(f"objectives must be accuracy and at most one other metric, but got {', '.join(metrics)}")
        check_sampler(self.sampler, len(metrics))
        if self.deterministic and "seconds" in metrics:
            raise ValueError("a deterministic study takes no objective that a clock measures, but got seconds")
        return self

    @model_validator(mode="after")
    def _check_ensemble(self) -> Self:
        if self.ensemble is not None and self.promotion is None:
            raise ValueError("ensemble needs promotion, whose winner it is made of, but got promotion=null")
        return self

    @model_validator(mode="after")
    def _check_warm_start(self) -> Self:
        if len(set(self.warm_start)) < len(self.warm_start):
            raise ValueError(f"warm_start must name each study once, but got {', '.join(self.warm_start)}")
        if self.warm_start and self.sampler.kind not in LEARNING:
            raise ValueError(f"warm_start takes the sampler {' or '.join(LEARNING)}, but got {self.sampler.kind}")
        return self

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if self.sampler.kind == "grid":
            check_grid(self.search_space.continuous(), self.search_space.size())
        return self

    def default(self) -> Hyperparameters:
        return self.search_space.default()

    def default_params(self) -> dict[str, Any] | None:
        """The default configuration as Optuna's parameters, or None where the space excludes it."""
        return self.search_space.params(self.default())

    def usual_params(self) -> dict[str, Any] | None:
        """Likewise, the default configuration with what mostly helps. Samplers that learn from any trial learn it early; None for
        others, and where the space has no such point."""
        if self.sampler.kind not in LEARNING:
            return None
        point = usual(self.search_space)
        return None if point is None else self.search_space.params(point)

    def directions(self) -> list[Direction]:
        """Of each objective, the first one first."""
        return [objective.direction for objective in self.objectives]

    def last_step(self) -> int:
        """The step of a trial's last report."""
        return self.subset.epochs

    def generation(self) -> int | None:
        """So many trials are asked for together; None: each by all that is known when it starts."""
        return (self.generation_size or GENERATION_SIZE) if self.deterministic else None

    def promoted_epochs(self, promotion: PromotionSpec | None, ensemble: EnsembleSpec | None) -> int:
        """The epochs that these train if each of the race takes two seeds: it may be fewer, or more."""
        if promotion is None:
            return 0
        again = min(promotion.rung_size(), self.budget.n_trials) + OPTIMISM_SEEDS + promotion.local_runs()
        full = (promotion.top_k + 3) * min(EXPECTED_SEEDS, promotion.max_seeds)
        return (
            again * self.subset.epochs
            + full * promotion.epochs
            + (0 if ensemble is None else ensemble.epochs(promotion))
        )

    def promoted_images(self, promotion: PromotionSpec | None, ensemble: EnsembleSpec | None, train_count: int) -> int:
        """Likewise, those that make up the time, each as often as it is trained on: the race takes the seeds that are likely, and
        the default configuration's nets are small."""
        if promotion is None:
            return 0
        climbing = min(promotion.rung_size(), self.budget.n_trials) + promotion.local_runs()
        full = (
            promotion.top_k * promotion.likely_seeds() + min(EXPECTED_SEEDS, promotion.max_seeds)
        ) * promotion.epochs
        bagged = (
            0 if ensemble is None else round((ensemble.members + ensemble.student * student_cost()) * promotion.epochs)
        )
        return (GROWTH * climbing + OPTIMISM_SEEDS) * self.subset.epochs * self.subset.train + (
            full + bagged
        ) * train_count


def check_sampler(sampler: SamplerSpec, objectives: int) -> None:
    """Raises ValueError where the sampler does not take so many objectives."""
    if sampler.kind == "cmaes" and objectives > 1:
        raise ValueError("cmaes takes one objective, but got several; tpe, gp, random, qmc and grid take more")


def check_grid(continuous: list[str], size: int | None) -> None:
    """Raises ValueError where a grid cannot hold a space with these continuous dimensions, or of so many points."""
    if continuous:
        raise ValueError(f"a grid needs choices, whole numbers or steps, but {', '.join(continuous)} is continuous")
    if size is not None and size > MAX_GRID:
        raise ValueError(f"a grid may hold at most {MAX_GRID:,} points, but this one has {size:,}")
