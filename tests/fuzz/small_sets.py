"""Material for samples: a store of a few small images, and a mutator of archives."""

import io
import random
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from curation.conversion.convert import convert
from curation.images import encode_jpeg
from curation.records.layout_writer import write_layout
from curation.store import Store
from tests.fuzz.harness import Files, Special, take_in
from tests.fuzz.mutators import MOST_BYTES, change_npy

STORE = "train.lmdb"
PEOPLE = (5, 1, 6, 4)
"""Images of each identity"""
_folders: list[tempfile.TemporaryDirectory[str]] = []


@cache
def images() -> list[bytes]:
    """Sixteen JPEG files of 24x20 pixels (height x width)."""
    noise = np.random.default_rng(0)
    return [encode_jpeg(noise.integers(0, 256, (24, 20, 3), np.uint8)) for _ in range(sum(PEOPLE))]


@cache
def store_files() -> Files:
    """The store of those images, by paths below ``train.lmdb``."""
    labels = [label for label, count in enumerate(PEOPLE) for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        write_layout(source, zip(images(), labels, strict=True), (24, 20))
        convert(source, Path(folder) / STORE)
        return take_in(Path(folder) / STORE)


@cache
def small_store() -> Store:
    """The store in a folder of this process."""
    _folders.append(tempfile.TemporaryDirectory())
    return store_beside(Path(_folders[-1].name) / "case")


def store_beside(folder: Path) -> Store:
    """The store next to ``folder``."""
    place = folder.parent / STORE
    if not place.exists():
        place.mkdir(parents=True)
        for name, content in store_files().items():
            assert isinstance(content, bytes)
            (place / name).write_bytes(content)
    return Store(place)


def npy(array: np.ndarray) -> bytes:
    """An array in the .npy format."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def change_member(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Replace, remove or duplicate an array of an ``.npz``; the archive stays valid."""
    archives = sorted(name for name in files if name.endswith(".npz"))
    if not archives:
        return
    name = rng.choice(archives)
    content = files[name]
    try:
        assert isinstance(content, bytes)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(each, archive.read(each)) for each in archive.namelist()]
    except Exception:
        return
    if not members or len(content) > MOST_BYTES:
        return
    at = rng.randrange(len(members))
    member, data = members[at]
    match rng.randrange(8):
        case 0:
            del members[at]
        case 1:
            members.append(members[at])
        case 2:
            members[at] = member, data + bytes(rng.choice((1, 1 << 20)))
        case 3:
            members[at] = rng.choice((".npy", "../../x.npy", "a" * 5000, "subjects", "")), data
        case 4:
            members = [(name, data[:1000]) for name, data in members] * rng.choice((10, 300))
        case _:
            members[at] = member, change_npy(rng, data)
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    files[name] = _zipped(members[:1000], rng.choice(kinds))


def _zipped(members: list[tuple[str, bytes]], kind: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data in members:
            # A new ZipInfo each time: writing the same name twice would cause a warning.
            info = zipfile.ZipInfo(name)
            info.compress_type = kind
            archive.NameToInfo.pop(name, None)
            archive.writestr(info, data)
    return file.getvalue()
