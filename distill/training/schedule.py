"""Learning rates as a pure function of the step."""

import math

from distill.training.config import TrainSettings


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """The rate of step ``step`` (from 0) of ``steps``.

    Linear warm-up to ``learning_rate``, then the schedule down to ``final_learning_rate``.
    """
    warm = math.ceil(settings.warmup * steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    high, low = settings.learning_rate, settings.final_learning_rate
    progress = (step - warm) / max(1, steps - warm)
    if settings.schedule == "cosine":
        return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))
    if settings.schedule == "linear":
        return high + (low - high) * progress
    return high
