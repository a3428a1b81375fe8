"""The learning rate's course over one training run."""

WARM_UP_SHARE = 0.05


def rate_factor(step: int, steps: int) -> float:
    """What the learning rate is multiplied by at `step` (0 is the first) of `steps`: a linear rise over the first twentieth, then
    a linear fall that would reach 0 at the step after the last."""
    warm_up = int(steps * WARM_UP_SHARE)
    return (step + 1) / (warm_up + 1) if step < warm_up else (steps - step) / (steps - warm_up)
