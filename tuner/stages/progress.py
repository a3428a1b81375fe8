"""How far a job is, and a first estimate of the time it still needs.

`done` and `total` count the trials of the search and the epochs of rung, promotion and challenge. The estimate takes the cost of
an image from what the job itself has measured; it is rough while promotion has not begun, since the best nets are seldom the
average.
"""

from tuner.stages.job import RunningJob
from tuner.store.jobs import Progress


def searching(job: RunningJob, finished: int, epochs: int, seconds: float) -> Progress:
    """`finished` trials in all; `epochs` trained in `seconds` by this attempt."""
    n_trials = max(job.spec.budget.n_trials, finished)
    promoted = job.spec.promoted_epochs(job.promotion) + job.challenge_epochs
    eta = None
    if epochs and finished:
        per_image = seconds / (epochs * job.spec.subset.train)
        trials = (n_trials - finished) * epochs / finished * job.spec.subset.train
        eta = per_image * (trials + promoted * job.train_count)
    return Progress("search", finished, n_trials + promoted, eta)


def retraining(stage: str, done: int, epochs: int, total: int, epochs_here: int, seconds: float) -> Progress:
    """`done` before this stage; of `total` epochs from there, `epochs` are trained, `epochs_here` of them in `seconds` by this
    attempt."""
    eta = seconds / epochs_here * (total - epochs) if epochs_here > 0 else None
    return Progress(stage, done + epochs, done + max(total, epochs), eta)
