import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.printable import printable
from curation.sources.opening import open_source
from curation.sources.zips import members_of
from curation.verify import verify
from tests.memory import traced_memory


def write_zip(path: Path, files: Iterable[tuple[str, bytes]], method: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


@pytest.fixture
def tree(noise_images) -> list[tuple[str, bytes]]:
    """Two images of each of three people, ordered by image number, then by person."""
    names = [f"0_0_{person:07d}/0_{number}.jpg" for number in range(2) for person in (2, 0, 1)]
    return [(name, noise_images[i]) for i, name in enumerate(names)]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_folders_of_parts_are_identities(tmp_path, tree, method):
    write_zip(tmp_path / "set" / "part0.zip", tree[:3], method)
    write_zip(tmp_path / "set" / "part1.zip", [("readme.md", b"x"), *tree[3:]], method)
    store = convert(tmp_path / "set", tmp_path / "a.lmdb")
    assert store.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert store.source_names == tuple(tree[i][0] for i in (0, 3, 1, 4, 2, 5))
    assert [store.read(i) for i in range(6)] == [tree[i][1] for i in (0, 3, 1, 4, 2, 5)]
    assert verify(tmp_path / "set", decoding=True)["sound"]


def test_samples_with_labels_are_read_as_in_tar_archives(tmp_path, noise_images):
    files = [(f"{i}.{kind}", data) for i in range(3)
             for kind, data in (("jpg", noise_images[i]), ("cls", b"%d" % (5 - i)))]  # fmt: skip
    store = convert(write_zip(tmp_path / "a.zip", files), tmp_path / "a.lmdb")
    assert store.source_labels.tolist() == [3, 4, 5]


def test_zip64_archives_are_read(tmp_path, noise_images):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(66_000):
            archive.writestr(f"{number}.md", b"")
        with archive.open("a/1.jpg", "w", force_zip64=True) as file:
            file.write(noise_images[0])
    with path.open("rb") as file:
        assert sum(1 for _ in members_of(file)) == 66_001
    assert convert(path, tmp_path / "a.lmdb").read(0) == noise_images[0]


class TestNames:
    """Names as other programs write them; ``zipfile`` itself writes ASCII or marked UTF-8."""

    def archive(self, path: Path, images: list[bytes], names: list[bytes]) -> Path:
        """An archive whose names have these bytes, without the mark of UTF-8."""
        stand_ins = [chr(ord("a") + i) * len(name) for i, name in enumerate(names)]
        write_zip(path, zip(stand_ins, images, strict=False))
        content = path.read_bytes()
        for stand_in, name in zip(stand_ins, names, strict=True):
            content = content.replace(stand_in.encode(), name)
        path.write_bytes(content)
        return path

    @pytest.mark.parametrize(
        ("coding", "shown"),
        [
            ("utf-8", ["王芳/1.jpg", "王芳/2.jpg", "榎/1.jpg"]),
            ("gbk", ["═⌡╖╝/1.jpg", "═⌡╖╝/2.jpg", "ÿ\\/1.jpg"]),
        ],
    )
    def test_unmarked_names(self, tmp_path, noise_images, coding, shown):
        names = [name.encode(coding) for name in ("王芳/1.jpg", "王芳/2.jpg", "榎/1.jpg")]
        path = self.archive(tmp_path / "a.zip", noise_images, names)
        store = convert(path, tmp_path / "a.lmdb")
        assert store.labels.tolist() == [0, 0, 1]
        assert list(store.source_names) == shown

    def test_the_code_page_of_the_format(self, tmp_path, noise_images):
        names = [name.encode("cp437") for name in ("Jörg/1.jpg", "Zoé/1.jpg", "Zoé/2.jpg")]
        store = convert(self.archive(tmp_path / "a.zip", noise_images, names), tmp_path / "a.lmdb")
        assert store.source_names == ("Jörg/1.jpg", "Zoé/1.jpg", "Zoé/2.jpg")
        assert store.labels.tolist() == [0, 1, 1]

    def test_names_that_are_marked_as_utf_8_and_are_not(self, tmp_path, noise_images):
        files = [(f"é{who}/1.jpg", image) for who, image in zip("ab", noise_images, strict=False)]
        path = write_zip(tmp_path / "a.zip", files)
        content = path.read_bytes().replace("éa".encode(), b"\xff\xffz")
        path.write_bytes(content.replace("éb".encode(), b"\xff\xfez"))
        store = convert(path, tmp_path / "a.lmdb")
        assert store.identities == 2
        assert [printable(name) for name in store.source_names] == [
            "\\udcff\\udcffz/1.jpg",
            "\\udcff\\udcfez/1.jpg",
        ]

    @pytest.mark.parametrize(("damage", "shown"), [(0, "王/1.jpg"), (1, "═⌡/1.jpg")])
    def test_an_extra_field_has_the_name(self, tmp_path, noise_images, damage, shown):
        raw, name = "王/1.jpg".encode("gbk"), "王/1.jpg".encode()
        body = struct.pack("<BL", 1, zlib.crc32(raw) ^ damage) + name
        info = zipfile.ZipInfo("xx/1.jpg")
        info.extra = struct.pack("<HHHH", 9, 0, 0x7075, len(body)) + body
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(info, noise_images[0])
        path = tmp_path / "a.zip"
        path.write_bytes(path.read_bytes().replace(b"xx/1.jpg", raw))
        assert convert(path, tmp_path / "a.lmdb").source_names == (shown,)

    def test_backslashes_of_windows(self, tmp_path, noise_images):
        names = [b"anna\\1.jpg", b"ben\\1.jpg", b"anna\\2.jpg"]
        store = convert(self.archive(tmp_path / "a.zip", noise_images, names), tmp_path / "a.lmdb")
        assert store.source_names == ("anna/1.jpg", "anna/2.jpg", "ben/1.jpg")


def changed(path: Path, field: int, value: bytes, name: bytes = b"0_0_0000002/0_0.jpg") -> None:
    """Overwrite a field in a file's directory entry with ``value``."""
    data = bytearray(path.read_bytes())
    at = data.rindex(name) - 46 + field
    data[at : at + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        (8, b"\1\0", "it is encrypted"),
        (10, b"\x0e\0", "it is compressed by method 14; allowed: 0 \\(stored\\) and 8"),
        (16, b"abcd", "its bytes differ from the checksum in the directory"),
        (20, b"\0\0\0\x7f", r"it has 2,130,706,432 bytes, more than|overlap"),
        (24, b"\xff\xff\xff\x7f", "it has 2,147,483,647 bytes, more than 33,554,432"),
        (42, b"\0\0\0\x7f", "its bytes are not at the position that the directory states"),
    ],
)
def test_a_bad_file_is_named_or_skipped(tmp_path, tree, field, value, complaint):
    path = write_zip(tmp_path / "a.zip", tree[:3])
    changed(path, field, value)
    with pytest.raises(UserError, match=rf"a\.zip.*({complaint})"):
        convert(path, tmp_path / "a.lmdb")
    if "overlap" not in complaint:
        assert len(convert(path, tmp_path / "a.lmdb", skip_bad=True)) == 2


def test_a_bomb_takes_no_more_than_it_states(tmp_path, tree):
    path = write_zip(tmp_path / "a.zip", [*tree, ("b/1.jpg", bytes(30 << 20))], 8)
    changed(path, 24, struct.pack("<L", 1000), b"b/1.jpg")
    with pytest.raises(UserError, match="its bytes differ from the checksum in the directory"):
        convert(path, tmp_path / "a.lmdb")


def test_an_offset_beyond_every_file_is_of_one_bad_file(tmp_path, tree):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, data) in enumerate(tree[:3]):
            info = zipfile.ZipInfo(name)
            info.extra = b"" if number else struct.pack("<HHQ", 1, 8, 1 << 62)
            archive.writestr(info, data)
    changed(path, 42, b"\xff" * 4, tree[0][0].encode())
    with pytest.raises(UserError, match=r"0_0\.jpg: its bytes are not at the position"):
        convert(path, tmp_path / "a.lmdb")
    assert len(convert(path, tmp_path / "a.lmdb", skip_bad=True)) == 2


def test_sizes_of_empty_files_are_not_those_of_a_full_disk(tmp_path):
    path = write_zip(tmp_path / "a.zip", ((f"a/{i}.jpg", b"") for i in range(1000)))
    with traced_memory() as memory:
        images = sum(map(len, open_source(path).image_sizes()))
    assert images < 2000
    assert memory.peak < 5 << 20


def test_overlapping_files_are_reported(tmp_path, noise_images):
    path = write_zip(tmp_path / "a.zip", [("a/0.jpg", noise_images[0])])
    with path.open("rb") as file:
        member = next(members_of(file))
    data = path.read_bytes()
    begin, end = member.entry, data.index(b"PK\5\6")
    entry = data[begin:end]
    many = b"".join(entry.replace(b"a/0.jpg", b"a/%d.jpg" % i) for i in range(9))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(many), begin, 0)
    path.write_bytes(data[:begin] + many + tail)
    with pytest.raises(UserError, match="its files overlap"):
        convert(path, tmp_path / "a.lmdb")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_archive_is_reported(tmp_path, tree, share):
    path = write_zip(tmp_path / "a.zip", tree)
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(UserError, match="it has no directory at its end"):
        convert(path, tmp_path / "a.lmdb")


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\5\6", b"PK\5\6" + b"\xff" * 18])
def test_a_file_that_is_not_an_archive_is_reported(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.zip"):
        convert(tmp_path / "a.zip", tmp_path / "a.lmdb", skip_bad=True)
