"""`python -m drills [NAME …] [--short] [--seed N]`: exit code 0 if every figure in the table is 0."""

import argparse
import os
import secrets
import signal
import sys

from drills.suite import DRILLS, SHORT, Outcome, perform
from drills.table import table


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what a drill has started is ended
    arguments = _arguments()
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    names = arguments.drills or (SHORT if arguments.short else list(DRILLS))
    print(f"{', '.join(names)}; --seed {seed}", flush=True)
    outcomes = [perform(name, seed, arguments.short) for name in names]
    print(f"\n{table(outcomes)}\n")
    for outcome in outcomes:
        for finding in outcome.findings:
            print(f"{outcome.drill} ({finding.kind}): {finding.what}\n")
    print(f"--seed {seed}")
    return 0 if all(map(_passed, outcomes)) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="drills", description="Break the service in earnest, and count what it costs."
    )
    parser.add_argument("drills", nargs="*", metavar="NAME", choices=[[], *DRILLS], help=", ".join(DRILLS))
    parser.add_argument("--short", action="store_true", help="a minute: fewer drills, with fewer faults")
    parser.add_argument("--seed", type=int, help="of all random choices; the moments still vary with the machine")
    return parser.parse_args()


def _passed(outcome: Outcome) -> bool:
    required = os.environ.get("TUNER_REQUIRE", "").split(",")
    if outcome.missing is not None:
        return outcome.missing.component not in required
    return not outcome.findings


if __name__ == "__main__":  # the workers' fork server imports this module again
    sys.exit(main())
