"""How often the diagnosis finds what a net was built to have: a confusion table.

    python -m benchmarks.diagnosis                  # the nets that the rules have never seen
    python -m benchmarks.diagnosis --development    # those on which their thresholds were fixed

Nets are drawn by `benchmarks/ill_nets.py`, ten of each finding. The held-out ones have other seeds and sizes, half of them on
another part of MNIST and half on scikit-learn's 8 × 8 digits, which no rule was developed on. Some nets have more than they were
built to have (dropout of 0.95 also kills units), so a finding can be wrong without being silly.
"""

import argparse
from collections import Counter

import torch

from benchmarks.ill_nets import DEVELOPMENT, HELD_OUT, patients, train_patient
from tuner.specs.finding import FINDINGS
from tuner.statistics.diagnosis import diagnose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--development", action="store_true")
    development: bool = parser.parse_args().development
    torch.set_num_threads(1)
    populations, each = ((DEVELOPMENT,), 10) if development else (HELD_OUT, 5)
    table: Counter[tuple[str, str]] = Counter()
    for population in populations:
        before = sum(table[name, name] for name in FINDINGS), table.total()
        for patient in patients(population, each):
            finding = diagnose(train_patient(patient, population))
            found = finding.name if finding is not None else "none"
            table[patient.expected, found] += 1
            if found != patient.expected and finding is not None:
                changed = patient.hyperparameters.model_dump(exclude_defaults=True)
                print(f"{patient.expected} was taken for {found}: {changed}, {patient.train} images")
                print(f"    {finding.evidence.sentence}")
        right = sum(table[name, name] for name in FINDINGS) - before[0]
        print(f"{population.name}: {right} of {table.total() - before[1]} right\n")
    print(f"| built to be | {' | '.join(FINDINGS)} |\n|{'---|' * (len(FINDINGS) + 1)}")
    for expected in FINDINGS:
        cells = (str(table[expected, found] or "") for found in FINDINGS)
        print(f"| {expected} | {' | '.join(cells)} |")
    right = sum(table[name, name] for name in FINDINGS)
    print(f"\n{right} of {table.total()} right: {right / table.total():.1%}")


if __name__ == "__main__":
    main()
