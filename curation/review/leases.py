"""Leases: which reviewer has which case on the screen, so that two do not look at one.

A lease only spares work. What is decided is held together by the log, which refuses a decision
on what has changed; so leases need not survive anything, and a clock that jumps only ends them.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from curation.errors import UserError
from curation.files import atomic_file
from curation.json_text import as_json, read_json

LEASES_FILE = "leases.json"
LEASE_SECONDS = 180.0


class Leases:
    """``leases.json``: case, reviewer, and until when (seconds since 1970).

    Called while the log is held.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEASES_FILE

    def of_others(self, who: str, now: float) -> set[str]:
        """Cases that others than ``who`` look at."""
        return {case for case, (other, _) in self._valid(now).items() if other != who}

    def holder(self, case: str, now: float) -> str | None:
        """Who looks at the case."""
        found = self._valid(now).get(case)
        return None if found is None else found[0]

    def take(self, who: str, cases: Iterable[str], now: float) -> None:
        """``who`` looks at ``cases`` and at nothing else; a full disk hides that from others."""
        valid = self._valid(now)
        kept = {case: held for case, held in valid.items() if held[0] != who}
        taken = dict.fromkeys(cases, (who, now + LEASE_SECONDS))
        with suppress(OSError), atomic_file(self._path, durable=False) as file:
            file.write(as_json({**kept, **taken}).encode())

    def _valid(self, now: float) -> dict[str, tuple[str, float]]:
        """Those that have not ended; none where the file cannot be what was written."""
        try:
            content = read_json(self._path)
            held = {str(case): (str(who), float(until)) for case, (who, until) in content.items()}
        except (UserError, OSError, TypeError, ValueError, AttributeError):
            return {}
        # None can be longer than it was taken for.
        return {c: (w, u) for c, (w, u) in held.items() if now < u <= now + LEASE_SECONDS}
