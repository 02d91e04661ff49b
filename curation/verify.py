"""Whether every byte of a store, view or record file is what it should be."""

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from curation.conversion.image_check import ImageCheck
from curation.conversion.quarantine import stop_at
from curation.conversion.store_index import INDEX_KEYS
from curation.environment import DATA_FILE, check_data_file
from curation.errors import UserError
from curation.images import decode
from curation.isolation import run_isolated
from curation.progress import Progress
from curation.records.ms1m import RecordImages, find_source
from curation.store import NAMES_KEY, Store, content_digest, image_key
from curation.views import View, open_images

_TOGETHER = 256


def verify(path: Path, decoding: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Check all of what lies at ``path``; what was checked, in words for JSON.

    A store: the count and order of its keys, its arrays, its digest, each image's CRC-32, header
    and size; a view: its arrays, its digest and its store; a record file: all that a conversion
    checks. ``decoding`` decodes every image too. Progress counts images (bytes of a record file).
    Runs in a process of its own, because LMDB believes what it reads and may crash on a damaged
    file. Raises ``UserError`` naming the first thing that is wrong.
    """
    try:
        return run_isolated(_verify, (Path(path), decoding), progress)
    except ChildProcessError as error:
        raise UserError(f"{path} is damaged: reading it crashed ({error}); make it again") from None


def _verify(path: Path, decoding: bool, progress: Progress) -> dict[str, Any]:
    if path.suffix == ".rec" or (path / "train.rec").exists():
        return _verify_records(path, decoding, progress)
    images = open_images(path)
    if isinstance(images, View):
        _check_view(images)
    _check_store(images.store, decoding, progress)
    return {
        "kind": "view" if isinstance(images, View) else "store",
        "path": str(path),
        "images": len(images),
        "identities": images.identities,
        "digest": images.digest,
        "decoded": len(images.store) if decoding else 0,
        "sound": True,
    }


def _verify_records(path: Path, decoding: bool, progress: Progress) -> dict[str, Any]:
    source = RecordImages(find_source(path))
    check = ImageCheck(source.stated_image_size())
    labels: set[int] = set()
    count = 0
    for images in source.images(stop_at, progress=progress):
        for i, reason in check.objections(images.payloads).items():
            key, offset = int(images.keys[i]), int(images.offsets[i])
            raise UserError(f"{source.describe(key, offset)}: {reason}")
        if decoding:
            places = zip(images.keys.tolist(), images.offsets.tolist(), strict=True)
            names = [source.describe(*place) for place in places]
            _decode_all(names, [bytes(image) for image in images.payloads])
        labels.update(images.labels.tolist())
        count += len(images.payloads)
    return {
        "kind": "records",
        "path": str(source.path),
        "images": count,
        "identities": len(labels),
        "digest": source.digest.hex,
        "decoded": count if decoding else 0,
        "sound": True,
    }


def _check_view(view: View) -> None:
    """What opening the view has not checked: that rows and labels can be."""
    if not ((view.rows >= 0) & (view.rows < len(view.store))).all():
        raise UserError(f"{view.path} is damaged: it lists images that its store does not have")
    begins = np.diff(view.labels, prepend=-1)
    if not np.isin(begins, (0, 1)).all() or begins[0] != 1 or begins.sum() != view.identities:
        raise UserError(f"{view.path} is damaged: its labels do not ascend from 0 without gaps")


def _check_store(store: Store, decoding: bool, progress: Progress) -> None:
    _check_arrays(store)
    check = ImageCheck(store.image_size)
    entries = iter(store.entries())
    for first in range(0, len(store), _TOGETHER):
        last = min(first + _TOGETHER, len(store))
        images = [_checked(store, i, next(entries, None)) for i in range(first, last)]
        names = [f"{store.path}: image {i}" for i in range(first, last)]
        for i, reason in check.objections(images).items():
            raise UserError(f"{names[i]}: {reason}")
        if decoding:
            _decode_all(names, images)
        progress(last, len(store))
    _check_rest(store, entries)


def _check_arrays(store: Store) -> None:
    counts = np.diff(store.offsets)
    source_labels = np.diff(store.source_labels)
    if (
        store.offsets[0] != 0
        or store.offsets[-1] != len(store)
        or (counts <= 0).any()
        or (store.labels != np.repeat(np.arange(store.identities), counts)).any()
        or (source_labels <= 0).any()
    ):
        raise UserError(f"{store.path} is damaged: its labels and offsets do not fit each other")
    arrays = (getattr(store, key.decode()).tobytes() for key in INDEX_KEYS)
    if content_digest(store.meta.source_digest, arrays) != store.digest:
        raise UserError(f"{store.path} is damaged: its arrays are not those it was written with")
    _ = store.source_names  # their number is checked in reading


def _checked(store: Store, i: int, entry: tuple[memoryview, memoryview] | None) -> bytes:
    """The image under key ``i``, which must be the next entry."""
    if entry is None or entry[0] != image_key(i):
        raise UserError(f"{store.path} is damaged: image {i} is missing or out of order")
    if zlib.crc32(entry[1]) != store.checksums[i]:
        raise UserError(f"{store.path} is damaged: the bytes of image {i} are not what they were")
    return bytes(entry[1])


def _check_rest(store: Store, entries: Iterator[tuple[memoryview, memoryview]]) -> None:
    names = [bytes(key) for key, _ in entries]
    wanted = sorted([*INDEX_KEYS, b"meta"] + ([NAMES_KEY] if NAMES_KEY in names else []))
    count = check_data_file(store.path / DATA_FILE)
    if names != wanted or count != len(store) + len(wanted):
        raise UserError(f"{store.path} is damaged: it has other entries than its images and index")


def _decode_all(names: list[str], images: list[bytes]) -> None:
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(decode, images, names):
            pass
