"""How good a network is: ten-fold verification, TAR at FAR over all pairs, thresholds."""
