"""The end of a conversion: the arrays, what the store says about itself, and the tree."""

from importlib.metadata import version

from curation.conversion.image_check import ImageCheck
from curation.conversion.journal import PAGES_FILE, Journal
from curation.conversion.lmdb_writer import LmdbWriter
from curation.conversion.store_index import StoreIndex, Value
from curation.environment import DATA_FILE
from curation.files import atomic_file, sync_folder
from curation.sources.image_source import ImageSource
from curation.store import (
    FORMAT_VERSION,
    META_KEY,
    NAMES_KEY,
    STAMP_FILE,
    StoreMeta,
    image_key,
)


def write_store(
    writer: LmdbWriter, index: StoreIndex, source: ImageSource, journal: Journal, check: ImageCheck
) -> None:
    """Write what stands behind the images; then the data file takes its name.

    A conversion that is stopped here comes here again: the journal does not change.
    """
    leaves = [(image_key(entry), page) for entry, page in journal.leaves().tolist()]
    for value in sorted(_values(index, source, _meta(index, source, journal, check))):
        writer.put_stream(value.key, value.size, value.blocks())
        writer.end_leaf()
        leaves += [(value.key, leaf.page) for leaf in writer.take_leaves()]
    writer.finish(leaves, len(leaves))
    with atomic_file(journal.folder / STAMP_FILE) as file:
        file.write(journal.state.stamp.model_dump_json(indent=2).encode())
    (journal.folder / PAGES_FILE).rename(journal.folder / DATA_FILE)
    sync_folder(journal.folder)


def _values(index: StoreIndex, source: ImageSource, meta: StoreMeta) -> list[Value]:
    text = meta.model_dump_json().encode()
    values = [*index.values(), Value(META_KEY, len(text), lambda: iter([text]))]
    names = _names(index, source)
    if names is not None:
        values.append(Value(NAMES_KEY, len(names), lambda: iter([names])))
    return values


def _names(index: StoreIndex, source: ImageSource) -> bytes | None:
    """Each image's path, with zero bytes between; None where images are no files."""
    names = (source.name(place) for place in index.places())
    first = next(names)
    if first is None:
        return None
    return b"\0".join(str(name).encode("utf-8", "surrogateescape") for name in (first, *names))


def _meta(index: StoreIndex, source: ImageSource, journal: Journal, check: ImageCheck) -> StoreMeta:
    state, (_, source_digest) = journal.state, journal.state.digest
    assert check.image_size is not None
    return StoreMeta(
        format_version=FORMAT_VERSION,
        images=index.images,
        identities=index.identities,
        image_size=check.image_size,
        encoding=check.encoding,
        skipped=state.skipped,
        source_kind=source.kind,
        source_name=state.stamp.name,
        source_size=state.stamp.size,
        source_digest=source_digest,
        digest=index.digest(source_digest),
        software=f"face-distill {version('face-distill')}",
        complete=True,
    )
