"""What is the matter with a trained net: exactly one finding, from its record alone.

The order is the course notes': first the training set. Is the net good there? If not, the causes are sought from the coarsest
down: no finite numbers, a learning rate far from all that its optimizer is used with, too little room, dead units, a gradient
that does not reach the first layer, steps too large or too small, too few epochs; what is left is underfit. Only a net that is
good on its training images is judged on the validation images.

Every threshold is a constant with its reason. They were fixed on nets trained on 100 to 5,000 images of MNIST (the development
half of `benchmarks/ill_nets.py`); `benchmarks/diagnosis.py` asks how often they are right about others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tuner.specs.epoch import EpochRecord
from tuner.specs.finding import Evidence, Finding, FindingName
from tuner.specs.hyperparameters import Hyperparameters
from tuner.specs.search_space import LEARNING_RATES

Ending = Literal["complete", "pruned", "diverged"]

GOOD = 0.9
"""An accuracy from which a net is good on its training images. Sound nets had 0.94 and more in development, nets
with one of the diseases that are sought here at most 0.87."""

FAR = 3.0
"""So many times outside its optimizer's usual range a learning rate is wrong, whatever else is. Half an order of magnitude: three
times as much as usual still trained every net with four layers and fewer."""

UNITS_PER_CLASS = 2.0
"""Fewer units a layer, of those that dropout leaves, cannot tell the classes apart: twelve units for ten classes stayed at 0.85,
sixteen reached 0.94."""

MOST_DROPPED = 0.75
"""Dropout from here on: a half trained to 0.94, four fifths to 0.45, both with 128 units."""

STRONG_DECAY = 0.03
"""Weight decay from here on holds the weights down: three times the most that the default space allows."""

MOSTLY_DEAD = 0.5
"""A share of dead units from which they are the finding: sound relu nets had up to 0.18, at three times the usual rate 0.5."""

VANISHED = 0.01
"""The first layer's gradient over the last layer's. Sound nets had 0.28 to 5; two sigmoid layers have 0.3, each further one a
quarter of that or less, and from five on (0.008) they did not train."""

CONFIDENTLY_WRONG = 1.5
"""A loss over that of guessing, after training with mse, from which the softmax is sure of wrong classes, and its gradient gone:
guessing has 0.9, all wrong and sure 2, which is 2.2 times as much; no net that still learnt had more than 1.1."""

OVERSHOT = 2.0
"""The highest epoch's loss over that of guessing: steps so large that the net knew less than nothing. Nets begin with 1.0 to 1.3,
wide ones on a hundred images had 1.5 in their first epoch."""

BLOWN_UP = 3.0
"""The last epoch's loss over that of guessing, from which it counts even where the accuracy is good; mse ends at 2.2."""

UNMOVED = 0.9
"""The last epoch's loss over that of guessing, from which a net has hardly begun: one to three units a layer still brought
it to 0.39 to 0.91."""

STILL_FALLING = 0.08
"""A share by which the validation loss fell in the second half of a bad run, from which more epochs would have helped. Nets
without room for more fell by up to 0.07, since a rate that decays brings a little by itself."""

STILL_FALLING_WHEN_GOOD = 0.15
"""A share by which it fell in the last epoch alone, of a net that is good already. Sound runs of five epochs and more fell by
0.08 at most (one of sixteen relu layers by 0.16), runs of one and two by 0.18 to 0.66."""

GAP = 0.08
"""Training accuracy minus validation accuracy. 1,000 images and more left at most 0.06, 300 and fewer at least 0.15."""


@dataclass(frozen=True)
class TrainingRun:
    """A run that has ended. `records` are those of its whole epochs, of a diverged run perhaps none."""

    records: Sequence[EpochRecord]
    hyperparameters: Hyperparameters
    classes: int
    ending: Ending
    """`pruned`: it was good for more epochs, and others were better."""

    @property
    def last(self) -> EpochRecord:
        return self.records[-1]

    @property
    def fit(self) -> float:
        """How good it is on its training images, 0 to 1. Dropout and shifts make training look harder than it is, so an accuracy
        on images it has not seen counts, too."""
        return max(self.last.train_accuracy, self.last.validation_accuracy)

    @property
    def is_good(self) -> bool:
        return self.fit >= GOOD

    def over_guessing(self, loss: float) -> float:
        """A loss as a multiple of that of an equal probability for each class."""
        guessing = math.log(self.classes) if self.hyperparameters.loss == "cross_entropy" else 1 - 1 / self.classes
        return loss / guessing

    def fall(self, since: EpochRecord) -> float:
        """The share of the validation loss that was lost from the end of one epoch to the end of the run. From its only epoch:
        of the training loss, which is the mean over that epoch."""
        before = since.validation_loss if since is not self.last else since.train_loss
        return 1 - self.last.validation_loss / before if before > 0 else 0.0


Rule = Callable[[TrainingRun], Evidence | None]


def diagnose(run: TrainingRun) -> Finding | None:
    """The first rule that holds; None for a run without an epoch that did not diverge either."""
    if not run.records and run.ending != "diverged":
        return None
    for name, rule in RULES:
        evidence = rule(run)
        if evidence is not None:
            return Finding(name=name, evidence=evidence)
    raise AssertionError("the last rule always holds")


def _diverged(run: TrainingRun) -> Evidence | None:
    if run.ending != "diverged":
        return None
    h, done = run.hyperparameters, len(run.records)
    return Evidence(
        measure="epochs_with_finite_numbers",
        value=done,
        threshold=done + 1,
        sentence=f"The loss or a gradient became infinite in epoch {done + 1}. Lower the learning rate ({h.learning_rate:g}, "
        f"{h.optimizer}), or the depth{_raw_pixels(h)}.",
    )


def _far_too_high(run: TrainingRun) -> Evidence | None:
    h = run.hyperparameters
    limit = FAR * LEARNING_RATES[h.optimizer].high
    if run.is_good or h.learning_rate <= limit:
        return None
    return Evidence(
        measure="learning_rate",
        value=h.learning_rate,
        threshold=limit,
        sentence=f"It is bad on its own training images ({run.fit:.1%} right), and its learning rate is far above what "
        f"{h.optimizer} is used with, up to {LEARNING_RATES[h.optimizer].high:g}. Lower it.",
    )


def _blown_up(run: TrainingRun) -> Evidence | None:
    value = run.over_guessing(run.last.train_loss)
    if value < BLOWN_UP:
        return None
    return Evidence(
        measure="last_train_loss_over_guessing",
        value=value,
        threshold=BLOWN_UP,
        sentence=f"After training its loss is {value:.3g} times that of mere guessing. Lower the learning rate "
        f"({run.hyperparameters.learning_rate:g}){_raw_pixels(run.hyperparameters)}.",
    )


def _starved(run: TrainingRun) -> Evidence | None:
    """What the configuration itself forbids the net to learn; a learning rate that is far too low is found first."""
    h = run.hyperparameters
    units = h.width * (1 - h.dropout)
    if run.is_good or _far_too_low(run) is not None:
        return None
    if units < UNITS_PER_CLASS * run.classes:
        sentence = f"{units:.3g} units a layer, after dropout, are too few for {run.classes} classes. Widen the layers"
        return _held_back(run, "units_after_dropout", units, UNITS_PER_CLASS * run.classes, sentence)
    for name, value in (("dropout", h.dropout), ("input_dropout", h.input_dropout)):
        if value >= MOST_DROPPED:
            return _held_back(run, name, value, MOST_DROPPED, f"{value:.0%} dropped leaves too little. Lower {name}")
    if h.weight_decay >= STRONG_DECAY:
        sentence = f"weight decay of {h.weight_decay:g} holds the weights down. Lower it"
        return _held_back(run, "weight_decay", h.weight_decay, STRONG_DECAY, sentence)
    return None


def _held_back(run: TrainingRun, measure: str, value: float, threshold: float, sentence: str) -> Evidence:
    whole = f"It is bad on its own training images ({run.fit:.1%} right): {sentence}."
    return Evidence(measure=measure, value=value, threshold=threshold, sentence=whole)


def _dead(run: TrainingRun) -> Evidence | None:
    h, share = run.hyperparameters, run.last.dead_units
    if run.is_good or h.activation != "relu" or share < MOSTLY_DEAD:
        return None
    return Evidence(
        measure="dead_units",
        value=share,
        threshold=MOSTLY_DEAD,
        sentence=f"{share:.0%} of its units answer the same to every image, and a relu that is off for all of them learns no "
        f"more. Lower the learning rate, or take maxout or tanh{_raw_pixels(h)}.",
    )


def _saturated(run: TrainingRun) -> Evidence | None:
    """The squared error of a softmax that is sure of the wrong class has no gradient in any layer."""
    h, value = run.hyperparameters, run.over_guessing(run.last.train_loss)
    if run.is_good or h.loss != "mse" or value < CONFIDENTLY_WRONG:
        return None
    return Evidence(
        measure="last_train_loss_over_guessing",
        value=value,
        threshold=CONFIDENTLY_WRONG,
        sentence="It is sure of wrong classes, where the squared error has no gradient left. Take cross_entropy"
        f"{_raw_pixels(h)}.",
    )


def _overshot(run: TrainingRun) -> Evidence | None:
    value = run.over_guessing(max(record.train_loss for record in run.records))
    if run.is_good or value < OVERSHOT:
        return None
    h = run.hyperparameters
    return Evidence(
        measure="highest_train_loss_over_guessing",
        value=value,
        threshold=OVERSHOT,
        sentence=f"Its steps were so large that the loss rose to {value:.3g} times that of mere guessing. Lower the learning "
        f"rate ({h.learning_rate:g}, {h.optimizer}){_raw_pixels(h)}.",
    )


def _vanished(run: TrainingRun) -> Evidence | None:
    """In the epoch in which the least has arrived: Adam can move such a net in the end, after most of its epochs were lost."""
    ratio = min(
        (r.gradient_norm_first / r.gradient_norm_last for r in run.records if r.gradient_norm_last), default=1.0
    )
    if run.is_good or ratio >= VANISHED:
        return None
    h = run.hyperparameters
    return Evidence(
        measure="gradient_ratio",
        value=ratio,
        threshold=VANISHED,
        sentence=f"The first of its {h.depth} {h.activation} layers has {ratio:.1g} times the last one's gradient, too little to "
        "learn from. Take relu or maxout, or fewer layers"
        + ("." if h.batch_norm else ", or normalise them (batch_norm)."),
    )


def _far_too_low(run: TrainingRun) -> Evidence | None:
    h = run.hyperparameters
    limit = LEARNING_RATES[h.optimizer].low / FAR
    if run.is_good or h.learning_rate >= limit:
        return None
    return Evidence(
        measure="learning_rate",
        value=h.learning_rate,
        threshold=limit,
        sentence=f"It is bad on its own training images ({run.fit:.1%} right), and its learning rate is far below what "
        f"{h.optimizer} is used with, from {LEARNING_RATES[h.optimizer].low:g} on. Raise it.",
    )


def _unmoved(run: TrainingRun) -> Evidence | None:
    """In the lower half of its optimizer's usual range, and still too low for this net."""
    h, value = run.hyperparameters, run.over_guessing(run.last.train_loss)
    usual = LEARNING_RATES[h.optimizer]
    if run.is_good or value < UNMOVED or h.learning_rate > math.sqrt(usual.low * usual.high) * (1 + 1e-9):
        return None
    return Evidence(
        measure="last_train_loss_over_guessing",
        value=value,
        threshold=UNMOVED,
        sentence=f"Its gradients are sound, but its loss is still {value:.2f} times that of mere guessing. Raise the learning "
        f"rate ({h.learning_rate:g}, {h.optimizer}).",
    )


def _still_falling(run: TrainingRun) -> Evidence | None:
    """Not of a pruned run: that it ended early was the pruner's decision about others, and is no fault of the net."""
    if run.ending == "pruned":
        return None
    good, epochs = run.is_good, len(run.records)
    since = run.records[-2] if good and epochs > 1 else run.records[(epochs - 1) // 2]
    value, threshold = run.fall(since), STILL_FALLING_WHEN_GOOD if good else STILL_FALLING
    if value < threshold:
        return None
    where = "its last epoch" if good or epochs < 3 else f"its last {epochs - since.epoch} epochs"
    return Evidence(
        measure="validation_loss_fall",
        value=value,
        threshold=threshold,
        sentence=f"Its loss fell by {value:.0%} in {where}, so it was still learning when it ended. Give it more than {epochs} "
        f"epoch{'s' if epochs > 1 else ''}.",
    )


def _still_learning(run: TrainingRun) -> Evidence | None:
    """Of a pruned run that was not good yet."""
    if run.ending != "pruned" or run.is_good:
        return None
    value = run.fall(run.records[(len(run.records) - 1) // 2])
    if value < STILL_FALLING:
        return None
    return Evidence(
        measure="validation_loss_fall",
        value=value,
        threshold=STILL_FALLING,
        sentence=f"Nothing is wrong with it up to epoch {run.last.epoch}: it was learning (its loss fell by {value:.0%}) when "
        "the pruner ended it, since other trials were better by then.",
    )


def _underfit(run: TrainingRun) -> Evidence | None:
    if run.is_good:
        return None
    return Evidence(
        measure="training_fit",
        value=run.fit,
        threshold=GOOD,
        sentence=f"It has settled at {run.fit:.1%} right on its own training images. Give it more layers or units, less "
        "dropout or weight decay, or another optimizer.",
    )


def _overfit(run: TrainingRun) -> Evidence | None:
    gap = run.last.train_accuracy - run.last.validation_accuracy
    if not run.is_good or gap < GAP:
        return None
    return Evidence(
        measure="accuracy_gap",
        value=gap,
        threshold=GAP,
        sentence=f"It has {run.last.train_accuracy:.1%} of its training images right, and of others {gap * 100:.1f} points less. "
        "Give it more images, dropout, weight decay or moved images, or a smaller net.",
    )


def _healthy(run: TrainingRun) -> Evidence | None:
    gap = run.last.train_accuracy - run.last.validation_accuracy
    return Evidence(
        measure="accuracy_gap",
        value=gap,
        threshold=GAP,
        sentence=f"It is good on its training images ({run.fit:.1%} right), and on others ({run.last.validation_accuracy:.1%}).",
    )


RULES: tuple[tuple[FindingName, Rule], ...] = (
    ("diverged", _diverged),
    # Is it good on its training images?
    ("learning_rate_too_high", _far_too_high),
    ("underfit", _starved),
    ("learning_rate_too_high", _blown_up),
    ("dead_units", _dead),
    ("vanishing_gradient", _saturated),
    ("learning_rate_too_high", _overshot),
    ("vanishing_gradient", _vanished),
    ("learning_rate_too_low", _far_too_low),
    ("learning_rate_too_low", _unmoved),
    ("healthy", _still_learning),
    # From here on it is good there, or would be soon, or never.
    ("overfit", _overfit),
    ("stopped_too_early", _still_falling),
    ("underfit", _underfit),
    ("healthy", _healthy),
)
"""In the order in which they are asked."""


def _raw_pixels(h: Hyperparameters) -> str:
    return ", and scale the pixels (normalisation: standardise)" if h.normalisation == "none" else ""
