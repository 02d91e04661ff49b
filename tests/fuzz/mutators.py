"""Mutators: they change bytes, numbers, records and arrays, or replace whole files."""

import io
import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz.harness import Files, Mutator, Reader, Special

MOST_BYTES = 1 << 20
"""No file grows beyond this, or beyond its original size"""

_MOST_GROWN = 32 << 20
"""Bytes; the limit for a format's own mutators"""

_EDGES = [0, 1, -1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]
_NUMBERS = [
    "0", "-1", "1", "2147483648", "-9223372036854775809", "18446744073709551616", "1e15", "1e999",
    "-0.0", "NaN", "Infinity", "1" * 5000, "0x10", "true", "null", '""',
]  # fmt: skip
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**70), 10**30, 0.5, -0.5, 1e300,
    float("nan"), float("inf"), "", "x", "\ud800", "[/red]", "\x1b]52;c;AAAA\x07", "../../x",
    "/dev/zero", "a" * 100_000, "\u202e", "\0", [], {}, [[]], {"": {}}, [0] * 1000,
]  # fmt: skip


def make_input(reader: Reader, seed: int, number: int) -> Files:
    """The input with this number: a sample with one to four mutations."""
    rng = random.Random(f"{reader.name} {seed} {number}")
    files = dict(rng.choice(reader.samples))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        choices: list[Mutator] = [change_content, change_content, change_content, change_kind]
        rng.choice([*choices, *reader.mutators * 2])(rng, files)
        for name, content in files.items():
            files[name] = content[:_MOST_GROWN] if isinstance(content, bytes) else content
    return files


def change_kind(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Remove a file, empty it, swap it, or replace it with something that is not a file."""
    if not files:
        return
    name = rng.choice(sorted(files))
    what = rng.randrange(4)
    if what == 0:
        del files[name]
    elif what == 1:
        files[name] = b""
    elif what == 2:
        files[name] = files[rng.choice(sorted(files))]
    else:
        files[name] = rng.choice(list(Special))


def change_content(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Mutate one file, half of the time by its type, otherwise as bytes."""
    names = sorted(name for name, content in files.items() if isinstance(content, bytes))
    if not names:
        return
    name = rng.choice(names)
    content = files[name]
    assert isinstance(content, bytes)
    ways = [change_bytes, _fitting(name)]
    changed = rng.choice(ways)(rng, content)
    files[name] = changed[: max(MOST_BYTES, len(content))]


def _fitting(name: str) -> Callable[[random.Random, bytes], bytes]:
    """The mutator for files with this file's suffix."""
    if name.endswith((".json", ".jsonl")):
        return change_json
    if name.endswith(".npy"):
        return change_npy
    if name.endswith((".toml", ".csv", ".tsv", ".txt", ".lst", ".idx", "property", "SHA256SUMS")):
        return change_text
    return change_bytes


def change_bytes(rng: random.Random, content: bytes) -> bytes:
    """Mutate bits, numbers and ranges of a binary file."""
    data = bytearray(content)
    at = rng.randrange(len(data) + 1)
    # Formats keep essential fields near the start, so it is chosen more often.
    if rng.random() < 0.4:
        at = rng.randrange(min(len(data), 64) + 1)
    length = min(len(data) - at, rng.choice((1, 2, 4, 8, 16, 100, 4096)))
    match rng.randrange(9):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))])
        case 2 | 3:
            number = rng.choice(_EDGES) + rng.choice((-1, 0, 0, 0, 1))
            form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
            limit = 1 << 8 * struct.calcsize(form)
            data[at : at + struct.calcsize(form)] = struct.pack(form, number % limit)
        case 4:
            del data[at:]
        case 5:
            del data[at : at + length]
        case 6:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 100))
        case 7:
            data[at:at] = rng.randbytes(length)
        case _:
            other = rng.randrange(len(data) + 1)
            data[at : at + length] = data[other : other + length]
    return bytes(data)


def change_text(rng: random.Random, content: bytes) -> bytes:
    """Mutate numbers, words and lines of a text."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0 | 1:
            lines[at] = _another_number(rng, lines[at])
        case 2:
            lines.insert(at, lines[rng.randrange(len(lines))])
        case 3:
            del lines[at]
        case 4:
            lines[at : at + 1] *= rng.choice((2, 1000 if len(lines[at]) < 1000 else 2))
        case _:
            odd = rng.choice(("\t", " ", ".", "=", "[", '"', "\r", "\0", "²", "\ufeff", "\udcff"))
            place = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + odd * rng.choice((1, 1, 3, 3000)) + lines[at][place:]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _another_number(rng: random.Random, line: str) -> str:
    found = list(re.finditer(r"-?\d+(\.\d+)?", line))
    if not found:
        return rng.choice(_NUMBERS) + line
    chosen = rng.choice(found)
    return line[: chosen.start()] + rng.choice(_NUMBERS) + line[chosen.end() :]


def change_json(rng: random.Random, content: bytes) -> bytes:
    """Replace, remove or duplicate one value of a record (or of one record in a file of lines)."""
    lines = content.split(b"\n") if content.count(b"\n}") != 1 else [content]
    at = rng.randrange(len(lines))
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return change_text(rng, content)
    lines[at] = _in_json(_change_value(rng, value)).encode()
    return b"\n".join(lines)


def _change_value(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        keys = sorted(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(list(keys))
        what = rng.random()
        if what < 0.08:
            del value[key]
        elif what < 0.12 and isinstance(value, dict):
            value[rng.choice(("", "x", "__class__", key + " "))] = value[key]
        elif what < 0.16 and isinstance(value, list):
            value.extend(value * rng.choice((1, 1000)))
        else:
            value[key] = _change_value(rng, value[key])
        return value
    if isinstance(value, int | float) and rng.random() < 0.3:
        return value + rng.choice((-1, 1))
    if rng.random() < 0.05:
        return _Nested(rng.choice((100, 100_000)))
    return rng.choice(_VALUES)


class _Nested:
    """A nested list that is deeper than Python's JSON writer allows."""

    def __init__(self, depth: int) -> None:
        self.depth = depth


def _in_json(value: Any) -> str:
    nested: list[int] = []

    def note(odd: _Nested) -> str:
        nested.append(odd.depth)
        return f"nested {odd.depth}"

    text = json.dumps(value, default=note)
    for depth in nested:
        text = text.replace(f'"nested {depth}"', "[" * depth + "]" * depth)
    return text


def change_npy(rng: random.Random, content: bytes) -> bytes:
    """Change the header's shape, order or type, or set one number to a limit of its type."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:
        return change_bytes(rng, content)
    if rng.random() < 0.5 and array.size:
        changed = array.copy()
        edges = [0, -1, 1, array.size, 2**31 - 1, -(2**31), 2**63 - 1, float("nan"), 1e30]
        edge = rng.choice(edges)
        with np.errstate(all="ignore"):
            changed.flat[rng.randrange(array.size)] = np.array(edge).astype(array.dtype)
        return _npy(changed, changed.shape, changed.dtype.str, rng)
    shapes = [(), (0,), (1,), (10**15,), (2**62, 4), (-1,), (*array.shape, 1), array.shape[::-1]]
    kinds = ["<i8", ">i8", "<u8", "<f2", "|b1", "|O", "<U1000000", "<M8[ns]", "|V0", "<c16"]
    if rng.random() < 0.5:
        return _npy(array, rng.choice(shapes), array.dtype.str, rng)
    return _npy(array, array.shape, rng.choice(kinds), rng)


def _npy(array: np.ndarray, shape: tuple[int, ...], kind: str, rng: random.Random) -> bytes:
    order = rng.random() < 0.1
    text = f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + array.tobytes()
