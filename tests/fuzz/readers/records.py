"""RecordIO with its index and property file, in whole and split records; verification sets."""

import pickle
import random
import struct
import tempfile
from pathlib import Path

import numpy as np

from curation.conversion.convert import convert
from curation.inspection import inspect_path
from curation.pairs import read_pairs, write_pairs
from curation.records.layout_writer import write_layout
from curation.records.recordio import MAGIC, MAGIC_BYTES
from curation.verify import verify
from tests.fuzz.harness import Files, Special, reader, take_in
from tests.fuzz.small_sets import images

_RECORDS = "train.rec"


def _packs() -> list[Files]:
    made = []
    for options in ({}, {"array_labels": True}, {"ranges": False}):
        with tempfile.TemporaryDirectory() as folder:
            labelled = [(image, i // 4) for i, image in enumerate(images())]
            write_layout(Path(folder) / "a", labelled, (24, 20), **options)
            made.append(take_in(Path(folder) / "a"))
    with_magic = [image[:-2] + MAGIC_BYTES * 3 + image[-2:] for image in images()]
    with tempfile.TemporaryDirectory() as folder:
        parted = [(image, i // 4) for i, image in enumerate(with_magic)]
        write_layout(Path(folder) / "a", parted, (24, 20))
        made.append(take_in(Path(folder) / "a"))
    return [*made, {_RECORDS: made[0][_RECORDS]}]


def _frame(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change a frame's kind or length, its header's numbers, or add frames within it."""
    content = files.get(_RECORDS)
    if not isinstance(content, bytes):
        return
    data = bytearray(content)
    heads = [at for at in range(0, len(data) - 40, 4) if data[at : at + 4] == MAGIC_BYTES]
    if not heads:
        return
    at = rng.choice(heads)
    word = struct.unpack_from("<I", data, at + 4)[0]
    match rng.randrange(6):
        case 0:
            word = (word & (1 << 29) - 1) | rng.randrange(8) << 29
        case 1:
            ends = [head - at - 8 for head in (*heads, len(data)) if head > at]
            word = rng.choice((*ends, 0, 4, (1 << 29) - 1))
        case 2:
            word += rng.choice((-4, -1, 1, 4))
        case 3:
            nested = struct.pack("<II", MAGIC, rng.randrange(4) << 29 | rng.choice((0, 8, 400)))
            data[at + 8 : at + 8] = nested * rng.choice((1, 10, 1000))
        case 4:
            struct.pack_into("<I", data, at + 8, rng.choice((0, 1, 2, 3, 2**16, 2**31, 2**32 - 1)))
        case _:
            label = rng.choice((-1.0, 0.5, float("nan"), float("inf"), 2.0**24, 2.0**25))
            struct.pack_into("<f", data, at + 8 + rng.choice((4, 24, 28)), label)
    struct.pack_into("<I", data, at + 4, word % (1 << 32))
    files[_RECORDS] = bytes(data)


@reader("RecordIO", _packs, [_frame, _frame], share=1.5)
def read(folder: Path) -> None:
    """Inspect a record file, and convert it, skipping bad records."""
    store = convert(folder, folder.with_name("a.lmdb"), skip_bad=True, decode=True)
    found = verify(store.path, decoding=True)
    assert found["sound"]
    inspect_path(folder)


def _sets() -> list[Files]:
    files, same = images()[:6], [True, False, True]
    arrays = [np.frombuffer(image, np.uint8) for image in files]
    many = np.empty(6, object)
    many[:] = files
    contents = [(files, same), (arrays, np.array(same)), (many, [np.bool_(each) for each in same])]
    made = [{"a.bin": pickle.dumps(content, 2 + i)} for i, content in enumerate(contents)]
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder) / "a.bin", files, same)
        return [*made, take_in(Path(folder))]


def _opcodes(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Insert opcodes, often very many."""
    content = files.get("a.bin")
    if not isinstance(content, bytes):
        return
    codes = (
        b"]",
        b")",
        b"(",
        b"}",
        b"0",
        b"1",
        b"2",
        b"N",
        b"\x85",
        b"\x86",
        b"a",
        b"e",
        b"R",
        b"b",
    )
    codes += (
        b"r" + rng.randbytes(4),
        b"h\0",
        b"\x94",
        b"q\xff",
        b"L12\n",
        b"\x8b" + rng.randbytes(4),
    )
    codes += (b"\x8a\xff" + bytes(255), b"\x8e" + rng.randbytes(8), b"\x95" + rng.randbytes(8))
    codes += (b"cnumpy\nndarray\n", b"cos\nsystem\n", b"cnumpy\ndtype\n", b"S'x'\n", b"I01\n", b".")
    codes += (b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n")
    at = rng.choice((2, rng.randrange(len(content) + 1), len(content) - 1))
    made = b"".join(rng.choices(codes, k=rng.choice((1, 2, 5)))) * rng.choice((1, 1, 10, 30_000))
    files["a.bin"] = content[:at] + made + content[at:]


@reader(".bin", _sets, [_opcodes, _opcodes], share=1.5)
def read_set(folder: Path) -> None:
    """Read a verification set."""
    pairs = read_pairs(folder / "a.bin")
    assert len(pairs.images) == 2 * len(pairs)
    _ = pairs.image_size
