"""The cost of an image is bounded by its pixels, whatever its bytes claim."""

import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from test_images import chunk

from curation.errors import UserError
from curation.images import check_pixels, decode, decode_into, probe_size
from curation.jpeg import find_frame

NOISE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
JPEG = cv2.imencode(".jpg", NOISE)[1].tobytes()
PROGRESSIVE = cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
EMPTY_SCAN = bytes.fromhex("ffda0008010100003f00")


def of_size(data, height, width):
    """A JPEG whose frame header claims another size."""
    place = find_frame(data).position + 3
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def with_scans(count, height, width):
    """A JPEG with a size and a number of scans without data, ten bytes each."""
    data = of_size(JPEG, height, width)
    return data[: data.index(b"\xff\xda")] + EMPTY_SCAN * count + b"\xff\xd9"


def refusal(data):
    """The common one-line error of all functions that read pixels, within seconds."""
    began, said = time.process_time(), set()
    target = np.empty((48, 48, 3), np.uint8)
    for use in (decode, check_pixels, lambda data: decode_into(target, data)):
        with pytest.raises(UserError) as found:
            use(data)
        said.add(str(found.value))
    assert time.process_time() - began < 5
    (line,) = said
    assert "\n" not in line
    return line


class TestJpeg:
    @pytest.mark.parametrize("size", [(48, 48), (1000, 1000), (8192, 8192)])
    def test_small_files_with_many_scans_are_refused(self, size):
        assert "101 scans; at most" in refusal(with_scans(101, *size))
        assert "more than 1000 segments" in refusal(with_scans(100_000, *size))

    def test_larger_images_may_have_fewer_scans(self):
        assert "33 scans; at most 32 are read at its size" in refusal(with_scans(33, 8192, 8192))
        assert "it cannot be decoded" in refusal(with_scans(33, 800, 800))

    def test_the_scans_of_a_progressive_jpeg_are_accepted(self):
        assert decode(PROGRESSIVE).shape == (48, 48, 3)

    def test_scans_after_the_end_or_in_a_comment_do_not_count(self):
        many = EMPTY_SCAN * 200
        comment = b"\xff\xfe" + struct.pack(">H", len(many) + 2) + many
        np.testing.assert_array_equal(decode(JPEG + many), decode(JPEG))
        np.testing.assert_array_equal(decode(JPEG[:2] + comment + JPEG[2:]), decode(JPEG))
        frame = find_frame(JPEG).position - 2
        np.testing.assert_array_equal(decode(JPEG[:frame] + comment + JPEG[frame:]), decode(JPEG))

    def test_fill_bytes_are_skipped_in_linear_time(self):
        filled = JPEG[:2] + b"\xff" * 3_000_000 + JPEG[2:]
        assert probe_size(filled) == (48, 48)
        refusal(JPEG[:2] + b"\xff" * 3_000_000 + b"\0")
        refusal(JPEG[:2] + b"\xff" * 3_000_000)

    @pytest.mark.parametrize("segment", [b"\xff\xd0", b"\xff\x01", b"\xff\xfe\0\2"])
    def test_millions_of_segments_before_the_size_are_refused(self, segment):
        assert "its header states no size" in objection(JPEG[:2] + segment * 3_000_000 + JPEG[2:])

    def test_a_second_frame_header_is_damage_anywhere(self):
        begin = find_frame(JPEG).position - 2
        frame = of_size(JPEG, 30_000, 30_000)[begin : begin + 19]
        refusal(JPEG[: begin + 19] + frame + JPEG[begin + 19 :])
        refusal(JPEG[:-2] + frame + JPEG[-2:])
        assert "30000x30000" in refusal(JPEG[:begin] + frame + JPEG[begin:])

    def test_a_height_defined_later_is_refused(self):
        later = of_size(JPEG, 0, 48)[:-2] + b"\xff\xdc\0\4\0\x30\xff\xd9"
        assert "states no size" in refusal(later)

    @pytest.mark.parametrize("kind", [0xC3, 0xC5, 0xC7, 0xCB, 0xCD, 0xCF])
    def test_kinds_unsupported_by_libjpeg_are_refused(self, kind):
        place = find_frame(JPEG).position
        refusal(JPEG[: place - 1] + bytes([kind]) + JPEG[place:])

    def test_twelve_bits_and_odd_numbers_of_colours_are_refused(self):
        place = find_frame(JPEG).position
        refusal(JPEG[: place + 2] + b"\x0c" + JPEG[place + 3 :])
        for colours in (0, 2, 5, 255):
            refusal(JPEG[: place + 7] + bytes([colours]) + JPEG[place + 8 :])


def objection(data):
    with pytest.raises(UserError) as found:
        decode(data)
    return str(found.value)


def png(
    width=16, height=16, depth=8, colours=2, before=b"", raw=None, interlaced=0, methods=(0, 0)
):
    header = struct.pack(">IIBBBBB", width, height, depth, colours, *methods, interlaced)
    line = 1 + (width * {2: 3, 4: 2, 6: 4}.get(colours, 1) * depth + 7) // 8
    packed = zlib.compress(bytes(line * height) if raw is None else raw)
    parts = (chunk(b"IHDR", header), before, chunk(b"IDAT", packed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class TestPng:
    KINDS = ((0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4))
    KINDS += ((3, 8), (4, 8), (4, 16), (6, 8), (6, 16))

    @pytest.mark.parametrize("interlaced", [0, 1])
    @pytest.mark.parametrize("size", [(16, 16), (1, 1), (3, 7), (5, 1), (2, 9)])
    def test_every_kind_of_pixels_is_read(self, size, interlaced):
        height, width = size
        palette = chunk(b"PLTE", bytes(range(48)) * 16)
        for colours, depth in self.KINDS:
            before = palette if colours == 3 else b""
            data = png(width, height, depth, colours, before)
            if interlaced:
                data = interlace(data)
            assert decode(data).shape == (*size, 3)

    def test_invalid_kinds_of_pixels_are_refused(self):
        for colours in range(8):
            for depth in (0, 1, 2, 3, 4, 8, 16, 32):
                if (colours, depth) not in self.KINDS:
                    assert "a kind of pixels" in objection(png(depth=depth, colours=colours))
        assert "a kind of pixels" in objection(png(methods=(1, 0)))
        assert "a kind of pixels" in objection(png(methods=(0, 1)))
        assert "a kind of pixels" in objection(png(interlaced=2))

    def test_pixels_beyond_the_size_are_not_inflated(self):
        began = time.process_time()
        assert "too many pixels" in objection(png(raw=bytes(300_000_000)))
        assert time.process_time() - began < 2  # most of it is spent packing them here

    def test_pixels_that_end_early_are_damage(self):
        assert "it ends early" in objection(png(raw=bytes(49 * 15)))
        assert "it ends early" in objection(png(8192, 8192, raw=b""))

    def test_sixteen_bits_with_too_many_pixels_are_refused(self):
        assert "536,879,104 bytes; at most" in objection(png(8192, 8192, 16, 6, raw=b""))

    def test_a_second_header_or_palette_is_damage(self):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8192, 8192, 8, 2, 0, 0, 0))
        assert "two headers" in objection(png(before=header))
        palette = chunk(b"PLTE", bytes(768))
        assert "two palettes" in objection(png(colours=3, before=palette * 2))
        assert "palette is missing" in objection(png(colours=3))
        assert "palette has 4 bytes" in objection(png(colours=3, before=chunk(b"PLTE", bytes(4))))

    def test_millions_of_chunks_are_refused(self):
        assert "more than 100,000 chunks" in objection(png(before=chunk(b"tEXt", b"") * 1_000_000))

    def test_an_empty_size_is_refused(self):
        assert "states no size" in objection(png(0, 16))
        assert "states no size" in objection(png(16, 0))


def interlace(data):
    """The same image of zeros, interlaced."""
    width, height, depth, colours = struct.unpack(">IIBB", data[16:26])
    channels = {2: 3, 4: 2, 6: 4}.get(colours, 1)
    raw = b""
    for left, top, across, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        columns, lines = len(range(left, width, across)), len(range(top, height, down))
        raw += bytes(1 + (columns * channels * depth + 7) // 8) * lines if columns else b""
    palette = data[33 : data.index(b"IDAT") - 4]
    return png(width, height, depth, colours, palette, raw, interlaced=1)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_images_are_read_or_refused_in_one_line(seed):
    chance = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(NOISE, (0, 0), 2)
    for original in (JPEG, PROGRESSIVE, cv2.imencode(".png", smooth)[1].tobytes()):
        for _ in range(100):
            data = bytearray(original)
            for place in chance.integers(0, min(len(data), 700), chance.integers(1, 5)):
                data[place] = chance.integers(256)
            said = outcome(bytes(data))
            assert said == probe_size(bytes(data)) if isinstance(said, tuple) else "\n" not in said


def outcome(data):
    """The size of the pixels, or the error."""
    try:
        return decode(data).shape[:2]
    except UserError as error:
        return str(error)
