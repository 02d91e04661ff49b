"""Photographs as saved by cameras and browsers."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from curation.errors import UserError
from curation.images import encode_jpeg
from curation.photographs.reading import exif_orientation, read_photograph, turn_upright

UPRIGHT = cv2.resize(
    np.random.default_rng(0).integers(60, 200, (3, 4, 3), np.uint8), (280, 200), None, 0, 0, 1
)


def encoded(suffix: str, pixels: np.ndarray = UPRIGHT) -> bytes:
    return cv2.imencode(suffix, pixels[..., ::-1])[1].tobytes()


def with_exif(jpeg: bytes, orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tags = struct.pack(f"{order}HHHII", 2, 0x010F, 2, 4, 0x41414141)
    tags += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    content = b"Exif\0\0" + mark + struct.pack(f"{order}I", 8) + tags
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    other = b"\xff\xe0" + struct.pack(">H", 16) + b"JFXX\0" + bytes(9)
    return jpeg[:2] + other + segment + jpeg[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
def test_the_exif_orientation_is_applied(orientation: int, order: str) -> None:
    stored = next(
        picture
        for turns in range(4)
        for mirror in (1, -1)
        for picture in [np.rot90(UPRIGHT, turns)[:, ::mirror]]
        if np.array_equal(turn_upright(picture, orientation), UPRIGHT)
    )
    file = with_exif(encode_jpeg(np.ascontiguousarray(stored)), orientation, order)
    assert exif_orientation(file) == orientation
    assert np.abs(read_photograph(file).astype(int) - UPRIGHT).mean() < 6
    assert np.abs(cv2.imdecode(np.frombuffer(file, np.uint8), 1)[..., ::-1].astype(int)
                  - read_photograph(file)).mean() < 1  # fmt: skip


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(orientation: int) -> None:
    assert exif_orientation(with_exif(encode_jpeg(UPRIGHT), orientation)) == 1


@pytest.mark.parametrize("cut", range(4, 60, 5))
def test_truncated_exif_is_ignored(cut: int) -> None:
    assert exif_orientation(with_exif(encode_jpeg(UPRIGHT), 6)[:cut]) in (1, 6)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".bmp", ".gif", ".jpg"])
def test_many_image_formats_are_read(suffix: str) -> None:
    assert np.abs(read_photograph(encoded(suffix)).astype(int) - UPRIGHT).mean() < 18


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_reduced_to_the_upper_eight(suffix: str) -> None:
    deep = UPRIGHT.astype(np.uint16) * 257
    assert np.array_equal(read_photograph(encoded(suffix, deep)), UPRIGHT)


def test_grey_images_have_three_channels() -> None:
    grey = cv2.imencode(".jpg", UPRIGHT[..., 0])[1].tobytes()
    assert read_photograph(grey).shape == UPRIGHT.shape


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".bmp", ".gif", ".jpg"])
def test_a_truncated_file_is_damaged(suffix: str) -> None:
    whole = encoded(suffix, np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8))
    with pytest.raises(UserError, match="is damaged"):
        read_photograph(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", "not an image"),
        (bytes(range(100, 164)), "not an image"),
        (b"hello", "a text file"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "heic"),
        (b"\xff\xd8\xff", "is damaged"),
    ],
)
def test_other_files_are_refused_with_a_reason(file: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_photograph(file)


def test_a_huge_jpeg_is_downscaled() -> None:
    file = encode_jpeg(np.full((9000, 9000, 3), (180, 90, 40), np.uint8))
    pixels = read_photograph(file)
    assert pixels.shape == (4500, 4500, 3)
    assert np.abs(pixels[::500, ::500].astype(int) - (180, 90, 40)).max() < 4


def test_a_png_with_too_many_pixels_is_refused() -> None:
    side = 9000

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((side // 8 + 1) * side))
    file = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with pytest.raises(UserError, match="pixels"):
        read_photograph(file)
