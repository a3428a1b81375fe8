"""What an earlier study is worth to a later one: cold, with its trials in the sampler's view, and with its best three enqueued.

    python -m benchmarks.warm_start --seeds 10

A toy objective without training, so that only the sampler is judged: the mean of the best value after 10, 20 and 40 trials, of
studies that follow one of 60 trials whose optimum lies a little apart.
"""

import argparse
import statistics
from collections.abc import Sequence

import optuna
from optuna.trial import TrialState

from tuner.specs.earlier_trial import EarlierTrial
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.study import StudySpec
from tuner.stages.view import View

STEPS = (10, 20, 40)
EARLIER_TRIALS, ENQUEUED = 60, 3
LOSS = {"sgd": 0.3, "momentum": 0.1, "rmsprop": 0.2, "adam": 0.0}


def value(point: Hyperparameters, apart: float) -> float:
    """`apart` moves the optimum of dropout and width."""
    width, dropout = point.width / 512, point.dropout
    return (
        -((width - 0.8 + apart) ** 2)
        - (dropout - 0.3 - apart) ** 2
        - LOSS[point.optimizer]
        - 0.05 * (point.depth - 2) ** 2
    )


def grow(view: View[Hyperparameters], n: int, apart: float, first: Sequence[Hyperparameters] = ()) -> list[float]:
    values = [value(point, apart) for point in first]
    while len(values) < n:
        asked = view.ask()
        assert asked is not None
        values.append(value(asked.hyperparameters, apart))
        view.tell(asked.number, TrialState.COMPLETE, values[-1])
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[str, list[list[float]]] = {"cold": [], "in the view": [], "best three enqueued": []}
    for seed in range(arguments.seeds):
        earlier = View(StudySpec(name="earlier", seed=1000 + seed), [], {})
        grow(earlier, EARLIER_TRIALS, apart=0.0)
        spec = StudySpec(name="later", seed=seed)
        told = [
            EarlierTrial(
                study="earlier", number=t.number, state="COMPLETE", params=t.params, values=(t.values[0],), reports={}
            )
            for t in earlier.trials()
        ]
        best = sorted(earlier.trials(), key=lambda trial: -trial.values[0])[:ENQUEUED]
        points = [spec.search_space.restore(trial.params) for trial in best]
        found["cold"].append(grow(View(spec, [], {}), STEPS[-1], 0.1))
        found["in the view"].append(grow(View(spec, [], {}, earlier=told), STEPS[-1], 0.1))
        found["best three enqueued"].append(grow(_after(spec, points), STEPS[-1], 0.1, points))
    print(f"{'':<22}" + "".join(f"{step:>5} trials" for step in STEPS))
    for kind, runs in found.items():
        print(f"{kind:<22}" + "".join(f"{statistics.mean(max(run[:step]) for run in runs):>12.4f}" for step in STEPS))


def _after(spec: StudySpec, points: Sequence[Hyperparameters]) -> View[Hyperparameters]:
    """A view whose first trials were these points."""
    view: View[Hyperparameters] = View(spec, [], {})
    study = optuna.create_study(direction="maximize")
    for point in points:
        study.enqueue_trial({**(spec.search_space.params(point) or {})})
        trial = study.ask()
        spec.search_space.suggest(trial)
        study.tell(trial, value(point, 0.1))
    for frozen in study.trials:
        view.absorb(frozen) if frozen.number else view.sync([frozen], {})
    return view


if __name__ == "__main__":
    main()
