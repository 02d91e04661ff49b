"""Extracted images are the original files."""

import pytest

from curation.errors import UserError
from curation.extract import write_images


def test_each_image_is_written_under_its_identity_byte_for_byte(drawn_store, tmp_path):
    paths = write_images(drawn_store, tmp_path)
    assert len(paths) == len(drawn_store)
    assert paths[9] == tmp_path / "000001" / "00000009.jpg"
    assert [path.read_bytes() for path in paths] == [
        drawn_store.read(index) for index in range(len(drawn_store))
    ]


def test_only_the_first_identities_and_images(drawn_store, tmp_path):
    paths = write_images(drawn_store, tmp_path, identities=2, each=3)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "000000/00000000.jpg", "000000/00000001.jpg", "000000/00000002.jpg",
        "000001/00000008.jpg", "000001/00000009.jpg", "000001/00000010.jpg",
    ]  # fmt: skip


def test_zero_images_cannot_be_requested(drawn_store, tmp_path):
    with pytest.raises(UserError, match="--each is 0"):
        write_images(drawn_store, tmp_path, each=0)
