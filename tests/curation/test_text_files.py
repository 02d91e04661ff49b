import gzip
import os

import pytest

from curation.errors import UserError
from curation.text_files import MAX_LINE, text_lines


@pytest.fixture
def lines(tmp_path):
    def read(data):
        (tmp_path / "list.txt").write_bytes(data)
        return list(text_lines(tmp_path / "list.txt", "a list"))

    return read


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_numbered_for_any_encoding_and_line_end(lines, encoding, end):
    text = end.join(["one 1", "", "  ", "Zoë\u2028x 4", "", ""])
    assert lines(text.encode(encoding)) == [(1, "one 1"), (4, "Zoë\u2028x 4")]


def test_files_joined_by_hand_have_marks_inside(lines):
    assert lines(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n") == [(1, "a"), (2, "b")]


def test_an_empty_file_has_no_lines(lines):
    assert lines(b"") == lines(b"\xef\xbb\xbf") == lines(b"\xff\xfe") == lines(b"\n\n") == []


def test_bytes_that_are_not_utf_8_are_kept(lines):
    ((_, text),) = lines(b"Fran\xe7ois.jpg\n")
    assert os.fsencode(text) == b"Fran\xe7ois.jpg"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (gzip.compress(b"a", mtime=0), "is compressed with gzip, not a list; unpack it first"),
        (b"<!DOCTYPE html><p>Sign in", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"\xff\xd8\xff\xe0", r"is an image \(JPEG\), not a list"),
        (b"a\nb\0c\n", "line 2 holds a zero byte"),
        (bytes(100), "is a file of zero bytes"),
        (b"\xff\xfea", "is not UTF-16 text"),
        (b"x\n" + b"a" * (MAX_LINE + 1), f"line 2 has more than {MAX_LINE} characters"),
    ],
)
def test_binary_files_are_named(lines, data, complaint):
    with pytest.raises(UserError, match=complaint):
        lines(data)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "pipe", "folder", "none"])
def test_only_regular_files_are_opened(tmp_path, target):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "list.txt").symlink_to(target)
    with pytest.raises(UserError, match=r"list\.txt: (it is a|cannot read it)"):
        next(text_lines(tmp_path / "list.txt", "a list"))
