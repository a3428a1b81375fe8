"""Kendall's τ of a few pairs, and what may be said of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from tuner.statistics.rank_correlation import kendall

values = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=15)


@given(values)
def test_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    """τ-b with ties as scipy has it, None where it has none, and always inside its interval."""
    first, second = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    seen, expected = kendall(first, second), kendalltau(first, second).statistic
    if np.isnan(expected):
        assert (seen.tau, seen.low, seen.high) == (None, -1.0, 1.0)
    else:
        assert seen.tau == pytest.approx(expected)
        assert seen.tau is not None
        assert -1 <= seen.low <= seen.tau <= seen.high <= 1


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95])
def test_the_interval_holds_the_truth(correlation: float) -> None:
    """Of a dozen normal pairs, τ = 2/π · arcsin ρ; at least 93 % of 400 intervals hold it, and they are not the whole axis."""
    generator, truth = np.random.Generator(np.random.PCG64(0)), 2 / np.pi * np.arcsin(correlation)
    held, widths = 0, []
    for _ in range(400):
        first, other = generator.standard_normal((2, 12))
        seen = kendall(first, correlation * first + np.sqrt(1 - correlation**2) * other)
        held += seen.low <= truth <= seen.high
        widths.append(seen.high - seen.low)
    assert held >= 0.93 * 400
    assert np.mean(widths) < 1.1


def test_few_pairs_say_nothing() -> None:
    """Four pairs have a τ and no interval; perfect agreement of a dozen is no certainty."""
    four = kendall(np.arange(4.0), np.arange(4.0))
    assert (four.tau, four.low, four.high) == (1.0, -1.0, 1.0)
    dozen = kendall(np.arange(12.0), np.arange(12.0))
    assert (dozen.tau, dozen.high) == (1.0, 1.0)
    assert 0.3 < dozen.low < 0.95
