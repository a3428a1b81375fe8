"""Pictures of a study, as plotly figures: data and layout, drawn by whoever shows them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna
from optuna import visualization
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from plotly import graph_objects as go

from api.fronts import Axis, on_front_of
from tuner.errors import InvalidInput
from tuner.statistics.importances import importances, in_memory

LIMITS = {
    "history": 1000,
    "slice": 1000,
    "parallel": 500,
    "contour": 500,
    "importances": 10_000,
    "curves": 200,
    "pareto": 1000,
}
"""The most trials of each kind of picture: a contour's size grows with the square of them, and nobody sees a thousand curves."""


@dataclass(frozen=True)
class Subject:
    """The trials of a picture, in the order of their numbers, under the study's directions."""

    trials: tuple[FrozenTrial, ...]
    directions: tuple[StudyDirection, ...]
    objective: str
    """The first one's name."""
    params: tuple[str, ...]
    """Those that were asked for; empty: the picture's own choice."""
    axes: tuple[Axis, ...]
    """Of the front; empty where it is not drawn."""

    def study(self) -> optuna.Study:
        """One in memory, whose trials have the numbers they have."""
        study = in_memory(self.trials, self.directions)
        for stored, trial in zip(study.get_trials(deepcopy=False), self.trials, strict=True):
            stored.number = trial.number
        return study

    @property
    def target(self) -> Callable[[FrozenTrial], float] | None:
        """None where there is one objective, which Optuna's pictures then know themselves."""
        return None if len(self.directions) == 1 else lambda trial: trial.values[0]

    def known(self) -> list[str]:
        return sorted({name for trial in self.trials for name in trial.params})

    def chosen(self, count: int) -> list[str]:
        """`count` parameters: those asked for, or the most important ones. Raises InvalidInput."""
        known = self.known()
        if unknown := [name for name in self.params if name not in known]:
            raise InvalidInput(f"params must be of {', '.join(known)}, but got {unknown[0]!r}", ("params",))
        names = list(self.params) or list(importances(self.trials, self.directions))[:count]
        if len(names) != count:
            raise InvalidInput(f"this picture takes {count} parameters, but got {len(names)}", ("params",))
        return names


def history(subject: Subject) -> go.Figure:
    """Not Optuna's own picture, which takes a trial's number for its place in the list, and fails where numbers are left out."""
    numbers = [trial.number for trial in subject.trials]
    values = [trial.values[0] for trial in subject.trials]
    best = np.maximum if subject.directions[0] == StudyDirection.MAXIMIZE else np.minimum
    figure = go.Figure()
    figure.add_scatter(x=numbers, y=values, mode="markers", name=subject.objective)
    figure.add_scatter(x=numbers, y=best.accumulate(values).tolist(), mode="lines", name="best so far", line_shape="hv")
    return figure.update_layout(title="History", xaxis_title="trial", yaxis_title=subject.objective)


def slices(subject: Subject) -> go.Figure:
    names = subject.chosen(len(subject.params)) if subject.params else subject.known()
    return visualization.plot_slice(subject.study(), params=names, target=subject.target, target_name=subject.objective)


def parallel(subject: Subject) -> go.Figure:
    names = subject.chosen(len(subject.params)) if subject.params else subject.known()
    return visualization.plot_parallel_coordinate(
        subject.study(), params=names, target=subject.target, target_name=subject.objective
    )


def contour(subject: Subject) -> go.Figure:
    return visualization.plot_contour(
        subject.study(), params=subject.chosen(2), target=subject.target, target_name=subject.objective
    )


def importance_bars(subject: Subject) -> go.Figure:
    found = importances(subject.trials, subject.directions)
    names = list(reversed(found))  # the first bar is the lowest
    figure = go.Figure(go.Bar(x=[found[name] for name in names], y=names, orientation="h"))
    return figure.update_layout(title=f"Which parameters decided {subject.objective}", xaxis_title="importance")


def curves(subject: Subject) -> go.Figure:
    figure = visualization.plot_intermediate_values(subject.study())
    return figure.update_layout(title="Curves", xaxis_title="epoch", yaxis_title=subject.objective)


def pareto(subject: Subject) -> go.Figure:
    """The first two axes; what is on the front of all is marked."""
    x, y = subject.axes[1], subject.axes[0]
    front = on_front_of(subject.axes)
    figure = go.Figure()
    for name, marked in (("dominated", ~front), ("on the front", front)):
        shown = np.flatnonzero(marked)
        figure.add_scatter(
            x=[x.values[k] for k in shown],
            y=[y.values[k] for k in shown],
            text=[f"trial {subject.trials[k].number}" for k in shown],
            name=name,
            mode="markers",
        )
    return figure.update_layout(title="Front", xaxis_title=x.name, yaxis_title=y.name)


FIGURES: dict[str, Callable[[Subject], go.Figure]] = {
    "history": history,
    "slice": slices,
    "parallel": parallel,
    "contour": contour,
    "importances": importance_bars,
    "curves": curves,
    "pareto": pareto,
}


def nothing(why: str) -> go.Figure:
    """A picture that says why there is none."""
    figure = go.Figure()
    figure.add_annotation(text=why, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
    return figure.update_layout(xaxis_visible=False, yaxis_visible=False)
