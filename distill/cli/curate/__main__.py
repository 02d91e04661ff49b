"""``python -m distill.cli.curate``: the command without its script."""

from distill.cli.curate import main

main()
