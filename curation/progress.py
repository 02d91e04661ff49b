"""How long work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``, often; it must be cheap."""
