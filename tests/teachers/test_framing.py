"""The part of an aligned face that a network sees: its middle, never squeezed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UserError
from teachers.framing import ROUNDING, crops, shows_all, visible_part
from teachers.preprocessing import Preprocessing

sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


def preprocessing(*size: int) -> Preprocessing:
    return Preprocessing(colour="RGB", mean=127.5, std=127.5, size=size)


def faces(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)


def test_112x96_sees_the_unscaled_middle_columns_of_112x112():
    batch = faces(112, 112)
    np.testing.assert_array_equal(preprocessing(112, 96).resize(batch), batch[:, :, 8:104])


@pytest.mark.parametrize(
    ("image", "network", "crop"),
    [
        ((112, 112), (112, 112), (0, 0, 112, 112)),
        ((112, 112), (64, 64), (0, 0, 112, 112)),
        ((112, 112), (112, 96), (0, 8, 112, 96)),
        ((112, 112), (56, 48), (0, 8, 112, 96)),
        ((224, 224), (112, 96), (0, 16, 224, 192)),
        ((112, 112), (96, 112), (8, 0, 96, 112)),
        ((112, 96), (112, 96), (0, 0, 112, 96)),
        ((112, 96), (112, 84), (0, 6, 112, 84)),
        ((218, 178), (112, 92), (0, 0, 218, 178)),
    ],
)
def test_the_crop_has_the_networks_aspect_and_the_faces_scale(image, network, crop):
    part = visible_part(image, network)
    assert (part.top, part.left, part.height, part.width) == crop
    assert crops(image, network) is (crop[2:] != image)


@pytest.mark.parametrize(
    ("image", "network"),
    [
        ((112, 96), (112, 112)),
        ((112, 96), (64, 64)),
        ((96, 112), (112, 112)),
        ((112, 96), (96, 112)),
        ((480, 640), (112, 112)),
        ((218, 178), (112, 96)),
    ],
)
def test_images_that_show_less_than_the_network_sees_are_refused(image, network):
    assert not shows_all(image, network)
    with pytest.raises(UserError, match="never squeezed: use square images, or a network with"):
        preprocessing(*network).resize(faces(*image))


@pytest.mark.parametrize(
    ("image", "network", "advised"),
    [
        pytest.param((3000, 4000), (32, 32), "48x64", id="photographs"),
        pytest.param((218, 178), (112, 112), "144x112", id="celeba"),
        pytest.param((96, 112), (112, 112), "96x112", id="wide"),
    ],
)
def test_the_error_names_an_input_size_that_networks_take(image, network, advised):
    with pytest.raises(UserError, match=rf"aspect of the images, such as {advised}$"):
        visible_part(image, network)


def test_no_input_size_is_named_for_strips():
    with pytest.raises(UserError, match=r"aspect of the images$"):
        visible_part((4000, 2), (112, 112))


@given(image=sizes, network=sizes)
def test_every_crop_is_central_and_of_the_aspect(image, network):
    if not shows_all(image, network):
        return
    part = visible_part(image, network)
    assert (image[0] - part.height, image[1] - part.width) == (2 * part.top, 2 * part.left)
    assert min(part.height, part.width) >= 1
    scale = max(image) / max(network)
    for found, side in zip((part.height, part.width), network, strict=True):
        # To a pixel on either side, except for the tolerance of a fiftieth.
        assert side * scale * (1 - ROUNDING) - 1 <= found <= max(side * scale + 1, 2)


@given(side=st.integers(8, 160), network=st.tuples(st.integers(8, 128), st.integers(8, 128)))
def test_the_mirror_image_shows_the_same_part(side, network):
    batch = faces(side, side)
    crop = visible_part((side, side), network)
    np.testing.assert_array_equal(crop.of(batch[:, :, ::-1]), crop.of(batch)[:, :, ::-1])


@pytest.mark.parametrize(("image", "network"), [((224, 224), (112, 96)), ((64, 64), (112, 96))])
def test_a_crop_of_another_size_is_scaled_as_that_crop_alone_is(image, network):
    batch = faces(*image)
    crop = visible_part(image, network).of(batch)
    seen = preprocessing(*network)
    assert seen.resize(batch).shape == (2, *network, 3)
    np.testing.assert_array_equal(seen.resize(batch), seen.resize(np.ascontiguousarray(crop)))
