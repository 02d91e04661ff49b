"""The checks of `distill doctor`; every file here is found."""
