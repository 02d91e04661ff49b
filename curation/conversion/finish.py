"""The end of a conversion: writes the arrays and the description of the store."""

from collections.abc import Mapping
from importlib.metadata import version

import numpy as np

from curation.conversion.image_check import ImageCheck
from curation.conversion.journal import CHECKSUM, KEY, LABEL, OFFSET, Journal
from curation.files import atomic_file, sync_folder
from curation.labels import UNLABELLED
from curation.sources.image_source import ImageSource
from curation.store import (
    ARRAYS,
    CHECKSUMS_KEY,
    FORMAT_VERSION,
    LABELS_KEY,
    NAMES_KEY,
    OFFSETS_KEY,
    SOURCE_KEYS_KEY,
    SOURCE_LABELS_KEY,
    STAMP_FILE,
    StoreMeta,
    content_digest,
)

_NAMES_TOGETHER = 1 << 16


def finish_store(
    source: ImageSource, journal: Journal, order: np.ndarray | None, check: ImageCheck
) -> None:
    """Write everything except the images, which are in ``order`` (None: in reading order).

    Safe to repeat after an interruption, since the journal does not change.
    """
    arrays = _arrays(journal.rows(), order)
    for key, array in arrays.items():
        journal.file.put(key, array.data)
    names = _names(source, journal.rows(), order)
    if names is not None:
        journal.file.put(NAMES_KEY, names)
    with atomic_file(journal.folder / STAMP_FILE) as file:
        file.write(journal.state.stamp.model_dump_json(indent=2).encode())
    journal.file.finish(_meta(source, journal, arrays, check).to_json())
    sync_folder(journal.folder)


def _arrays(rows: np.ndarray, order: np.ndarray | None) -> Mapping[bytes, np.ndarray]:
    """The arrays of the store for rows int64 ``[N, 5]`` in ``order``."""

    def column(number: int) -> np.ndarray:
        return rows[:, number] if order is None else rows[order, number]

    source_labels = column(LABEL)
    labelled = source_labels >= 0
    begins = labelled & (np.diff(source_labels, prepend=UNLABELLED) != 0)
    arrays = {
        CHECKSUMS_KEY: column(CHECKSUM),
        LABELS_KEY: np.where(labelled, np.cumsum(begins) - 1, UNLABELLED),
        OFFSETS_KEY: np.append(np.flatnonzero(begins), np.count_nonzero(labelled)),
        SOURCE_KEYS_KEY: column(KEY),
        SOURCE_LABELS_KEY: source_labels[begins],
    }
    return {key: np.ascontiguousarray(array, ARRAYS[key]) for key, array in arrays.items()}


def _names(source: ImageSource, rows: np.ndarray, order: np.ndarray | None) -> bytes | None:
    """The path of each image, separated by zero bytes; None if images are not files."""
    offsets = rows[:, OFFSET] if order is None else rows[order, OFFSET]
    parts: list[bytes] = []
    for first in range(0, len(offsets), _NAMES_TOGETHER):
        names = source.names(offsets[first : first + _NAMES_TOGETHER])
        if names is None:
            return None
        parts.append("\0".join(names).encode("utf-8", "surrogateescape"))
    return b"\0".join(parts)


def _meta(
    source: ImageSource, journal: Journal, arrays: Mapping[bytes, np.ndarray], check: ImageCheck
) -> StoreMeta:
    state, (_, source_digest) = journal.state, journal.state.digest
    assert check.image_size is not None
    return StoreMeta(
        format_version=FORMAT_VERSION,
        images=len(arrays[LABELS_KEY]),
        identities=len(arrays[SOURCE_LABELS_KEY]),
        unlabelled=int(np.count_nonzero(arrays[LABELS_KEY] < 0)),
        image_size=check.image_size,
        encoding=check.encoding,
        skipped=state.skipped,
        source_kind=source.kind,
        source_name=state.stamp.name,
        source_size=state.stamp.size,
        source_digest=source_digest,
        digest=content_digest(source_digest, arrays.values()),
        software=f"face-distill {version('face-distill')}",
        complete=True,
    )
