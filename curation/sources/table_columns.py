"""The columns of a table that hold images, labels and names, and the rows as entries.

An image is a struct with ``bytes`` (and ``path``), or plain bytes, as Hugging Face writes them.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.images import MAX_FILE_BYTES
from curation.labels import UNLABELLED
from curation.sources.entries import ImageEntry, LabelNumbers
from curation.sources.label_choice import LabelChoice, single, usual_key

IMAGES = ("image", "img", "jpg", "jpeg", "png", "image_bytes", "bytes")
NAMES = ("__key__", "file_name", "filename", "image_filename", "path", "key", "name")
"""Names of the name column in order of preference"""
_JSON = "json"
"""WebDataset's column with the objects of JSON files"""
_LONGEST_NAME = 4096


class TableColumns:
    """The columns of a table that hold images, labels and names."""

    def __init__(self, shard: Path, schema: Any, choice: LabelChoice) -> None:
        import pyarrow as pa

        types = {field.name: field.type for field in schema}
        fit = {name.lower(): name for name, kind in types.items() if _has_images(pa, kind)}
        image = next((fit[name] for name in IMAGES if name in fit), None)
        if image is None and len(fit) == 1:
            image = next(iter(fit.values()))
        if image is None and fit:
            raise UserError(
                f"{shard} has several columns of images, {', '.join(fit.values())[:200]}; call the "
                f"one to read {IMAGES[0]}, or drop the others"
            )
        if image is None:
            raise UserError(
                f"{shard} has no column of images among {', '.join(types)[:200]}; expected "
                f"one of bytes, or a struct with bytes, called {', '.join(IMAGES[:4])}, ..."
            )
        self.image, self._is_struct = image, pa.types.is_struct(types[image])
        self._label = _label_path(types, choice)
        if choice.key and not self._label:
            raise UserError(f"{shard} has no column {choice.key}, but {', '.join(types)[:200]}")
        self._name = next((name for name in NAMES if name in types and name != image), None)
        label = [".".join(self._label)] if self._label else []
        others = [self._name] if self._name and self._name not in self._label[:1] else []
        self.wanted = [image, *label, *others]
        self.roots = [image, *self._label[:1], *others]
        self.unread = [] if label else [name for name in types if name not in (image, "__key__")]

    def entries(self, batch: Any, first: int, numbers: LabelNumbers) -> Iterator[ImageEntry]:
        images, paths = batch.column(self.image), None
        if self._is_struct:
            parts = {images.type.field(i).name: part for i, part in enumerate(images.flatten())}
            images, paths = parts["bytes"], parts.get("path")
        names = batch.column(self._name) if self._name else None
        labels = [None] * len(images)
        if self._label:
            root, *inner = self._label
            labels = batch.column(root).to_pylist()
            for key in inner:
                labels = [None if each is None else each[key] for each in labels]
        rows = zip(_names(len(images), names, paths), labels, _files(images), strict=True)
        for offset, row in enumerate(rows, first):
            yield _row(offset, *row, numbers)


def _label_path(types: dict[str, Any], choice: LabelChoice) -> tuple[str, ...]:
    """The column of labels and the fields inside it; () if there is none."""
    if choice.key in types:
        return (choice.key,)
    if choice.key:
        path = tuple(choice.key.split("."))
        return path if _is_field(types.get(path[0]), path[1:]) else ()
    found = usual_key(types)
    if found is not None:
        return (found,)
    fields = _fields(types.get(_JSON))
    inner = usual_key(fields)
    return () if inner is None else (_JSON, inner)


def _is_field(kind: Any, path: Sequence[str]) -> bool:
    for key in path:
        kind = _fields(kind).get(key)
    return kind is not None


def _fields(kind: Any) -> dict[str, Any]:
    """The types of a struct's fields; {} for anything else."""
    import pyarrow as pa

    if kind is None or not pa.types.is_struct(kind):
        return {}
    return {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}


def _names(count: int, *columns: Any) -> Iterable[str]:
    """For each row, the first name found in the columns."""
    there = [column.to_pylist() for column in columns if column is not None] or [[""] * count]
    first = (next(filter(None, row), "") for row in zip(*there, strict=True))
    names = there[0] if len(there) == 1 else first
    return (str(name)[:_LONGEST_NAME].replace("\0", "") if name else "" for name in names)


def _files(images: Any) -> Iterator[bytes | int | None]:
    """The bytes of each row in a column, their length if it exceeds the limit, or None for null.

    Reads Arrow's buffers directly, several times faster than creating a pyarrow object per row.
    """
    if str(images.type) not in ("binary", "large_binary"):
        images = images.cast("large_binary")
    _, ends, data = images.buffers()
    kind = np.dtype(np.int64 if str(images.type).startswith("large") else np.int32)
    ends = np.frombuffer(ends, kind, len(images) + 1, images.offset * kind.itemsize).tolist()
    content = memoryview(b"" if data is None else data)
    for (begin, end), is_there in zip(pairwise(ends), _are_there(images), strict=True):
        if not is_there:
            yield None
        elif end - begin > MAX_FILE_BYTES:
            yield end - begin
        else:
            yield content[begin:end].tobytes()


def _are_there(column: Any) -> Iterable[bool]:
    return column.is_valid().to_pylist() if column.null_count else repeat(True, len(column))


def _row(
    offset: int, name: str, label: Any, content: bytes | int | None, numbers: LabelNumbers
) -> ImageEntry:
    if content is None:
        reason = "its row has no bytes of an image"
        if name:
            reason += ", only a name; tables of names are read as lists (.csv, .jsonl)"
        return ImageEntry(name, UNLABELLED, offset, b"", reason)
    if isinstance(content, int):
        reason = f"it has {content:,} bytes, more than {MAX_FILE_BYTES:,}"
        return ImageEntry(name, UNLABELLED, offset, b"", reason)
    try:
        label = single(label)
        is_missing = label is None or label != label  # pandas writes NaN
        found = UNLABELLED if is_missing else numbers.of(label)
    except ValueError as error:
        return ImageEntry(name, UNLABELLED, offset, b"", str(error))
    return ImageEntry(name, found, offset, content)


def _has_images(pa: ModuleType, kind: Any) -> bool:
    if pa.types.is_struct(kind):
        fields = _fields(kind)
        return "bytes" in fields and _is_bytes(pa, fields["bytes"])
    return _is_bytes(pa, kind)


def _is_bytes(pa: ModuleType, kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))
