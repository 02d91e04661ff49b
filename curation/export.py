"""Exporting a store or view as RecordIO in insightface's layout, or as image files.

``export_shards`` has the other formats.

Both are built in ``DEST.partial/`` and renamed when complete; an interrupted export starts over.
Images are read one at a time, and their files' bytes are unchanged.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.extract import image_file_name
from curation.files import atomic_folder
from curation.image_set import ImageSet
from curation.labels import UNLABELLED
from curation.progress import Progress
from curation.records.layout_writer import check_label, write_layout
from curation.records.ms1m import FLOAT32_INTEGERS

OTHER_FORMS = (
    *(".lmdb", ".view", ".rec", ".bin", ".partial"),
    *(".tar", ".tgz", ".gz", ".zip", ".parquet", ".tsv", ".txt", ".lst"),
)
"""Suffixes of stores, views and files, whose unfinished versions an export could collide with, and
which folders are not expected to have"""


@dataclass(frozen=True)
class ExportOrder:
    """The order in which images are written, and their names; all int64 ``[N]``."""

    indices: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray
    """The file name of each image in a folder"""

    def entries(self, progress: Progress | None) -> Iterator[tuple[int, int, int]]:
        """Index, label and number of each image."""
        columns = (self.indices.data, self.labels.data, self.numbers.data)
        for done, entry in enumerate(zip(*columns, strict=True)):
            yield entry
            if progress is not None and done % 256 == 0:
                progress(done, len(self.indices))
        if progress is not None:
            progress(len(self.indices), len(self.indices))


def export_records(
    images: ImageSet,
    folder: Path,
    original: bool = False,
    array_labels: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write ``folder/train.rec``, ``train.idx`` and ``property``; progress counts images.

    Labels and order are those of ``images``; with ``original``, labels are those of the source and
    images are in the order of its record keys. Header and identity records are omitted if they
    cannot be correct: if the images of an identity are not consecutive, or keys exceed float32's
    exact range. ``array_labels`` gives each image the labels [label, 0].

    Raises ``UserError`` if ``folder`` exists or has another format's suffix, a label exceeds 2^24,
    two identities have the same original label, images have no label, or ``array_labels`` is set
    although there can be no header record.
    """
    folder = destination_of(folder)
    if images.unlabelled:
        raise UserError(
            f"{images.unlabelled:,} of {len(images):,} images of {images.path} have no label, "
            f"which RecordIO cannot represent; export them with --as folders, webdataset or parquet"
        )
    order = order_of(images, original)
    ranges = _has_ranges(order.labels, images.identities)
    if array_labels and not ranges:
        raise UserError(
            f"{images.path} can only be written without a header record, because its identities "
            f"are not contiguous or its keys exceed float32; leave --array-labels out"
        )
    check_label(int(order.labels.max()))
    with atomic_folder(folder, total_bytes(images)) as temporary:
        files = ((images.read(index), label) for index, label, _ in order.entries(progress))
        write_layout(temporary, files, images.image_size, array_labels, ranges)


def export_folders(
    images: ImageSet, folder: Path, original: bool = False, progress: Progress | None = None
) -> None:
    """Write ``folder/IDENTITY/NUMBER.jpg`` (or ``.png``), and ``folder/unlabelled/NUMBER.jpg``
    for images without a label; progress counts images.

    IDENTITY and NUMBER are label and index in ``images``; with ``original``, the label and the
    record key in the source. Raises ``UserError`` if ``folder`` exists, or if original values do
    not distinguish identities or images.
    """
    folder = destination_of(folder)
    order = order_of(images, original)
    if original:
        check_distinct(images, order.numbers, order.labels)
    with atomic_folder(folder, total_bytes(images)) as temporary:
        made = set()
        for index, label, number in order.entries(progress):
            data = images.read(index)
            path = temporary / image_file_name(label, number, data)
            if label not in made:
                path.parent.mkdir()
                made.add(label)
            path.write_bytes(data)
        os.sync()  # once for all files: a million fsyncs take hours


def total_bytes(images: ImageSet) -> int:
    """The bytes of all image files: the least that an export takes."""
    root = images.store
    which = np.searchsorted(root.begins, images.rows, side="right") - 1
    return sum(
        store.bytes_of(images.rows[which == number] - root.begins[number])
        for number, store in enumerate(root.stores)
    )


def destination_of(folder: Path) -> Path:
    folder = Path(folder).absolute()
    if folder.suffix in OTHER_FORMS:
        raise UserError(
            f"{folder} looks like the name of a file; give the name of a folder, without a suffix"
        )
    return folder


def order_of(images: ImageSet, original: bool) -> ExportOrder:
    if not original:
        indices = np.arange(len(images))
        return ExportOrder(indices, images.labels.astype(np.int64), indices)
    labels, counts = np.unique(images.source_labels, return_counts=True)
    if len(labels) and labels[0] < 0:
        raise UserError(
            f"identities of {images.path} had no label in the source; leave --original out"
        )
    if counts.max(initial=0) > 1:
        raise UserError(
            f"two identities of {images.path} had the label {labels[counts > 1][0]} in the source "
            "(one was split); leave --original out"
        )
    indices = np.argsort(images.source_keys, kind="stable")
    original_labels = np.append(images.source_labels, UNLABELLED)[images.labels[indices]]
    return ExportOrder(indices, original_labels, images.source_keys[indices])


def _has_ranges(labels: np.ndarray, identities: int) -> bool:
    """Whether a header and identity records can describe the ranges of the identities."""
    runs = 1 + int(np.count_nonzero(np.diff(labels)))
    return runs == identities and len(labels) + identities < FLOAT32_INTEGERS


def check_distinct(images: ImageSet, *names: np.ndarray) -> None:
    """Raise ``UserError`` if two images have the same value in each array."""
    by_name = np.lexsort(names)
    same = np.all([np.diff(values[by_name]) == 0 for values in names], axis=0)
    if same.any():
        raise UserError(
            f"two images of {images.path} had one record key in the source; leave --original out"
        )
