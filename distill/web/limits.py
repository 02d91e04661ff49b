"""Rate limits for browsers and for attempts to guess the token."""

import time
from collections.abc import Callable

_MOST_KNOWN = 1000


class RateLimit:
    """Limits a client to a burst of requests and to a rate after it."""

    def __init__(
        self, at_once: float, a_second: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once = at_once
        self._a_second = a_second
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}

    def allows(self, who: str) -> bool:
        """Whether one more request is within the limit; counts it if so."""
        now = self._now()
        left, since = self._left.pop(who, (self._at_once, now))
        left = min(self._at_once, left + (now - since) * self._a_second)
        self._left[who] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MOST_KNOWN:
            del self._left[next(iter(self._left))]  # the client that has been idle longest
        return left >= 1
