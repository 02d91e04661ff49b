"""A folder of identities, with files that are no images."""

import pytest

FILES = {"9/b.jpg": 1, "9/a2.jpg": 2, "9/a10.jpg": 3, "10/x.JPEG": 4, "10/deep/er/y.jpg": 5}


@pytest.fixture
def folder(tmp_path, noise_images):
    root = tmp_path / "faces"
    for name, image in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(noise_images[image])
    (root / "9" / "notes.txt").write_text("not an image")
    (root / ".cache").mkdir()
    (root / ".cache" / "thumb.jpg").write_bytes(b"hidden")
    return root
