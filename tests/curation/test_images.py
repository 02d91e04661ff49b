import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from curation.errors import UserError
from curation.images import (
    check_pixels,
    check_some_pixels,
    decode,
    decode_into,
    encode_jpeg,
    encoding_of,
    header_length,
    probe_size,
)
from curation.jpeg import room_for_pixels

RANDOM = np.random.default_rng(0)


def drawing(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 255 // height, columns * 255 // width, np.full((height, width), 40)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def noise(height: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def jpeg(image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, options)[1].tobytes()


def progressive_jpeg(image: np.ndarray) -> bytes:
    return jpeg(image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


def jpeg_with_restarts(image: np.ndarray) -> bytes:
    return jpeg(image, cv2.IMWRITE_JPEG_RST_INTERVAL, 4)


@pytest.mark.parametrize("encode", [encode_jpeg, png, progressive_jpeg])
def test_the_size_is_read_from_the_header(encode):
    assert probe_size(encode(drawing(48, 31))) == (48, 31)


def test_a_png_decodes_to_the_pixels_that_were_encoded():
    image = drawing(20, 30)
    np.testing.assert_array_equal(decode(png(image)), image)


def test_a_jpeg_decodes_to_rgb_near_the_original():
    image = drawing(64, 64)
    difference = np.abs(decode(encode_jpeg(image)).astype(int) - image)
    assert difference.max() <= 12


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"not an image", b"\xff\xd8", b"\x89PNG"])
def test_other_bytes_are_refused_by_name(data):
    assert encoding_of(data) is None
    with pytest.raises(UserError, match=r"^photo 7 is neither JPEG nor PNG"):
        probe_size(data, "photo 7")


@pytest.mark.parametrize("encode", [encode_jpeg, png])
def test_a_truncated_header_is_refused(encode):
    with pytest.raises(UserError, match="damaged"):
        probe_size(encode(drawing(16, 16))[:20])


# What may precede the frame header of a JPEG, and is skipped.
BEFORE = {
    "padding": b"\xff\xff",
    "a comment with a frame in it": b"\xff\xfe" + struct.pack(">H", 8) + b"a \xff\xc0 b",
    "TEM": b"\xff\x01",
    "RST0": b"\xff\xd0",
    "RST7": b"\xff\xd7",
    "bytes between segments": b"\0\x12\xff\0",
    "an application's segment": b"\xff\xe5" + struct.pack(">H", 4) + b"\xff\xc0",
}


@pytest.mark.parametrize("what", BEFORE)
@pytest.mark.parametrize("encode", [encode_jpeg, progressive_jpeg])
def test_the_header_and_the_decoder_agree_on_the_size(what, encode):
    """No marker hides a larger second frame behind a small one, or vice versa."""
    data = encode(drawing(10, 12))
    behind_jfif = 20
    changed = data[:behind_jfif] + BEFORE[what] + data[behind_jfif:]
    assert probe_size(changed) == (10, 12)
    assert header_length(changed) == header_length(data) + len(BEFORE[what])
    as_cv2_sees_it = cv2.imdecode(np.frombuffer(changed, np.uint8), cv2.IMREAD_COLOR)
    assert as_cv2_sees_it.shape == (10, 12, 3)


@pytest.mark.parametrize(
    "marker", [b"\xff\xd8", b"\xff\xd9", b"\xff\x02", b"\xff\xf0", b"\xff\xde"]
)
def test_a_marker_no_decoder_accepts_ends_the_search(marker):
    data = encode_jpeg(drawing(10, 12))
    with pytest.raises(UserError, match="its header states no size"):
        probe_size(data[:2] + marker + b"\0\x02" + data[2:])


def test_a_frame_after_a_restart_marker_respects_the_limit():
    data = encode_jpeg(drawing(8, 8))
    frame = data.index(b"\xff\xc0")
    large = data[:frame] + b"\xff\xd3" + data[frame:]
    large = large.replace(struct.pack(">HH", 8, 8), struct.pack(">HH", 30000, 30000), 1)
    with pytest.raises(UserError, match="30000x30000"):
        decode(large)


def test_a_decompression_bomb_is_refused_before_decoding():
    bomb = bytearray(png(drawing(8, 8)))
    bomb[16:24] = struct.pack(">II", 60000, 60000)
    with pytest.raises(UserError, match="60000x60000"):
        decode(bytes(bomb))


# Pixels as stored


def turned(data: bytes, orientation: int, order: str = "MM") -> bytes:
    """Add an EXIF segment, or a PNG's eXIf chunk, that asks for another orientation."""
    pack = struct.Struct(">" if order == "MM" else "<")
    form = pack.format
    tiff = order.encode() + struct.pack(f"{form}HIH", 42, 8, 1)
    tiff += struct.pack(f"{form}HHIHH", 0x112, 3, 1, orientation, 0) + bytes(4)
    if encoding_of(data) == "png":
        return data[:33] + chunk(b"eXIf", tiff) + data[33:]
    exif = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


@pytest.mark.parametrize("encode", [encode_jpeg, png, progressive_jpeg])
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("order", ["MM", "II"])
def test_an_orientation_in_exif_is_not_applied(encode, orientation, order):
    data = encode(drawing(20, 30))
    other = turned(data, orientation, order)
    assert probe_size(other) == (20, 30)
    np.testing.assert_array_equal(decode(other), decode(data))


def pil_png(image: np.ndarray, mode: str, **options: object) -> bytes:
    file = io.BytesIO()
    pil_image().fromarray(image).convert(mode).save(file, "PNG", **options)
    return file.getvalue()


def pil_image():
    return pytest.importorskip("PIL.Image")


def test_grey_images_have_three_equal_channels():
    grey = drawing(20, 30)[..., 0]
    for data in (cv2.imencode(".png", grey)[1].tobytes(), jpeg(grey)):
        pixels = decode(data)
        assert pixels.shape == (20, 30, 3)
        assert (pixels == pixels[..., :1]).all()
    np.testing.assert_array_equal(decode(cv2.imencode(".png", grey)[1].tobytes())[..., 0], grey)


def test_transparent_pixels_keep_their_stored_colour():
    image = drawing(20, 30)
    for alpha in (0, 128):
        with_alpha = np.dstack([image[..., ::-1], np.full((20, 30), alpha, np.uint8)])
        np.testing.assert_array_equal(decode(cv2.imencode(".png", with_alpha)[1].tobytes()), image)


def test_a_palette_is_applied():
    data = pil_png(drawing(20, 30), "P")
    stored = np.asarray(pil_image().open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data), stored)


def test_sixteen_bits_are_reduced_to_the_upper_eight():
    image = drawing(20, 30).astype(np.uint16) * 256 + 77
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode(data), drawing(20, 30))


def cmyk_jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    pil_image().fromarray(image).convert("CMYK").save(file, "JPEG", quality=95)
    return file.getvalue()


def test_cmyk_is_converted_like_in_cv2():
    data = cmyk_jpeg(drawing(24, 32))
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(decode(data), expected)
    assert np.abs(decode(data).astype(int) - drawing(24, 32)).mean() < 4


def test_a_colour_profile_is_not_applied():
    image = drawing(20, 30)
    data = png(image)
    gamma = chunk(b"gAMA", struct.pack(">I", 20000))
    np.testing.assert_array_equal(decode(data[:33] + gamma + data[33:]), image)


@pytest.mark.parametrize(
    "options",
    [
        (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
        (cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        (cv2.IMWRITE_JPEG_QUALITY, 20),
    ],
)
def test_the_pixels_of_a_jpeg_equal_those_of_cv2(options):
    data = jpeg(noise(61, 45), *options)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(decode(data), expected)


# Damaged files


def test_a_jpeg_without_its_end_marker_is_accepted():
    for data in (encode_jpeg(noise(64, 64)), jpeg(noise(64, 64)[..., 0]), cmyk_jpeg(noise(32, 32))):
        for missing in (1, 2):
            np.testing.assert_array_equal(decode(data[:-missing]), decode(data))


def test_a_png_without_its_end_chunk_is_accepted():
    data = png(noise(16, 16))
    for missing in (1, 4, 12):
        np.testing.assert_array_equal(decode(data[:-missing]), decode(data))


@pytest.mark.parametrize("missing", [4, 20, 200, 1000])
@pytest.mark.parametrize("encode", [encode_jpeg, progressive_jpeg, cmyk_jpeg])
@pytest.mark.parametrize("closed", [False, True])
def test_a_jpeg_that_ends_early_is_damaged(missing, encode, closed):
    """libjpeg fills the rest with grey and only issues a warning."""
    data = encode(noise(64, 64))[:-missing]
    if closed:
        data += b"\xff\xd9"
    with pytest.raises(UserError, match=r"^photo 7 is damaged: it (ends early|cannot be decoded)"):
        decode(data, "photo 7")


def test_a_progressive_jpeg_may_lack_only_its_end_marker():
    data = progressive_jpeg(noise(64, 64))
    for missing in (1, 2):
        np.testing.assert_array_equal(decode(data[:-missing]), decode(data))


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_a_progressive_jpeg_without_its_last_scan_is_damaged(kept):
    """libjpeg gives its blurred pixels without a warning."""
    data = progressive_jpeg(noise(64, 64))
    with pytest.raises(UserError, match="ends early"):
        decode(data[: data.rindex(b"\xff\xda") + kept])


@pytest.mark.parametrize("encode", [encode_jpeg, progressive_jpeg, cmyk_jpeg, jpeg_with_restarts])
@pytest.mark.parametrize("attempt", range(8))
def test_a_jpeg_with_damaged_data_is_damaged(encode, attempt):
    """Also if the image seems to end early; libjpeg then hides what it found before."""
    data = bytearray(encode(noise(64, 64)))
    scan = data.index(b"\xff\xda")
    data[scan + 100 : scan + 400] = b"\xff\0" * 150
    with pytest.raises(UserError, match="damaged"):
        decode(bytes(data))


def test_bytes_after_the_end_of_an_image_are_ignored():
    for data in (encode_jpeg(noise(32, 32)), png(noise(32, 32))):
        np.testing.assert_array_equal(decode(data + bytes(500)), decode(data))


@pytest.mark.parametrize("encode", [encode_jpeg, progressive_jpeg, cmyk_jpeg, jpeg_with_restarts])
@pytest.mark.parametrize(
    "extra",
    [b"\0" * 999, bytes(range(1, 60)), b"\xff\xff", b"\1\2\xff\xff\xff", b"\xff\0\3\xff\0\4\5"],
    ids=["zeros", "any", "fill", "fill-after", "fill-between"],
)
def test_bytes_before_the_end_of_a_jpeg_are_ignored(encode, extra):
    data = encode(noise(32, 32))
    np.testing.assert_array_equal(decode(data[:-2] + extra + data[-2:]), decode(data))


@pytest.mark.parametrize("missing", [13, 40, 500])
def test_a_png_that_ends_early_is_damaged(missing):
    with pytest.raises(UserError, match="photo 7 is damaged: it ends early"):
        decode(png(noise(32, 32))[:-missing], "photo 7")


def test_a_png_with_a_damaged_byte_is_damaged():
    data = bytearray(png(noise(32, 32)))
    data[500] ^= 1
    with pytest.raises(UserError, match="the checksum of its IDAT is wrong"):
        decode(bytes(data))


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"iCCP", b"fdAT", b"PLTE", b"zzZz"])
def test_a_chunk_cannot_claim_more_than_the_file_has(kind):
    data = png(drawing(16, 16))
    for length in (2**31 - 1, 2**32 - 1, len(data)):
        claiming = data[:33] + struct.pack(">I", length) + kind + data[33:]
        with pytest.raises(UserError, match="damaged"):
            decode(claiming)


BOMB = """
import resource, struct, sys, zlib
from curation.images import decode
from curation.errors import UserError
from test_images import chunk, drawing, png

data = png(drawing(16, 16))
def grown(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(data)
before = grown()
packed = zlib.compress(bytes(300_000_000))
for extra in (
    chunk(b"iCCP", b"p\\0\\0" + packed),
    chunk(b"zTXt", b"p\\0\\0" + packed),
    chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + chunk(b"fcTL", bytes(26)),
    struct.pack(">I", 2**31 - 1) + b"tEXt",
):
    try:
        decode(data[:33] + extra + data[33:])
    except UserError:
        pass
print(grown() - before)
"""


def test_chunks_cannot_claim_memory():
    here = {"cwd": __file__.rpartition("/")[0], "capture_output": True, "check": True}
    grown = subprocess.run([sys.executable, "-c", BOMB], **here).stdout
    assert int(grown) < 20_000  # KiB


# Decoding into existing memory


@pytest.mark.parametrize("encode", [encode_jpeg, png, progressive_jpeg, cmyk_jpeg])
def test_decoding_into_memory_gives_the_same_pixels(encode):
    for data in (encode(drawing(20, 30)), turned(encode(drawing(20, 30)), 6)):
        target = np.zeros((20, 30, 3), np.uint8)
        decode_into(target, data)
        np.testing.assert_array_equal(target, decode(data))


@pytest.mark.parametrize("encode", [encode_jpeg, png, progressive_jpeg, cmyk_jpeg])
def test_a_fourth_channel_is_opaque_and_changes_no_pixel(encode):
    data = encode(drawing(20, 30))
    target = np.zeros((20, 30, 4), np.uint8)
    decode_into(target, data)
    np.testing.assert_array_equal(target[..., :3], decode(data))
    assert (target[..., 3] == 255).all()


@pytest.mark.parametrize("shape", [(112, 112, 3), (112, 112, 4), (5, 96, 96, 3), (64, 63, 3)])
def test_hardly_any_row_is_written_past_the_caches(shape):
    for _ in range(9):
        room = room_for_pixels(shape)
        begin, row = room.__array_interface__["data"][0], shape[-2] * shape[-1]
        begins = begin + row * np.arange(room.size // row)
        assert room.shape == shape
        assert room.flags.c_contiguous
        assert room.flags.writeable
        assert (begins % 32 == 0).mean() <= 1 / 32


def test_decoding_into_memory_refuses_the_same_files():
    target = np.zeros((64, 64, 3), np.uint8)
    for data in (encode_jpeg(noise(64, 64))[:-200], png(noise(64, 64))[:-200]):
        with pytest.raises(UserError, match="photo 7 is damaged: it ends early"):
            decode_into(target, data, "photo 7")
    whole = encode_jpeg(noise(64, 64))
    decode_into(target, whole[:-2])
    np.testing.assert_array_equal(target, decode(whole))


# Checks without pixels


def objection(use, data):
    try:
        use(data, "photo 7")
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("encode", [encode_jpeg, png, progressive_jpeg, cmyk_jpeg])
def test_a_check_and_the_decoder_report_the_same_error(encode):
    data = encode(noise(40, 40))
    damaged = [data[:-missing] for missing in (1, 2, 3, 12, 50, 300)]
    damaged += [part + b"\xff\xd9" for part in damaged]
    for place in RANDOM.integers(100, len(data), 60).tolist():
        damaged.append(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
    found = [objection(decode, one) for one in (data, *damaged)]
    assert [objection(check_pixels, one) for one in (data, *damaged)] == found
    assert found[0] is None
    assert any(found)


@pytest.mark.parametrize(
    ("count", "checked"), [(0, 0), (7, 7), (2000, 2000), (2001, 1001), (10**6, 2000)]
)
def test_a_sample_of_a_large_set_is_checked(noise_images, count, checked):
    asked = []

    def read(number):
        asked.append(number)
        return noise_images[0]

    check_some_pixels(count, read, str)
    assert len(asked) == checked
    assert asked == sorted(set(asked))
    assert not asked or (asked[0] == 0 and count - asked[-1] <= 500)


def test_the_checked_image_that_is_damaged_is_named(noise_images):
    with pytest.raises(UserError, match="image 4 is neither JPEG nor PNG"):
        check_some_pixels(9, lambda n: b"GIF" if n == 4 else noise_images[0], "image {}".format)
