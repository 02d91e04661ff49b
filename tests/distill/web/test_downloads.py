"""Tar files of bundles that are created while they are sent."""

import io
import tarfile

import pytest

from distill.web.downloads import tar_of


@pytest.fixture
def files(tmp_path):
    found = {"a.bin": tmp_path / "a", "b.bin": tmp_path / "b"}
    for name, path in found.items():
        path.write_bytes(name.encode() * 1_000)
    return found


def test_a_tar_has_the_files_below_its_top_folder(files):
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_of(files, "mine")))) as tar:
        assert tar.getnames() == ["mine/a.bin", "mine/b.bin"]
        assert all(tar.extractfile(f"mine/{n}").read() == files[n].read_bytes() for n in files)


def test_a_file_that_grows_while_it_is_sent_keeps_its_size(files):
    pieces = tar_of(files, "mine")
    head = next(pieces)
    with files["a.bin"].open("ab") as file:
        file.write(b"more")
    with tarfile.open(fileobj=io.BytesIO(head + b"".join(pieces))) as tar:
        assert tar.extractfile("mine/a.bin").read() == b"a.bin" * 1_000
        assert tar.extractfile("mine/b.bin").read() == b"b.bin" * 1_000


def test_a_file_that_shrinks_while_it_is_sent_ends_the_download(files):
    pieces = tar_of(files, "mine")
    next(pieces)
    files["a.bin"].write_bytes(b"")
    with pytest.raises(OSError, match="became shorter"):
        list(pieces)
