"""Learning rates as a pure function of the step."""

import math

from distill.training.config import TrainSettings


def scheduled_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate of step ``step`` (from 0) of ``steps``.

    Warms up linearly to ``learning_rate``, then follows the schedule down to
    ``final_learning_rate``; a step schedule multiplies by ``decay`` at each milestone.
    """
    warm = math.ceil(settings.warmup * steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    if settings.schedule == "step":
        return settings.learning_rate * _decay(settings, step, steps)
    if settings.schedule == "constant":
        return settings.learning_rate
    high, low = settings.learning_rate, settings.final_learning_rate
    assert low is not None, "the other schedules end there"
    progress = (step - warm) / (steps - warm)
    if settings.schedule == "cosine":
        return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))
    if settings.schedule == "linear":
        return high + (low - high) * progress
    assert settings.power is not None
    return low + (high - low) * (1 - progress) ** settings.power


def _decay(settings: TrainSettings, step: int, steps: int) -> float:
    """The product of the decays of all milestones reached at ``step``."""
    assert settings.milestones is not None
    assert settings.decay is not None
    # Rounded: the share 32/60 of 60,000 steps is step 32,000 despite rounding errors.
    reached = sum(step >= round(share * steps) for share in settings.milestones)
    return settings.decay**reached
