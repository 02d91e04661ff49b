"""Measures of a single image."""

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import decode
from curation.quality import MEASURES, brightness, contrast, measure_images, sharpness
from curation.records.layout_writer import write_layout
from curation.view_writing import write_subset


def stripes(step):
    """24x24 pixels, black and white in columns of ``step`` pixels."""
    columns = (np.arange(24) // step % 2 * 255).astype(np.uint8)
    return np.broadcast_to(columns[None, :, None], (24, 24, 3))


def test_a_uniform_image_has_no_sharpness_and_no_contrast():
    grey = np.full((8, 8, 3), 90, np.uint8)
    assert sharpness(grey) == pytest.approx(0, abs=1e-6)
    assert contrast(grey) == pytest.approx(0, abs=1e-4)
    assert brightness(grey) == pytest.approx(90, abs=1e-3)


def test_sharpness_is_the_variance_of_the_laplacian():
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (9, 7, 3)).astype(np.uint8)
    grey = picture.astype(float) @ [0.299, 0.587, 0.114]
    laplacian = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, 8)
        for x in range(1, 6)
    ]
    assert sharpness(picture) == pytest.approx(np.var(laplacian), rel=1e-4)


def test_blur_reduces_sharpness_and_keeps_brightness():
    import cv2

    picture = np.ascontiguousarray(stripes(3))
    blurred = cv2.GaussianBlur(picture, (0, 0), 2)
    assert sharpness(blurred) < sharpness(picture) / 10
    assert brightness(blurred) == pytest.approx(brightness(picture), abs=2)


def test_contrast_is_the_standard_deviation_of_the_luma():
    assert contrast(stripes(1)) == pytest.approx(127.5, abs=0.01)


@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_every_image_of_a_store_is_measured(store, measure):
    calls = []
    values = measure_images(store, measure, lambda *call: calls.append(call))
    wanted = [MEASURES[measure](decode(store.read(i))) for i in range(len(store))]
    assert values == pytest.approx(wanted, rel=1e-6)
    assert calls[-1] == (16, 16)


def test_only_the_images_of_a_view_are_decoded(tmp_path, noise_images):
    files = [file[:-90] if i in (3, 8) else file for i, file in enumerate(noise_images[:12])]
    write_layout(tmp_path / "source", [(file, i // 4) for i, file in enumerate(files)], (24, 20))
    store = convert(tmp_path / "source", tmp_path / "train.lmdb")
    keep = ~np.isin(np.arange(12), [3, 8])
    view = write_subset(tmp_path / "whole.view", store, keep, "test", {})
    assert len(measure_images(view, "sharpness")) == 10
    with pytest.raises(
        UserError, match=r"image 3 \(key 4\): the image is damaged: it ends early; "
    ):
        measure_images(store, "sharpness")
