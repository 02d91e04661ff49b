"""Verifying every byte of a store, view or source."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from curation.bad_images import BadImages
from curation.batches import batches
from curation.conversion.decoding import DecodeCheck
from curation.conversion.image_check import ImageCheck
from curation.errors import UserError
from curation.files import atomic_file
from curation.image_set import ImageSet
from curation.labels import UNLABELLED
from curation.progress import Progress
from curation.sources.opening import find_format, open_source
from curation.sources.quarantine import BadRecordError
from curation.store import ARRAYS, META_KEY, NAMES_KEY, Store, content_digest, image_key
from curation.views import View, open_images

_TOGETHER = 256


def verify(
    path: Path,
    decoding: bool = False,
    progress: Progress | None = None,
    list_file: Path | None = None,
) -> dict[str, Any]:
    """Verify everything at ``path``; returns a JSON-compatible report.

    For a store: the count and order of its keys, its arrays, its digest, each image's CRC-32,
    header and size. For a view: its arrays, its digest and its store. For a source: all checks of a
    conversion. ``decoding`` also decodes every image; of a view, only its own. ``bad`` counts bad
    images, ``bad_images`` has the first of them with their keys, and ``list_file`` gets all.
    Progress counts images (for a source, its own unit). Raises ``UserError`` for faults other than
    single images.
    """
    path = Path(path)
    check = _verify_images if find_format(path) is None else _verify_source
    with _opened(list_file) as file:
        bad = BadImages(file)
        found = check(path, decoding, bad, progress)
    return {**found, "sound": not bad.count, "bad": bad.count, "bad_images": bad.first}


@contextmanager
def _opened(list_file: Path | None) -> Iterator[BinaryIO | None]:
    if list_file is None:
        yield None
        return
    try:
        with atomic_file(list_file) as file:
            yield file
    except OSError as error:
        raise UserError(f"cannot write {list_file}: {error.strerror}") from None


def _verify_images(
    path: Path, decoding: bool, bad: BadImages, progress: Progress | None
) -> dict[str, Any]:
    images = open_images(path)
    _check_store(images, decoding, bad, progress)
    return {
        "kind": "view" if isinstance(images, View) else "store",
        "path": str(path),
        "images": len(images),
        "identities": images.identities,
        "unlabelled": images.unlabelled,
        "digest": images.digest,
        "decoded": len(images) if decoding else 0,
    }


def _verify_source(
    path: Path, decoding: bool, bad: BadImages, progress: Progress | None
) -> dict[str, Any]:
    source = open_source(path)
    check = ImageCheck(source.stated_image_size(), decoding=decoding)
    labels: set[int] = set()
    count = unlabelled = 0

    def on_bad(record: BadRecordError) -> None:
        bad.add(record.key, record.reason, byte=record.offset)

    for images in source.images(on_bad, progress=progress):
        for i, reason in check.objections(images.payloads).items():
            bad.add(int(images.keys[i]), reason, byte=int(images.offsets[i]))
        labels.update(images.labels.tolist())
        unlabelled += int(np.count_nonzero(images.labels < 0))
        count += len(images.payloads)
    return {
        "kind": source.kind,
        "path": str(source.path),
        "images": count,
        "identities": len(labels - {UNLABELLED}),
        "unlabelled": unlabelled,
        "digest": source.digest.hex,
        "decoded": count if decoding else 0,
    }


def _check_store(
    images: ImageSet, decoding: bool, bad: BadImages, progress: Progress | None
) -> None:
    root = images.store
    members = None if images is root else _Members(images.rows)
    for store, begin in zip(root.stores, root.begins.tolist(), strict=False):
        _check_arrays(store)
        check = _StoreCheck(store, members, begin, decoding, bad)
        done = 0
        for files in batches(store.read_unchecked(range(len(store))), _TOGETHER, len):
            check.look_at(files, done)
            done += len(files)
            if progress is not None:
                progress(begin + done, len(root))
        _check_keys(store)


class _StoreCheck:
    """Checks a store's images in turn; bad images among the view's ``members`` are listed.

    ``begin`` is the store's first row among those of ``members``.
    """

    def __init__(
        self,
        store: Store,
        members: "_Members | None",
        begin: int,
        decoding: bool,
        bad: BadImages,
    ) -> None:
        self._store, self._members, self._begin, self._bad = store, members, begin, bad
        self._headers = ImageCheck(store.image_size)
        self._decoding = DecodeCheck() if decoding else None

    def look_at(self, files: list[bytes], first: int) -> None:
        """``files`` are the store's images from ``first`` on."""
        checksums = self._store.checksums[first : first + len(files)].tolist()
        found = {
            i: "its bytes have changed"
            for i, (file, checksum) in enumerate(zip(files, checksums, strict=True))
            if zlib.crc32(file) != checksum
        }
        found = {**self._headers.objections(files), **found}
        if self._decoding is not None:
            wanted = [i for i in range(len(files)) if i not in found and self._holds(first + i)]
            found |= self._decoding.objections(files, wanted)
        for i, reason in sorted(found.items()):
            self._add(first + i, reason)

    def _holds(self, row: int) -> bool:
        return self._members is None or self._members.find(self._begin + row) is not None

    def _add(self, row: int, reason: str) -> None:
        image = row if self._members is None else self._members.find(self._begin + row)
        if image is None:
            raise UserError(f"{self._store.path} is damaged: image {row}: {reason}")
        self._bad.add(int(self._store.source_keys[row]), reason, image=image)


class _Members:
    """Lookup of the rows of a view."""

    def __init__(self, rows: np.ndarray) -> None:
        self._order = np.argsort(rows, kind="stable")
        self._rows = rows[self._order]

    def find(self, row: int) -> int | None:
        """The first image of the view with this row, or None."""
        place = int(np.searchsorted(self._rows, row))
        is_there = place < len(self._rows) and self._rows[place] == row
        return int(self._order[place]) if is_there else None


def _check_arrays(store: Store) -> None:
    """Check that they are as written; reading checks that they are consistent."""
    arrays = (getattr(store, key.decode()) for key in ARRAYS)
    if content_digest(store.meta.source_digest, arrays) != store.digest:
        raise UserError(f"{store.path} is damaged: its arrays have changed since it was written")
    _ = store.source_names


def _check_keys(store: Store) -> None:
    """Check that there are no keys besides the images and the index."""
    keys = store.all_keys()
    images = all(key == image_key(i) for i, key in zip(range(len(store)), keys, strict=False))
    rest = list(islice(keys, len(ARRAYS) + 3))
    wanted = sorted([*ARRAYS, META_KEY] + ([NAMES_KEY] if NAMES_KEY in rest else []))
    if not images or rest != wanted or store.stated_entries != len(store) + len(wanted):
        raise UserError(f"{store.path} is damaged: it has other entries than its images and index")
