"""JPEG and PNG files of every supported kind, also with valid checksums."""

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from curation.errors import UserError
from curation.images import check_pixels, decode, decode_into, encode_jpeg, probe_size
from curation.report.gallery import SMALL, thumbnail
from tests.fuzz.harness import Files, Special, reader

_NAME = "face"
_SIZE = (48, 40)
_SEGMENTS = (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC8, 0xC9, 0xCC, 0xD0, 0xD7, 0xD8, 0xD9, 0xDA, 0xDB)
_SEGMENTS += (0xDC, 0xDD, 0xDE, 0xE0, 0xE1, 0xEE, 0xF0, 0xFE, 0x01, 0x02)


def _pixels() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (*_SIZE, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def _jpegs() -> list[Files]:
    pixels = _pixels()
    options = [
        [],
        [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        [cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
        [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    ]
    files = [cv2.imencode(".jpg", pixels, each)[1].tobytes() for each in options]
    exif = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(files[0])) + b"Exif\0\0" + files[0]
    files += [cv2.imencode(".jpg", pixels[..., 0])[1].tobytes(), files[1][:2] + exif + files[1][2:]]
    return [{_NAME: data} for data in files]


def _pngs() -> list[Files]:
    pixels = _pixels()
    alpha = np.dstack([pixels, pixels[..., :1]])
    kinds = [pixels, pixels[..., 0], alpha, pixels.astype(np.uint16) * 257]
    files = [cv2.imencode(".png", each)[1].tobytes() for each in kinds]
    grey = cv2.imencode(".png", pixels[..., 0], [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
    raw = b"".join(b"\0" + bytes(range(_SIZE[1])) for _ in range(_SIZE[0]))
    header = struct.pack(">IIBBBBB", _SIZE[1], _SIZE[0], 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", bytes(768)),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    )
    palette = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)
    return [{_NAME: data} for data in (*files, grey, palette)]


def _chunk(kind: bytes, content: bytes) -> bytes:
    size, checksum = len(content), zlib.crc32(kind + content)
    return struct.pack(">I", size) + kind + content + struct.pack(">I", checksum)


def _another_segment(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Insert a JPEG segment of some type before another, or repeat one many times."""
    data = files.get(_NAME)
    if not isinstance(data, bytes):
        return
    places = [i for i in range(len(data) - 3) if data[i] == 0xFF and data[i + 1] in _SEGMENTS]
    at = rng.choice(places) if places else 0
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    match rng.randrange(4):
        case 0:
            content = rng.randbytes(rng.choice((0, 1, 8, 200)))
            size = rng.choice((len(content) + 2, 0, 1, 2, 0xFFFF))
            made = bytes([0xFF, rng.choice(_SEGMENTS)]) + struct.pack(">H", size) + content
        case 1:
            made = data[at : at + 2 + length] * rng.choice((1, 2, 50, 5000))
        case 2:
            made = bytes([0xFF, rng.choice((0xFF, 0xD0, 0x01))]) * rng.choice((1, 100, 100_000))
        case _:
            height, width = (rng.choice((0, 1, 48, 4000, 8192, 30000, 65535)) for _ in range(2))
            kind = rng.choice((0xC0, 0xC1, 0xC2, 0xC9))
            frame = struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1"
            made = bytes([0xFF, kind]) + frame
    if rng.random() < 0.3:
        files[_NAME] = data[:at] + made + data[at + 2 + length :]
    else:
        files[_NAME] = data[:at] + made + data[at:]


def _another_size(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change the size in a JPEG's frame header, and sometimes add some hundred scans."""
    data = files.get(_NAME)
    if not isinstance(data, bytes):
        return
    frames = [data.find(bytes([0xFF, kind])) for kind in (0xC0, 0xC1, 0xC2)]
    at = max(frames)
    if at < 0:
        return
    size = struct.pack(">HH", *(rng.choice((1, 47, 49, 500, 3000, 8192, 20000)) for _ in range(2)))
    data = data[: at + 5] + size + data[at + 9 :]
    if rng.random() < 0.5:
        scan = data.find(b"\xff\xda", at)
        empty = bytes.fromhex(rng.choice(("ffda0008010100003f00", "ffda0008010100013f01")))
        data = data[:scan] + empty * rng.choice((1, 15, 90, 3000)) + data[scan:]
    files[_NAME] = data


def _another_chunk(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change, duplicate, extend or remove a PNG chunk, and update its checksum."""
    data = files.get(_NAME)
    if not isinstance(data, bytes):
        return
    chunks, position = [], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append(
            (data[position + 4 : position + 8], data[position + 8 : position + 8 + length])
        )
        position += 12 + length
    if not chunks:
        return
    at = rng.randrange(len(chunks))
    kind, content = chunks[at]
    match rng.randrange(6):
        case 0:
            chunks *= rng.choice((2, 3))
        case 1:
            del chunks[at]
        case 2 if kind == b"IDAT":
            chunks[at] = kind, zlib.compress(bytes(rng.choice((0, 1, 1000, 10**6, 10**8))), 9)
        case 3:
            sizes = (rng.choice((0, 1, 40, 48, 4000, 8192, 2**31)) for _ in range(2))
            depth, colours = rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6))
            header = struct.pack(">IIBBBBB", *sizes, depth, colours, 0, 0, rng.randrange(2))
            chunks[rng.choice((0, at))] = b"IHDR", header
        case 4:
            more = rng.choice(
                (b"acTL", b"fcTL", b"iCCP", b"zTXt", b"eXIf", b"tRNS", b"PLTE", b"sBIT")
            )
            chunks.insert(at, (more, rng.randbytes(rng.choice((0, 6, 26, 768)))))
        case _:
            changed = bytearray(content)
            if changed:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            chunks[at] = kind, bytes(changed)
    files[_NAME] = data[:8] + b"".join(_chunk(*each) for each in chunks)


def _look_at(folder: Path) -> None:
    """All decoders agree, and the pixels have the size that the header states."""
    path = folder / _NAME
    if not path.is_file():
        return
    data = path.read_bytes()
    thumbnail(data, SMALL)
    size = probe_size(data)
    assert _objection(check_pixels, data) == _objection(decode, data)
    pixels = decode(data)
    assert pixels.shape == (*size, 3)
    target = np.empty_like(pixels)
    decode_into(target, data)
    assert (target == pixels).all()
    encode_jpeg(pixels[:100, :100])


def _objection(use: Callable[[bytes], object], data: bytes) -> str | None:
    try:
        use(data)
    except UserError as error:
        return str(error)
    return None


@reader("JPEG", _jpegs, [_another_segment, _another_size], share=1.5)
def read_jpeg(folder: Path) -> None:
    """Decode a JPEG file."""
    _look_at(folder)


@reader("PNG", _pngs, [_another_chunk], share=1.0)
def read_png(folder: Path) -> None:
    """Decode a PNG file."""
    _look_at(folder)
