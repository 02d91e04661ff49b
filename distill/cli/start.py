"""The entry points of both commands.

Their modules take a good part of a second to import. Ctrl-C in that time ends a command as it does
later: with exit status 130 and one line.
"""

import sys
from importlib import import_module


def curate() -> None:
    """The command ``curate``."""
    _start("distill.cli.curate")


def distill() -> None:
    """The command ``distill``."""
    _start("distill.cli.main")


def _start(module: str) -> None:
    try:
        main = import_module(module).main
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; run the same command again\n")
        raise SystemExit(130) from None
    main()
