"""RecordIO in, a store out: bytes are copied, never decoded; one pass to look, one to copy.

The store is built in ``DEST.partial/`` and renamed when it is complete. Batches are cut at the same
images every time and each is one LMDB transaction in an environment that was opened for it, so a
conversion that was stopped at any byte goes on at the last whole batch, and its ``data.mdb`` is, to
the byte, what an uninterrupted one gives. (LMDB recycles page buffers within an environment without
clearing them; only a fresh environment makes the unused ends of pages the same.)
"""

import errno
import fcntl
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import lmdb

from curation.environment import DATA_FILE, check_data_file
from curation.errors import UserError
from curation.files import sync_folder
from curation.ms1m import Source, find_source
from curation.plan import StorePlan, plan_store
from curation.progress import Progress
from curation.recordio import ImageRecord, RecordReader
from curation.scan import (
    SCAN_FILE,
    Scan,
    has_digest,
    is_source,
    load_scan,
    load_stamp,
    save_scan,
    scan_source,
)
from curation.store import (
    FORMAT_VERSION,
    LABELS_KEY,
    LABELS_TYPE,
    META_KEY,
    OFFSETS_KEY,
    OFFSETS_TYPE,
    PARTIAL,
    SOURCE_KEYS_KEY,
    SOURCE_KEYS_TYPE,
    SOURCE_LABELS_KEY,
    SOURCE_LABELS_TYPE,
    Store,
    StoreMeta,
    image_key,
)


def convert(source: Path, destination: Path, progress: Progress | None = None) -> Store:
    """Convert a folder with ``train.rec``, or a ``.rec`` file, to the store ``destination``.

    Goes on where an earlier conversion was stopped; does nothing where ``destination`` is complete
    and from the same source. Progress counts bytes of the record file, which is read twice. Raises
    ``UserError`` where the source is unusable or has changed since, where ``destination`` is
    something else or in use by another conversion, and where the disk is full.
    """
    found = find_source(source)
    destination = Path(destination).absolute()
    if destination.exists():
        return _existing(found, destination, progress)
    partial = Path(f"{destination}{PARTIAL}")
    with _disk_errors_explained(destination):
        partial.mkdir(parents=True, exist_ok=True)
        with _sole_user(partial):
            if destination.exists():  # finished by another process while this one came
                return _existing(found, destination, progress)
            _build(found, partial, progress)
            partial.rename(destination)
            sync_folder(destination.parent)
    return Store(destination)


def _existing(source: Source, destination: Path, progress: Progress | None) -> Store:
    store = Store(destination)
    stamp = load_stamp(destination)
    if not (
        is_source(stamp, source, progress)
        if stamp
        else has_digest(source.records, store.meta.source_size, store.meta.source_digest, progress)
    ):
        raise UserError(
            f"{destination} exists and was made from another source than {source.records}; "
            "take it away or choose another destination"
        )
    return store


@contextmanager
def _disk_errors_explained(destination: Path) -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        reason = str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            where = error.filename or destination
            raise UserError(f"cannot convert to {destination}: {where}: {error.strerror}") from None
        reason = os.strerror(error.errno)
    else:
        return
    raise UserError(
        f"cannot write {destination}{PARTIAL}: {reason}: the disk is full or failing; "
        "free some space and run the same command again, it goes on where it was"
    )


@contextmanager
def _sole_user(partial: Path) -> Iterator[None]:
    """Hold the folder's lock, which a process that dies gives back by itself."""
    descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"another process is converting to {partial}; wait for it") from None
    try:
        yield
    finally:
        # A source that was refused at once leaves nothing worth keeping; else this fails.
        with suppress(OSError):
            partial.rmdir()
        os.close(descriptor)


def _build(source: Source, partial: Path, progress: Progress | None) -> None:
    """Bring ``partial`` to a complete store, from whatever state it is in."""
    scan = _scan(source, partial, _part(progress, source, 0))
    plan = plan_store(scan)
    done = _images_done(partial, plan)
    _check_space(partial, plan)
    _copy(source, scan, plan, partial, done, _part(progress, source, 1))
    if not _is_complete(partial):
        _write_index(scan, plan, partial)
    # The stamp stays, to know the source again; with the scan goes what only resuming needs.
    (partial / SCAN_FILE).unlink()
    sync_folder(partial)


def _part(progress: Progress | None, source: Source, part: int) -> Progress | None:
    """Progress of one of two passes over the record file as progress of both."""
    if progress is None:
        return None
    size = source.records.stat().st_size
    return lambda done, total: progress(part * size + done * size // max(total, 1), 2 * size)


def _scan(source: Source, partial: Path, progress: Progress | None) -> Scan:
    stamp = load_stamp(partial)
    if stamp is not None and not is_source(stamp, source, progress):
        raise UserError(
            f"{source.records} has changed since its conversion to {partial} was stopped; "
            f"take {partial} away to begin anew"
        )
    scan = load_scan(partial)
    if scan is None:
        scan = scan_source(source, progress)
        (partial / DATA_FILE).unlink(missing_ok=True)
        save_scan(partial, scan)
    return scan


def _images_done(partial: Path, plan: StorePlan) -> int:
    """How many images earlier conversions have committed; an unusable file is taken away."""
    path = partial / DATA_FILE
    if not path.exists():
        return 0
    try:
        check_data_file(path)
        with _environment(partial, plan) as environment:
            entries = min(environment.stat()["entries"], plan.images)
    except (UserError, lmdb.Error):
        entries = -1
    if entries in plan.batches:
        return entries
    path.unlink()
    return 0


def _check_space(partial: Path, plan: StorePlan) -> None:
    path = partial / DATA_FILE
    wanted = plan.file_size - (path.stat().st_size if path.exists() else 0)
    free = shutil.disk_usage(partial).free
    if wanted > free:
        raise UserError(
            f"{partial} needs {wanted / 1e6:,.0f} MB more, its disk has {free / 1e6:,.0f} MB free; "
            "free some space and run the same command again, or choose another destination"
        )


def _environment(partial: Path, plan: StorePlan) -> lmdb.Environment:
    # No writemap: a full disk would be a bus error. No lock file: the folder is locked already.
    return lmdb.open(str(partial), map_size=plan.map_size, lock=False, mode=0o644)


def _copy(
    source: Source,
    scan: Scan,
    plan: StorePlan,
    partial: Path,
    done: int,
    progress: Progress | None,
) -> None:
    with RecordReader(source.records) as reader:
        for first, last in pairwise(plan.batches):
            if first < done:
                continue
            images = _images(reader, scan, plan, first, last, progress)
            with _environment(partial, plan) as environment, environment.begin(write=True) as batch:
                batch.cursor().putmulti(images, append=True)
    if progress is not None:
        progress(plan.images, plan.images)


def _images(
    reader: RecordReader,
    scan: Scan,
    plan: StorePlan,
    first: int,
    last: int,
    progress: Progress | None,
) -> Iterator[tuple[bytes, bytes]]:
    rows = plan.order[first:last]
    offsets, checksums = scan.offsets[rows].tolist(), scan.checksums[rows].tolist()
    for i, offset, checksum in zip(range(first, last), offsets, checksums, strict=True):
        payload = ImageRecord.unpack(reader.read(offset)).payload
        if zlib.crc32(payload) != checksum:
            raise UserError(
                f"{reader.path} was changed at byte {offset} during its conversion; "
                "take the unfinished conversion away and begin anew"
            )
        yield image_key(i), payload
        if progress is not None and i % 256 == 0:
            progress(i, plan.images)


def _is_complete(partial: Path) -> bool:
    try:
        Store(partial)
    except UserError:
        return False
    return True


def _write_index(scan: Scan, plan: StorePlan, partial: Path) -> None:
    """The arrays and, last, the meta data that makes the store one: a single transaction."""
    arrays = {
        LABELS_KEY: plan.labels.astype(LABELS_TYPE),
        OFFSETS_KEY: plan.offsets.astype(OFFSETS_TYPE),
        SOURCE_KEYS_KEY: scan.keys[plan.order].astype(SOURCE_KEYS_TYPE),
        SOURCE_LABELS_KEY: plan.source_labels.astype(SOURCE_LABELS_TYPE),
    }
    digest = hashlib.sha256(f"store {FORMAT_VERSION} {scan.stamp.digest}\n".encode())
    for array in arrays.values():
        digest.update(array.tobytes())
    meta = _meta(scan, plan, digest.hexdigest())
    with _environment(partial, plan) as environment, environment.begin(write=True) as transaction:
        for key, array in arrays.items():
            transaction.put(key, array.tobytes())
        transaction.put(META_KEY, meta.model_dump_json().encode())


def _meta(scan: Scan, plan: StorePlan, digest: str) -> StoreMeta:
    stamp = scan.stamp
    return StoreMeta(
        format_version=FORMAT_VERSION,
        images=plan.images,
        identities=len(plan.source_labels),
        image_size=stamp.image_size,
        encoding=stamp.encoding,
        source_name=stamp.name,
        source_size=stamp.size,
        source_digest=stamp.digest,
        digest=digest,
        software=f"face-distill {version('face-distill')}",
        complete=True,
    )
