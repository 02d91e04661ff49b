"""Notices: what was asked for and does nothing, said once where people look.

A notice is no error: the job goes on. It is in the log, in ``distill show``, in evaluation.json and
on the bundle's card, so that nobody takes the numbers for more than they are.
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
    """``key`` names what it is about, so that it is said once; ``text`` is one line for people."""

    key: str
    text: str


Warn = Callable[[Notice], None]


class _Kept(RootModel[Annotated[list[Notice], Field(max_length=10_000)]]):
    model_config = ConfigDict(strict=True)


def keeping(path: Path, warn: Warn) -> Warn:
    """``warn``, which also keeps each notice in ``path``, for those who come when all is done."""

    def keep(notice: Notice) -> None:
        kept = read_notices(path)
        if notice.key not in {each.key for each in kept}:
            with atomic_file(path) as file:
                told = [asdict(each) for each in (*kept, notice)]
                file.write(as_json(told, indent=2).encode())
        warn(notice)

    return keep


def read_notices(path: Path) -> list[Notice]:
    """What ``keeping`` kept; none where there is no such file."""
    try:
        return read_record(path, _Kept).root
    except UserError:
        return []
