"""SHA-256 of the part of a source read so far; a resumed conversion checks the source by it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from curation.errors import UserError


class PrefixDigest(NamedTuple):
    """The SHA-256 of a source's first ``length`` bytes (or files)."""

    length: int
    hex: str


def check_unchanged(path: Path, now: PrefixDigest, earlier: PrefixDigest | None) -> None:
    """Raise ``UserError`` if the source had a different digest when ``earlier`` was taken."""
    if earlier is not None and now.length == earlier.length and now != earlier:
        raise UserError(
            f"{path} has changed since the conversion was stopped; remove the unfinished store to "
            "start over"
        )


class RunningDigest:
    """Hashes the images of a source in order; ``count`` is the number added so far."""

    def __init__(self, begin: bytes = b"") -> None:
        self.count = 0
        self._hash = hashlib.sha256(begin)

    def add(self, count: int, parts: Iterable[bytes]) -> None:
        """Add the bytes of the next ``count`` images."""
        for part in parts:
            self._hash.update(part)
        self.count += count

    @property
    def value(self) -> PrefixDigest:
        """The digest of everything added so far."""
        return PrefixDigest(self.count, self._hash.hexdigest())

    def check_unchanged(self, path: Path, earlier: PrefixDigest | None) -> None:
        """See ``check_unchanged``."""
        if earlier is not None and earlier.length == self.count:
            check_unchanged(path, self.value, earlier)
