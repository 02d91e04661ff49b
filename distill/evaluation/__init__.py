"""How good a network is: ten-fold verification, TAR at FAR over all pairs, thresholds."""

from distill.evaluation.evaluate_sets import evaluate

__all__ = ["evaluate"]
