"""One start of one job, by a name that no other start ever has."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from distill.fence import attempt_name

_ID_BYTES = 8


def fresh_id() -> str:
    """An id that no queue has given before: queues are lost, copied and restored."""
    return secrets.token_hex(_ID_BYTES)


@dataclass(frozen=True)
class Attempt:
    """One start of one job.

    The number is for people, and an order within one queue. Another queue counts from 1 again, so
    the id tells attempts apart; it is empty where a version before ids claimed the job.
    """

    run: Path
    number: int
    id: str = ""

    @property
    def name(self) -> str:
        """The same in ``runner.json``, ``exit.json`` and the environment of every process."""
        return attempt_name(self.number, self.id)
