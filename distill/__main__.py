"""``python -m distill``, as launchers of several ranks call the command."""

from distill.cli.main import main

main()
