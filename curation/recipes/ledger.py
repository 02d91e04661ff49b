"""Records what recipes made, so that they update only their own outdated files.

``recipe.json`` in the data set's folder has a digest of each view and verification set that a
recipe wrote there. Anything with another digest or name belongs to the user.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from curation.errors import UserError
from curation.files import atomic_file, file_digest
from curation.json_text import read_record
from curation.printable import printable
from curation.views import VIEW_FILE

LEDGER_FILE = "recipe.json"
ASIDE = f"{LEDGER_FILE}.damaged"


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    made: dict[str, str] = {}


class Ledger:
    """The record of the data set in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER_FILE

    def set_aside_if_damaged(self) -> str | None:
        """Rename an unreadable record and return the error; None if it is readable.

        Afterwards nothing counts as made by a recipe.
        """
        if not self._path.exists():
            return None
        try:
            read_record(self._path, _Content)
        except UserError as error:
            self._path.replace(self._path.with_name(ASIDE))
            return str(error)
        return None

    def is_ours(self, path: Path) -> bool:
        """Whether a recipe made ``path`` and it is unchanged since."""
        known = self._made().get(printable(path.name))
        return known is not None and known == fingerprint(path)

    def enter(self, path: Path, digest: str) -> None:
        """Record the ``fingerprint`` of our file at ``path`` before it is put there.

        An entry without a file is harmless; a file without an entry would count as the user's.
        """
        content = _Content(made={**self._made(), printable(path.name): digest})
        with atomic_file(self._path) as file:
            file.write(content.model_dump_json(indent=2).encode())

    def _made(self) -> dict[str, str]:
        """The entries; empty if there is no readable record."""
        try:
            return read_record(self._path, _Content).made
        except UserError:
            return {}


def fingerprint(path: Path) -> str | None:
    """SHA-256 of a view's description (its steps and the digest of its arrays) or of a file."""
    try:
        return file_digest(path / VIEW_FILE if path.is_dir() else path)
    except (OSError, UserError):
        return None
