"""Notices: settings that had no effect, reported once where people look.

A notice is not an error, and the job continues. It appears in the log, in ``distill show``, in
evaluation.json and on the bundle's card, so that nobody misreads the numbers.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, RootModel

from curation.errors import UserError
from curation.files import atomic_file
from curation.json_text import as_json, read_record


@dataclass(frozen=True)
class Notice:
    """``key`` identifies the subject, so that it is reported once; ``text`` is one line."""

    key: str
    text: str


Warn = Callable[[Notice], None]


class _Kept(RootModel[Annotated[list[Notice], Field(max_length=10_000)]]):
    model_config = ConfigDict(strict=True)


def keeping(path: Path, warn: Warn) -> Warn:
    """``warn``, extended to store each notice in ``path`` for later readers."""

    def keep(notice: Notice) -> None:
        kept = read_notices(path)
        if notice.key not in {each.key for each in kept}:
            with atomic_file(path) as file:
                notices = [asdict(each) for each in (*kept, notice)]
                file.write(as_json(notices, indent=2).encode())
        warn(notice)

    return keep


def read_notices(path: Path) -> list[Notice]:
    """The notices stored by ``keeping``; empty if there is no such file."""
    try:
        return read_record(path, _Kept).root
    except UserError:
        return []
