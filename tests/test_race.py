"""The race decides by numbers alone."""

import numpy as np
import pytest

from tuner.statistics.race import Race, Right, look

IMAGES = 10_000


def rights(seed: int, share: float = 0.9) -> Right:
    return np.asarray(np.random.Generator(np.random.PCG64(seed)).random(IMAGES) < share)


def close(right: Right, wrong: int) -> Right:
    """The same, but for the first `wrong` of the images that it has right."""
    changed = right.copy()
    changed[np.flatnonzero(right)[:wrong]] = False
    return changed


def run(race: Race, nets: dict[str, list[Right | None]]) -> Race:
    for seed in range(race.max_seeds):
        if race.ended is None:
            race.add({name: nets[name][seed] for name in race.running})
    return race


def test_the_clearly_worse_is_dropped_and_trained_no_further() -> None:
    """A contender 20 points behind goes at the first look; the others have every seed."""
    race = Race({"a": 10, "b": 20, "c": 5}, 3)
    nets: dict[str, list[Right | None]] = {"a": [rights(k) for k in (1, 2, 3)], "b": [rights(k) for k in (4, 5, 6)]}
    run(race, {**nets, "c": [rights(k, 0.7) for k in (7, 8, 9)]})
    assert race.dropped == {"c": 1}
    assert {name: len(rows) for name, rows in race.nets.items()} == {"a": 3, "b": 3, "c": 2}
    assert (race.ended, race.looks) == ("max_seeds", 2)
    assert set(race.tied()) == {"a", "b"}


def test_the_smallest_of_the_non_inferior_wins() -> None:
    """Nets that agree on nearly all images are shown to be non-inferior at the first look: the race ends, the smallest wins."""
    base = rights(1)
    large: list[Right | None] = [close(base, wrong) for wrong in (0, 1, 0)]
    small: list[Right | None] = [close(base, wrong) for wrong in (1, 1, 1)]
    race = run(Race({"large": 100, "small": 10}, 3), {"large": large, "small": small})
    assert (race.ended, race.seeds) == ("non-inferior", 2)
    assert race.last is not None
    assert (race.last.leader, race.winner(), race.tied()) == ("large", "small", ("small", "large"))


def test_one_that_is_left_has_won() -> None:
    """A race ends with its last contender, whether the other was dropped or a net of it has not reached its end."""
    worse: list[Right | None] = [rights(k, 0.7) for k in (4, 5, 6)]
    for other in (worse, [rights(4), None, None]):
        race = run(Race({"a": 10, "b": 5}, 5), {"a": [rights(k) for k in (1, 2, 3)], "b": other})
        assert (race.ended, race.seeds, race.winner()) == ("one left", 2, "a")


def test_a_single_seed_is_judged_by_images() -> None:
    """With one seed there is no comparison over seeds and nobody is dropped; who is clearly worse on the images is not tied."""
    race = run(Race({"a": 10, "b": 5}, 1), {"a": [rights(1)], "b": [rights(2, 0.7)]})
    assert (race.ended, race.looks, race.dropped, race.tied()) == ("max_seeds", 0, {}, ("a",))


def test_who_is_aside_is_compared_and_cannot_win() -> None:
    """Nobody is dropped for being behind one that is trained for comparison only; the best of the others leads, and the smallest
    of those that are not worse wins."""
    base, best = rights(2, 0.7), rights(1, 0.95)
    nets: dict[str, list[Right | None]] = {"a": [best] * 3, "b": [base] * 3, "c": [close(base, 1)] * 3}
    race = run(Race({"a": 1, "b": 5, "c": 2}, 3, aside=frozenset({"a"})), nets)
    assert race.last is not None
    assert (race.last.leader, race.winner(), race.dropped, race.ended) == ("b", "c", {}, "non-inferior")
    assert race.tied() == ("c", "b")
    assert race.seen["a"].difference == pytest.approx(0.25, abs=0.02)


def test_one_that_can_win_is_enough() -> None:
    """Whoever is trained for comparison only keeps no race going."""
    race = run(Race({"a": 1, "b": 5}, 3, aside=frozenset({"a"})), {"a": [rights(1)] * 3, "b": [rights(2, 0.7)] * 3})
    assert (race.ended, race.seeds, race.winner()) == ("one left", 1, "b")


def test_nobody_wins_a_race_without_nets() -> None:
    """Where every first net has failed, there is no winner, and asking for one says so."""
    race = run(Race({"a": 10}, 2), {"a": [None, None]})
    with pytest.raises(ValueError, match="needs a contender"):
        race.winner()


def test_the_level_is_split_over_looks_and_rivals() -> None:
    """A rival that one look among two would call worse at 5 % is not dropped where six looks at four contenders are planned."""
    base = rights(1)
    leader, alike = np.array([base, base]), np.array([close(base, 1), close(base, 1)])
    wrong = 2
    while not look({"a": leader, "b": np.array([close(base, wrong)] * 2)}, 1).worse:
        wrong += 1
    behind = np.array([close(base, wrong)] * 2)
    assert look({"a": leader, "b": behind}, 1).worse == {"b"}
    assert not look({"a": leader, "b": behind, "c": alike, "d": alike}, 6).worse
