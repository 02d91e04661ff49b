"""Evaluation of networks: ten-fold verification, TAR at FAR over all pairs, thresholds."""
