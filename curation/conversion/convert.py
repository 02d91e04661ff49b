"""Converts a record file, folder or list to a store. Image files are copied unchanged.

The store is built in ``DEST.partial/`` and renamed when complete. Its content depends only on the
source, so an interrupted and resumed conversion gives the same images, arrays and digest as an
uninterrupted one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from curation.conversion import journal
from curation.conversion.build import Conversion
from curation.conversion.decoding import check_decoded, note_decoded
from curation.errors import UserError
from curation.files import DISK_ERRORS, UnreadableError, disk_error, read_whole, sync_folder
from curation.locks import locked
from curation.progress import Progress
from curation.sources.image_source import ImageSource, SourceStamp
from curation.sources.label_choice import USUAL, LabelChoice
from curation.sources.opening import open_source
from curation.sources.quarantine import BadRecordError
from curation.store import PARTIAL, STAMP_FILE, Store


def convert(
    source: Path,
    destination: Path,
    progress: Progress | None = None,
    *,
    skip_bad: bool = False,
    decode: bool = False,
    unlabelled: bool = False,
    choice: LabelChoice = USUAL,
    warn: Callable[[str], None] | None = None,
) -> Store:
    """Convert what ``open_source`` finds at ``source`` to the store ``destination``.

    Resumes an interrupted conversion. Does nothing if ``destination`` is complete and was made from
    the same source. ``skip_bad`` skips records that a store cannot contain and lists them in
    ``quarantine.tsv`` in the store's folder; by default the first one is an error. ``decode`` also
    treats images that cannot be decoded as bad, and checks an existing store. ``unlabelled``
    ignores labels; ``choice`` takes them from another place. ``warn`` is called with one line for
    each wrong statement of the source about itself, and each doubt about its labels. Progress
    counts images; the total is an estimate until all are read.

    Raises ``UserError`` if the source is unusable or has changed since, if ``destination`` is
    something else or in use by another conversion, and if the disk is full.
    """
    found = open_source(source, choice)
    found = found.without_labels() if unlabelled else found
    store = convert_source(found, destination, progress, skip_bad=skip_bad, decode=decode)
    if warn is not None:
        counts = len(store), store.identities, store.unlabelled
        for line in found.remarks(*counts, store.image_size):
            # An option for the labels is of no use while the store is there.
            warn(f"{line}; remove {destination} first" if "`--" in line else line)
    return store


def convert_source(
    found: ImageSource,
    destination: Path,
    progress: Progress | None = None,
    *,
    skip_bad: bool = False,
    decode: bool = False,
) -> Store:
    """``convert`` for a source that is already open."""
    destination = Path(destination).absolute()
    if destination.exists():
        return _existing(found, destination, decode, progress)
    partial = Path(f"{destination}{PARTIAL}")
    with disk_errors_explained(destination):
        partial.mkdir(parents=True, exist_ok=True)
        with _sole_user(partial):
            if destination.exists():  # another process finished it meanwhile
                return _existing(found, destination, decode, progress)
            _build(found, partial, skip_bad, decode, progress)
            partial.rename(destination)
            sync_folder(destination.parent)
    return _decoded(Store(destination), decode, progress)


def _build(
    source: ImageSource, partial: Path, skip_bad: bool, decode: bool, progress: Progress | None
) -> None:
    if not _is_complete(partial):
        try:
            Conversion(source, partial, skip_bad, decode, progress).run()
        except BadRecordError as bad:
            raise UserError(
                f"{bad}; correct the source, or skip such records with --skip-bad"
            ) from None
        finally:
            # Nothing worth keeping was written: leave no trace.
            if not _is_complete(partial) and journal.load_state(partial) is None:
                journal.discard(partial)
        if decode:
            note_decoded(Store(partial))
    elif not _is_source(partial, source, progress):
        raise UserError(
            f"{source.path} has changed since its conversion to {partial} was stopped; "
            f"remove {partial} to start over"
        )
    journal.clear(partial)
    sync_folder(partial)


def _is_complete(partial: Path) -> bool:
    try:
        Store(partial)
    except UserError:
        return False
    return True


def _existing(
    source: ImageSource, destination: Path, decode: bool, progress: Progress | None
) -> Store:
    store = Store(destination)
    if not _is_source(destination, source, progress):
        before, now = _stamp(destination), source.stamp()
        if before is not None and before == now.model_copy(update={"listing": before.listing}):
            raise UserError(
                f"{destination} was made from this source with other labels; give the same "
                "--unlabelled, --label-key or --identity-folder as before, or remove it to use "
                "other labels, or choose another destination (in a recipe: --dataset NAME)"
            )
        raise UserError(
            f"{destination} exists and was made from another source than {source.path}, or "
            "before that changed, or with other labels; give the same --unlabelled, --label-key or "
            "--identity-folder as before, choose another destination (in a recipe: --dataset "
            "NAME), or remove it; to add images, convert the new ones to another destination and "
            'train on both: data.train = [{ set = "OLD" }, { set = "NEW" }], or `curate join`'
        )
    return _decoded(store, decode, progress)


def _decoded(store: Store, decode: bool, progress: Progress | None) -> Store:
    """The store, after checking that its images can be decoded if ``decode`` is set."""
    if decode:
        check_decoded(store, progress)
    return store


def _is_source(folder: Path, source: ImageSource, progress: Progress | None) -> bool:
    """Whether the store in ``folder`` was made from ``source``.

    Equal size and modification time suffice; otherwise the digest of the source is computed and
    compared.
    """
    meta, now = Store(folder).meta, source.stamp()
    stamp = _stamp(folder) or now.model_copy(update={"modified_ns": -1})
    if stamp == now:
        return True
    same = (stamp.listing, meta.source_kind, meta.source_size)
    if same != (now.listing, source.kind, now.size):
        return False

    def in_images(done: int, total: int) -> None:
        if progress is not None:
            progress(done * meta.images // max(total, 1), meta.images)

    return source.whole_digest(in_images) == meta.source_digest


def _stamp(folder: Path) -> SourceStamp | None:
    """The stamp of the source that the store in ``folder`` was made from, if it can be read."""
    try:
        return SourceStamp.model_validate_json(read_whole(folder / STAMP_FILE, 1 << 20))
    except (UnreadableError, ValidationError):
        return None


@contextmanager
def disk_errors_explained(destination: Path) -> Iterator[None]:
    """Turn disk errors while writing the store ``destination`` into a ``UserError``."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            where = error.filename or destination
            raise UserError(f"cannot convert to {destination}: {where}: {error.strerror}") from None
        partial = Path(f"{destination}{PARTIAL}")
        raise UserError(f"{disk_error(partial, error.errno)} to continue") from None


@contextmanager
def _sole_user(partial: Path) -> Iterator[None]:
    with locked(partial):
        try:
            yield
        finally:
            # Fails unless the source was rejected at once, which leaves nothing worth keeping.
            with suppress(OSError):
                partial.rmdir()
