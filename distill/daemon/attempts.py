"""One start of one job, with a unique name."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from distill.fence import attempt_name

_ID_BYTES = 8


def fresh_id() -> str:
    """A new id, unique across queues, because queues are lost, copied and restored."""
    return secrets.token_hex(_ID_BYTES)


@dataclass(frozen=True)
class Attempt:
    """One start of one job.

    The number is for people and gives the order within one queue. Another queue counts from 1
    again, so the id identifies an attempt; it is empty for attempts of versions without ids.
    """

    run: Path
    number: int
    id: str = ""

    @property
    def name(self) -> str:
        """The name in ``runner.json``, ``exit.json`` and the environment of every process."""
        return attempt_name(self.number, self.id)
