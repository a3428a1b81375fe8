"""Tune a random forest of scikit-learn's on its digits, as an outside worker. Run as many of these at once as you like.

    .venv/bin/pip install scikit-learn
    .venv/bin/tuner serve &
    .venv/bin/python examples/forest.py --worker one

A worker that was killed takes its trial up again when it is started under the same name; under another name, the trial comes to
it when the lease has ended.
"""

import argparse
import os

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from tuner.client import Client, Refused, Trial, work

STUDY = "forest"
SPEC = {
    "name": STUDY,
    "objective": "external",
    "search_space": {
        "trees": {"type": "int", "low": 5, "high": 100, "log": True},
        "criterion": {"type": "categorical", "choices": ["gini", "entropy"]},
        "max_features": {"type": "float", "low": 0.05, "high": 1.0},
        "limited": {"type": "categorical", "choices": [True, False]},
        "max_depth": {"type": "int", "low": 2, "high": 20, "when": {"limited": True}},
    },
    "objectives": [{"metric": "accuracy", "direction": "maximize"}],
    "budget": {"n_trials": 20},
    "lease_seconds": 30,
}


def evaluate(trial: Trial) -> float:
    """Mean accuracy over three folds."""
    forest = RandomForestClassifier(
        n_estimators=int(trial.params["trees"]),
        criterion=trial.params["criterion"],
        max_features=float(trial.params["max_features"]),
        max_depth=trial.params.get("max_depth"),
        random_state=0,
    )
    images, labels = load_digits(return_X_y=True)
    accuracy = float(cross_val_score(forest, images, labels, cv=3).mean())
    print(f"trial {trial.number}: {accuracy:.4f} {trial.params}", flush=True)
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", default="one", help="this worker's name")
    parser.add_argument("--url", default=os.environ.get("TUNER_URL", "http://127.0.0.1:8000"))
    options = parser.parse_args()
    with Client.over_http(options.url, os.environ.get("TUNER_TOKEN")) as client:
        try:
            client.create_study(SPEC)
        except Refused as refused:
            if refused.status != 409:  # another worker was first
                raise
        count = work(client, STUDY, options.worker, evaluate)
        [best] = client.best(STUDY, k=1).items
    print(f"{count} trials here; the best of all: {best.value:.4f} {best.hyperparameters}")


if __name__ == "__main__":
    main()
