"""How well importances of few trials agree with those of many, by the share of the trials that counts as good.

    python -m benchmarks.importances

Trials of a random search over six continuous parameters and a choice, with known weights and noise; the truth is PED-ANOVA over
4,000 of them. Printed is the mean over 60 draws of Kendall's τ with that truth, and how often the first parameter is the right
one.
"""

import warnings

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial
from scipy.stats import kendalltau

from tuner.statistics.importances import TARGET, in_memory

WEIGHTS = (4.0, 2.0, 1.0, 0.5, 0.25, 0.0)
GAINS = (0.0, 0.4, 0.2)
NOISE = 0.05
TRUTH, DRAWS = 4000, 60
COUNTS = (10, 15, 20, 30, 40, 60, 100, 200)
OPTUNAS = 0.1

SPACE: dict[str, BaseDistribution] = {
    **{f"x{k}": FloatDistribution(0, 1) for k in range(len(WEIGHTS))},
    "c": CategoricalDistribution(range(len(GAINS))),
}


def draw(count: int, generator: np.random.Generator) -> list[FrozenTrial]:
    trials = []
    for _ in range(count):
        point, choice = generator.random(len(WEIGHTS)), int(generator.integers(len(GAINS)))
        loss = sum(weight * (x - 0.6) ** 2 for weight, x in zip(WEIGHTS, point, strict=True))
        value = GAINS[choice] - loss + generator.normal(0, NOISE)
        params = {**{f"x{k}": float(x) for k, x in enumerate(point)}, "c": choice}
        trials.append(create_trial(params=params, distributions=SPACE, value=value))
    return trials


def importances(trials: list[FrozenTrial], target: float) -> dict[str, float]:
    study = in_memory(trials, [StudyDirection.MAXIMIZE])
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=target))


def main() -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    truth = importances(draw(TRUTH, np.random.default_rng(0)), OPTUNAS)
    print("| COMPLETE trials | τ, best tenth | first | τ, best quarter | first |")
    print("|---|---|---|---|---|")
    for count in COUNTS:
        cells = []
        for target in (OPTUNAS, TARGET):
            generator, taus, hits = np.random.default_rng(1), [], 0
            for _ in range(DRAWS):
                found = importances(draw(count, generator), target)
                taus.append(kendalltau(list(truth.values()), [found[name] for name in truth]).statistic)
                hits += next(iter(found)) == next(iter(truth))
            cells += [f"{np.nanmean(taus):.2f}", f"{hits / DRAWS:.0%}"]
        print(f"| {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
