"""``python -m distill``, used by launchers of several ranks."""

from distill.cli.main import main

main()
