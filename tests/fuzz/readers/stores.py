"""LMDB files: our stores and files of liblmdb, also with changed numbers in their trees."""

import random
import struct
import tempfile
from pathlib import Path

import lmdb

from curation.environment import DATA_FILE
from curation.export import export_folders, export_records
from curation.inspection import inspect_path
from curation.store import Store
from curation.verify import verify
from tests.fuzz.harness import Files, Special, reader, take_in
from tests.fuzz.small_sets import STORE, store_files

_PAGE = 4096


def _samples() -> list[Files]:
    ours = {f"{STORE}/{name}": content for name, content in store_files().items()}
    with tempfile.TemporaryDirectory() as folder:
        _written_by_liblmdb(ours, Path(folder))
        data = take_in(Path(folder))[DATA_FILE]
    return [ours, {**ours, f"{STORE}/{DATA_FILE}": data}]


def _written_by_liblmdb(ours: Files, folder: Path) -> None:
    """The same entries, written by liblmdb in any order."""
    with tempfile.TemporaryDirectory() as other:
        data = ours[f"{STORE}/{DATA_FILE}"]
        assert isinstance(data, bytes)
        (Path(other) / DATA_FILE).write_bytes(data)
        with lmdb.open(other, readonly=True, lock=False) as environment:
            entries = list(environment.begin().cursor())
    random.Random(0).shuffle(entries)
    with lmdb.open(str(folder), map_size=1 << 24, lock=False) as environment:
        for key, value in entries:
            with environment.begin(write=True) as transaction:
                transaction.put(key, value)


def _tree(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change a number in a page header, its pointers, a node, or a meta page."""
    name = f"{STORE}/{DATA_FILE}"
    content = files.get(name)
    if not isinstance(content, bytes) or len(content) < 4 * _PAGE:
        return
    data = bytearray(content)
    pages = [at for at in range(0, len(data) - _PAGE, _PAGE) if data[at + 10] in (1, 2)]
    if not pages or rng.random() < 0.2:
        at, form = 16 + rng.randrange(2) * _PAGE + 8 * rng.randrange(16), "<Q"
    else:
        page = rng.choice(pages)
        count = struct.unpack_from("<H", data, page + 12)[0] // 2 - 8
        pointer = page + 16 + 2 * rng.randrange(min(max(count, 1), 500))
        node = page + struct.unpack_from("<H", data, pointer)[0] % _PAGE
        places = ((page, "<Q"), (page + 10, "<H"), (page + 12, "<H"), (pointer, "<H"), (node, "<I"))
        places += ((node + 4, "<H"), (node + 6, "<H"), (node + 8, ">Q"), (node + 16, "<Q"))
        at, form = rng.choice(places)
    size = struct.calcsize(form)
    edges = (0, 1, 2, 8, 16, 255, 4095, 4096, 65535, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
    if at + size <= len(data):
        near = struct.unpack_from(form, data, at)[0] + rng.choice((-1, 1, 2))
        value = rng.choice((near, rng.choice(edges), rng.randrange(len(data) // _PAGE)))
        struct.pack_into(form, data, at, value % (1 << 8 * size))
    files[name] = bytes(data)


@reader("LMDB", _samples, [_tree, _tree], share=1.0)
def read(folder: Path) -> None:
    """Use a store as the commands do."""
    path = folder / STORE
    inspect_path(path)
    verify(path, decoding=True)
    store = Store(path)
    export_folders(store, folder / "folders")
    export_records(store, folder / "records", original=True)
