"""A race: configurations are trained with the same seeds, one seed after another, and judged on the same images after each.

From the second seed on, each seed ends with a look. A contender that is clearly worse than the leader, the one of the highest
mean accuracy, is dropped. The race ends when one is left, when all that are left are non-inferior to the leader, or after the
last seed; whoever trains may end it earlier. Among the non-inferior the smallest net wins.

Two error levels hold for the whole race:

* dropping: the best configuration is dropped with a probability of at most `error`. There are `planned looks` occasions, and at
  each the leader may be any of its rivals, so each comparison is made at error / (looks × rivals) (Bonferroni; Dunn 1961).
* non-inferiority: a contender is said, wrongly, to be at most `margin` worse than the leader with a probability of at most
  `error` each: error / looks at a look.

A race selects and proves nothing: its leader was chosen by the very numbers that it leads by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuner.statistics.comparison import Comparison, Correct, compare, compare_nets

ERROR = 0.05

MARGIN = 0.001
"""A tenth of a point of accuracy."""

Right = NDArray[np.bool_]
"""(images,): which of them one net has right."""

Ending = Literal["one left", "non-inferior", "max_seeds"]


@dataclass(frozen=True)
class Look:
    """What is known of the contenders after a seed. `behind` is what they are to the leader, each contender − leader."""

    leader: str
    behind: Mapping[str, Comparison]
    worse: frozenset[str]
    """Clearly."""
    non_inferior: frozenset[str]
    """With the leader."""


def look(correct: Mapping[str, Correct], looks: int, others: Sequence[Correct] = ()) -> Look:
    """One of `looks` looks at the contenders' nets, each (seeds, images); `others` only tell how much seeds matter.

    With a single seed the images alone decide.
    """
    leader = max(correct, key=lambda name: correct[name].mean())
    rivals = [name for name in correct if name != leader]
    behind = {name: _compare(name, leader, correct, others) for name in rivals}
    drop, accept = ERROR / looks / max(1, len(rivals)), ERROR / looks
    worse = {name for name, seen in behind.items() if seen.reversed().exceeds(0.0, drop)}
    non_inferior = {name for name, seen in behind.items() if seen.exceeds(-MARGIN, accept)}
    return Look(leader, behind, frozenset(worse), frozenset({leader, *non_inferior} - worse))


def _compare(name: str, leader: str, correct: Mapping[str, Correct], others: Sequence[Correct]) -> Comparison:
    if len(correct[name]) == 1:
        return compare_nets(correct[name][0], correct[leader][0])
    pooled = [nets for rival, nets in correct.items() if rival not in (name, leader)]
    return compare(correct[name], correct[leader], [*pooled, *others])


@dataclass
class Race:
    """Fed seed by seed; in the same order it comes to the same end."""

    sizes: Mapping[str, int]
    """The contenders, with the parameters of their nets."""
    max_seeds: int
    aside: frozenset[str] = frozenset()
    """Who cannot win, and is trained to be compared with whoever leads."""
    nets: dict[str, list[Right]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    """At which look."""
    failed: set[str] = field(default_factory=set)
    """Of whom a net has not reached its end."""
    looks: int = 0
    last: Look | None = None
    seen: dict[str, Comparison] = field(default_factory=dict)
    """Of each contender to the leader, at the last look that had both."""
    ended: Ending | None = None

    def __post_init__(self) -> None:
        self.nets = {name: [] for name in self.sizes}

    @property
    def planned_looks(self) -> int:
        return max(1, self.max_seeds - 1)

    @property
    def seeds(self) -> int:
        return max(map(len, self.nets.values()), default=0)

    @property
    def running(self) -> tuple[str, ...]:
        """Who is trained with the next seed."""
        return tuple(name for name in self.sizes if name not in self.dropped and name not in self.failed)

    @property
    def _able(self) -> tuple[str, ...]:
        return tuple(name for name in self.running if name not in self.aside)

    def add(self, right: Mapping[str, Right | None]) -> None:
        """What the nets of one more seed have right, of everyone that is running; None: that net has not reached its end."""
        for name in self.running:
            row = right[name]
            if row is None:
                self.failed.add(name)
            else:
                self.nets[name].append(row)
        if self.running:
            self._look()
        else:
            self.ended = "one left"

    def _look(self) -> None:
        running = {name: np.array(self.nets[name]) for name in self.running}
        gone = [np.array(rows) for name, rows in self.nets.items() if name not in running and len(rows) > 1]
        able = {name: running[name] for name in self._able} or running
        self.last = look(able, self.planned_looks, gone)
        leader = self.last.leader
        self.seen |= self.last.behind
        for name in running.keys() - able.keys():
            self.seen[name] = _compare(name, leader, {name: running[name], leader: running[leader]}, gone)
        self.seen.pop(leader, None)
        if self.seeds > 1:
            self.looks += 1
        if self.seeds >= self.max_seeds:
            self.ended = "max_seeds"
        elif self.seeds > 1:
            # What the last look finds ends nobody's race any more; they are merely behind.
            self.dropped |= dict.fromkeys(sorted(self.last.worse), self.looks)
        if len(self._able) <= 1:
            self.ended = "one left"
        elif self.ended is None and self.seeds > 1 and self.last.non_inferior >= set(self._able):
            self.ended = "non-inferior"

    def winner(self) -> str:
        """Raises ValueError where nobody who can win has reached the end of a seed."""
        able = [name for name, rows in self.nets.items() if rows and name not in self.aside]
        if self.last is None or not able:
            raise ValueError("a race needs a contender with a net that has reached its end, but has none")
        # Where nobody is left who can win, a contender that has left the race does.
        left = self._able or able
        non_inferior = [name for name in left if name in self.last.non_inferior]
        if non_inferior:
            return min(non_inferior, key=lambda name: (self.sizes[name], -self.accuracy(name)))
        return max(left, key=self.accuracy)

    def accuracy(self, name: str) -> float:
        """The mean over the contender's seeds."""
        return float(np.mean([row.mean() for row in self.nets[name]]))

    def tied(self) -> tuple[str, ...]:
        """Who is not to be told apart from the leader at the last look, the winner first, then the smallest."""
        assert self.last is not None
        winner = self.winner()
        names = {self.last.leader, *self.last.behind} - self.last.worse - self.failed
        return tuple(sorted(names, key=lambda name: (name != winner, self.sizes[name], name)))
