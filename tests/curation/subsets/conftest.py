"""Lists of images and identities."""

import pytest


@pytest.fixture
def listed(tmp_path):
    """Writes a list and returns its path."""

    def write(text):
        (tmp_path / "list.txt").write_text(text)
        return tmp_path / "list.txt"

    return write
