"""Leases: the case each reviewer is looking at, so that no two work on the same case.

A lease only avoids duplicate work. Consistency is ensured by the log, which rejects a decision on a
case that has changed. So leases need not be durable, and a clock jump merely ends them.
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
    """``leases.json``: case, reviewer, and end of the lease (seconds since 1970).

    Must be called while the log is locked.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEASES_FILE

    def of_others(self, who: str, now: float) -> set[str]:
        """The cases leased to reviewers other than ``who``."""
        return {case for case, (other, _) in self._valid(now).items() if other != who}

    def holder(self, case: str, now: float) -> str | None:
        """The reviewer who is looking at the case."""
        found = self._valid(now).get(case)
        return None if found is None else found[0]

    def take(self, who: str, cases: Iterable[str], now: float) -> None:
        """Lease ``cases``, and nothing else, to ``who``. On a full disk, others do not see it."""
        valid = self._valid(now)
        kept = {case: held for case, held in valid.items() if held[0] != who}
        taken = dict.fromkeys(cases, (who, now + LEASE_SECONDS))
        with suppress(OSError), atomic_file(self._path, durable=False) as file:
            file.write(as_json({**kept, **taken}).encode())

    def _valid(self, now: float) -> dict[str, tuple[str, float]]:
        """Leases that have not expired; none if the file is damaged."""
        try:
            content = read_json(self._path)
            held = {str(case): (str(who), float(until)) for case, (who, until) in content.items()}
        except (UserError, OSError, TypeError, ValueError, AttributeError):
            return {}
        # No lease can last longer than it was taken for.
        return {c: (w, u) for c, (w, u) in held.items() if now < u <= now + LEASE_SECONDS}
