"""The checks of `distill doctor`; every file in this package is imported."""
