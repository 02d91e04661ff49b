"""The insightface layout of a training set: MS1M and the many sets derived from it.

A folder with ``train.rec`` (RecordIO), ``train.idx`` (record keys), ``property`` ("identities,
height,width") and verification sets ``*.bin``. Record 0 is a header with the labels [key of the
first identity record, end of keys]. Then come the images, then one record per identity with the
labels [first image, last + 1] and no payload. Some packs lack the index, the header or the identity
records; all are supported.

An image's label is its identity. The ranges in header and identity records are never used for
labels: float32 cannot represent odd integers above 2^24, so those of Glint360K are off by one.
"""

import re
from pathlib import Path
from typing import NamedTuple

from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.pairs import pair_files_of
from curation.records.walk import FLOAT32_INTEGERS as FLOAT32_INTEGERS
from curation.records.walk import Source
from curation.text_files import text_lines
from curation.text_numbers import whole


def find_source(path: Path) -> Source:
    """Find the training set in the folder ``path``, or that of the record file ``path``.

    Raises ``UserError`` naming the expected files if there is no record file.
    """
    path = Path(path)
    records = path / "train.rec" if path.is_dir() and path.suffix.lower() != ".rec" else path
    if records.is_dir():
        raise UserError(f"{records} is a directory; expected a RecordIO file")
    if records.is_symlink():
        _check_begins_as_records(records)
    if not records.exists():
        what = "no train.rec in it" if path.is_dir() else "it does not exist"
        raise UserError(
            f"{path}: {what}; give a folder with train.rec (and train.idx, property, *.bin) "
            "or a .rec file"
        )
    _check_begins_as_records(records)
    suffix = ".IDX" if records.suffix.isupper() else ".idx"
    index, properties = records.with_suffix(suffix), records.with_name("property")
    return Source(
        records,
        # A broken link is reported on reading. Without the index, the keys would differ.
        index if index.exists() or index.is_symlink() else None,
        properties if properties.exists() or properties.is_symlink() else None,
        pair_files_of(records),
    )


def _check_begins_as_records(records: Path) -> None:
    """Reject files of another kind; damaged RecordIO is reported on reading."""
    kind = detect_kind(records)
    if kind is not None and kind.name not in ("recordio", "empty"):
        raise kind.refusal(records, "RecordIO")


def stated_image_size(source: Source) -> tuple[int, int] | None:
    """(height, width) from the ``property`` file; None without one."""
    found = read_property(source)
    return None if found is None else (found.height, found.width)


class Property(NamedTuple):
    """The content of a ``property`` file."""

    identities: int
    height: int
    width: int


def read_property(source: Source) -> Property | None:
    """Read the ``property`` file; None without one.

    Raises ``UserError`` if it is malformed.
    """
    if source.property is None:
        return None
    wanted = "'identities,height,width'"
    lines = text_lines(source.property, wanted)
    _, text = next(lines, (1, ""))
    words = re.split(r"[,\s]+", text.strip())
    numbers = [found for found in map(whole, words) if found is not None]
    if len(words) != 3 or len(numbers) != 3:
        raise UserError(
            f"{source.property}: {text[:60]!r} is not {wanted}; correct it or remove it"
        )
    return Property(*numbers)
