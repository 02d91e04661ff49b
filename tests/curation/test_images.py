import struct

import cv2
import numpy as np
import pytest

from curation.errors import UserError
from curation.images import decode, encode_jpeg, encoding_of, probe_size


def drawing(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 255 // height, columns * 255 // width, np.full((height, width), 40)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def progressive_jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()


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


def test_a_grey_image_decodes_to_three_channels():
    grey = cv2.imencode(".png", np.full((8, 9), 7, np.uint8))[1].tobytes()
    assert decode(grey).shape == (8, 9, 3)


def test_padding_and_comments_before_the_frame_are_passed_over():
    data = encode_jpeg(drawing(10, 12))
    comment = b"\xff\xfe" + struct.pack(">H", 9) + b"a \xff\xc0 b "[:7]
    assert probe_size(data[:2] + b"\xff\xff" + comment[1:] + data[2:]) == (10, 12)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"not an image", b"\xff\xd8", b"\x89PNG"])
def test_other_bytes_are_refused_by_name(data):
    assert encoding_of(data) is None
    with pytest.raises(UserError, match=r"^photo 7 is neither JPEG nor PNG"):
        probe_size(data, "photo 7")


@pytest.mark.parametrize("encode", [encode_jpeg, png])
def test_a_header_that_is_cut_off_is_refused(encode):
    with pytest.raises(UserError, match="damaged"):
        probe_size(encode(drawing(16, 16))[:20])


def test_an_image_cut_off_after_its_header_cannot_be_decoded():
    with pytest.raises(UserError, match="photo 7 is damaged"):
        decode(png(drawing(64, 64))[:60], "photo 7")


def test_a_decompression_bomb_is_refused_before_decoding():
    bomb = bytearray(png(drawing(8, 8)))
    bomb[16:24] = struct.pack(">II", 60000, 60000)
    with pytest.raises(UserError, match="60000x60000"):
        decode(bytes(bomb))
