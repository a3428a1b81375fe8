"""What is said of a gain follows from its interval."""

import numpy as np
import pytest

from tuner.stages.gain import untold, weigh
from tuner.statistics.comparison import Correct

IMAGES = 5000


def nets(seeds: int, share: float, seed: int = 0) -> Correct:
    return np.asarray(np.random.Generator(np.random.PCG64(seed)).random((seeds, IMAGES)) < share)


@pytest.mark.parametrize(
    ("winner", "default", "verdict"),
    [(0.95, 0.90, "better"), (0.90, 0.95, "worse"), (0.90, 0.90, "not worth it")],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_verdict_is_the_intervals(winner: float, default: float, verdict: str, seeds: int) -> None:
    """Better above zero, worse below it, not worth it around it; the words say what a single seed cannot tell."""
    gain = weigh(nets(seeds, winner), nets(seeds, default, seed=1), fresh=True)
    assert gain.interval is not None
    low, high = gain.interval
    assert gain.verdict == verdict == ("better" if low > 0 else "worse" if high < 0 else "not worth it")
    assert gain.words.startswith(verdict)
    assert (gain.basis, "not of other seeds" in gain.words) == (
        ("images", True) if seeds == 1 else ("images and seeds", False)
    )


def test_the_default_gains_nothing_over_itself() -> None:
    """Where the default has won the race, the gain is exactly 0 and tuning was not worth it."""
    gain = weigh(nets(2, 0.9), None, fresh=True)
    assert (gain.over_default, gain.interval, gain.verdict) == (0.0, (0.0, 0.0), "not worth it")


def test_without_a_default_nothing_is_claimed() -> None:
    """Where no net of the default reached its end, there is neither a gain nor an interval."""
    gain = untold(nets(2, 0.9), fresh=True)
    assert (gain.over_default, gain.interval, gain.verdict) == (None, None, "unknown")


def test_the_races_own_nets_are_told_as_such() -> None:
    """Nets that have chosen the winner flatter it, and the words say so."""
    assert "have chosen the winner" in weigh(nets(2, 0.95), nets(2, 0.9, seed=1), fresh=False).words
