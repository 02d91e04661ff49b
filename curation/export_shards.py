"""Exporting a store or view in files of many images: WebDataset shards, Parquet tables.

Both are built in ``DEST.partial/`` and renamed when complete, as in ``curation.export``.
"""

import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from curation.export import ExportOrder, check_distinct, destination_of, order_of, total_bytes
from curation.extract import SUFFIXES
from curation.files import atomic_folder
from curation.image_set import ImageSet
from curation.labels import UNLABELLED
from curation.progress import Progress
from curation.sources.parquet_files import load_parquet

SHARD_IMAGES = 10_000
"""Images per file"""
_GROUP_ROWS, _GROUP_BYTES = 1000, 16 << 20
"""Limits of a table's row group"""
_PADDING = bytes(tarfile.BLOCKSIZE)
_END = bytes(2 * tarfile.BLOCKSIZE)
_FEATURES = {
    "image": {"_type": "Image"},
    "label": {"dtype": "int64", "_type": "Value"},
}
"""Metadata by which Hugging Face's ``datasets`` recognises the image column"""


def export_webdataset(
    images: ImageSet, folder: Path, original: bool = False, progress: Progress | None = None
) -> None:
    """Write ``folder/shard-000000.tar``, ... with ``NUMBER.jpg`` and ``NUMBER.cls``.

    An image without a label has ``NUMBER.json`` with ``{"label": null}`` instead. See
    ``export_folders`` for labels, numbers, order and errors; progress counts images.
    """
    folder, order = _prepared(images, folder, original)
    with atomic_folder(folder, total_bytes(images)) as temporary:
        for shard, entries in enumerate(_shards(images, order, progress)):
            with _durable(temporary / f"shard-{shard:06d}.tar") as file:
                for name, content in _members(entries):
                    file.write(_header(name, len(content)))
                    file.write(content)
                    file.write(_PADDING[: -len(content) % tarfile.BLOCKSIZE])
                file.write(_END)


def export_parquet(
    images: ImageSet, folder: Path, original: bool = False, progress: Progress | None = None
) -> None:
    """Write ``folder/train-00000-of-00001.parquet``, ... with the columns ``image``, a struct of
    ``bytes`` and ``path``, and ``label``, null for an image without one.

    See ``export_folders`` for labels, numbers, order and errors; progress counts images.
    """
    parquet = load_parquet()
    folder, order = _prepared(images, folder, original)
    count = -(-len(images) // SHARD_IMAGES)
    schema = _schema()
    with atomic_folder(folder, total_bytes(images)) as temporary:
        for shard, entries in enumerate(_shards(images, order, progress)):
            path = temporary / f"train-{shard:05d}-of-{count:05d}.parquet"
            with (
                _durable(path) as file,
                parquet.ParquetWriter(file, schema, compression="none") as writer,
            ):
                for rows in _row_groups(entries):
                    writer.write_table(_table(rows, schema))


def _prepared(images: ImageSet, folder: Path, original: bool) -> tuple[Path, ExportOrder]:
    folder, order = destination_of(folder), order_of(images, original)
    if original:
        check_distinct(images, order.numbers)
    return folder, order


@contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """A new file, synced to the disk when the block ends."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


Written = tuple[int, int, bytes]
"""Label, number and file content of an image"""


def _members(entries: Iterable[Written]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files of each sample: the image, then its label."""
    for label, number, data in entries:
        key = f"{number:08d}"
        yield f"{key}{_suffix(data)}", data
        if label >= 0:
            yield f"{key}.cls", str(label).encode()
        else:
            yield f"{key}.json", b'{"label": null}'


def _shards(
    images: ImageSet, order: ExportOrder, progress: Progress | None
) -> Iterator[Iterator[Written]]:
    """The images of each file, read as they are consumed."""
    entries = order.entries(progress)

    def some(count: int) -> Iterator[Written]:
        for _ in range(count):
            index, label, number = next(entries)
            yield label, number, images.read(index)

    for first in range(0, len(images), SHARD_IMAGES):
        yield some(min(SHARD_IMAGES, len(images) - first))
    next(entries, None)


def _suffix(data: bytes) -> str:
    return SUFFIXES.get(data[:2], ".bin")


def _header(name: str, size: int) -> bytes:
    """A reproducible tar header."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _row_groups(entries: Iterator[Written]) -> Iterator[list[Written]]:
    rows: list[Written] = []
    size = 0
    for entry in entries:
        rows.append(entry)
        size += len(entry[2])
        if len(rows) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _schema() -> Any:
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    info = json.dumps({"info": {"features": _FEATURES}})
    return pa.schema([("image", image), ("label", pa.int64())], {"huggingface": info})


def _table(rows: list[Written], schema: Any) -> Any:
    import pyarrow as pa

    files = [{"bytes": data, "path": f"{n:08d}{_suffix(data)}"} for _, n, data in rows]
    labels = [None if label == UNLABELLED else label for label, _, _ in rows]
    return pa.table({"image": files, "label": labels}, schema=schema)
