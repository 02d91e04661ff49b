"""The content of a store, read by liblmdb: equal stores may differ in unused bytes."""

import hashlib
from pathlib import Path

import lmdb

from curation.environment import Environment


def content_of(store: Path) -> str:
    """SHA-256 of all entries, after asserting that the pages are valid."""
    Environment(store).check_pages()
    digest = hashlib.sha256()
    with lmdb.open(str(store), readonly=True, lock=False) as environment:
        for key, value in environment.begin(buffers=True).cursor():
            digest.update(b"%d %d " % (len(key), len(value)))
            digest.update(key)
            digest.update(value)
    return digest.hexdigest()
