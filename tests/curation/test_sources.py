"""Folders of images and lists, as sources of a conversion."""

import os
from pathlib import Path

import numpy as np
import pytest

import curation.conversion.build
import curation.sources.image_files
from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.sources.folders import natural_order, read_folder
from curation.sources.lists import read_list
from curation.sources.opening import open_source

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


class TestFolders:
    def test_each_folder_is_an_identity_in_the_order_of_people(self, folder, tmp_path):
        store = convert(folder, tmp_path / "train.lmdb")
        assert store.source_names == (
            "9/a2.jpg",
            "9/a10.jpg",
            "9/b.jpg",
            "10/x.JPEG",
            "10/deep/er/y.jpg",
        )
        assert store.labels.tolist() == [0, 0, 0, 1, 2]
        assert store.meta.source_kind == "folder"

    def test_bytes_are_copied_as_they_are(self, folder, tmp_path):
        store = convert(folder, tmp_path / "train.lmdb")
        for i, name in enumerate(store.source_names):
            assert store.read(i) == (folder / name).read_bytes()

    def test_a_second_conversion_does_nothing_and_a_changed_file_is_noticed(self, folder, tmp_path):
        first = convert(folder, tmp_path / "train.lmdb")
        os.utime(folder / "9" / "b.jpg")
        assert convert(folder, tmp_path / "train.lmdb").digest == first.digest
        data = bytearray((folder / "9" / "b.jpg").read_bytes())
        data[-5] ^= 1
        (folder / "9" / "b.jpg").write_bytes(data)
        with pytest.raises(UserError, match="made from another source"):
            convert(folder, tmp_path / "train.lmdb")

    def test_an_image_outside_every_identity_is_refused(self, folder, tmp_path):
        (folder / "stray.png").write_bytes(b"")
        with pytest.raises(UserError, match=r"stray\.png lies in no identity's folder"):
            convert(folder, tmp_path / "train.lmdb")

    def test_a_bad_file_is_named_and_can_be_skipped(self, folder, tmp_path):
        (folder / "9" / "c.jpg").write_bytes(b"nothing of the kind")
        with pytest.raises(UserError, match=r"9/c\.jpg: the image is neither.*--skip-bad"):
            convert(folder, tmp_path / "train.lmdb")
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        assert (len(store), store.meta.skipped) == (5, 1)

    def test_it_goes_on_where_it_was_stopped(self, tmp_path, noise_images, monkeypatch):
        monkeypatch.setattr(curation.conversion.build, "COMMIT_BYTES", 20_000)
        monkeypatch.setattr(curation.sources.image_files, "_TOGETHER", 4)
        for i in range(60):
            (tmp_path / "faces" / str(i % 7)).mkdir(parents=True, exist_ok=True)
            (tmp_path / "faces" / str(i % 7) / f"{i}.jpg").write_bytes(noise_images[i % 40])
        convert(tmp_path / "faces", tmp_path / "wanted.lmdb")

        class StoppedError(Exception):
            pass

        def stop(done, total):
            if done >= 40:
                raise StoppedError

        with pytest.raises(StoppedError):
            convert(tmp_path / "faces", tmp_path / "train.lmdb", stop)
        assert (tmp_path / "train.lmdb.partial" / "state.json").exists()
        convert(tmp_path / "faces", tmp_path / "train.lmdb")
        data = [tmp_path / name / "data.mdb" for name in ("train.lmdb", "wanted.lmdb")]
        assert data[0].read_bytes() == data[1].read_bytes()

    @pytest.mark.parametrize("names", [["2", "10"], ["a2b", "a10a"], ["007", "8"], ["1a", "a1"]])
    def test_numbers_in_names_count(self, names):
        assert sorted({*names}, key=natural_order) == names


class TestLists:
    def write(self, folder, text):
        path = folder.parent / "faces.lst"
        path.write_text(text)
        return path

    @pytest.mark.parametrize(
        ("text", "keys"),
        [
            ("7\t4\tfaces/9/b.jpg\n3\t2.000000\tfaces/10/x.JPEG\n\n", [3, 7]),
            ("4\tfaces/9/b.jpg\r\n2\tfaces/10/x.JPEG", [1, 0]),
            ("7\t4\t0.5\t0.1\tfaces/9/b.jpg\n3\t2\t1\t1\tfaces/10/x.JPEG\n", [3, 7]),
            ("7 4 faces/9/b.jpg\n3 2 faces/10/x.JPEG\n", [3, 7]),
            ("1\tfaces/9/b.jpg\t4\n1\tfaces/10/x.JPEG\t2\n", [1, 0]),
            ("1 faces/9/b.jpg 4\n0 faces/10/x.JPEG 2\n", [1, 0]),
            ("0\tfaces/9/b.jpg\t4\t1\t2\t3\t4\n1\tfaces/10/x.JPEG\t2\n", [1, 0]),
            ("1\tfaces/9/b.jpg 4\n1\tfaces/10/x.JPEG 2\n", [1, 0]),
            ("faces/9/b.jpg 4\nfaces/10/x.JPEG 2\n", [1, 0]),
            ("faces/9/b.jpg  0000004\r\nfaces/10/x.JPEG 0000002\r\n\r\n", [1, 0]),
            ("faces/9/b.jpg\t4\nfaces/10/x.JPEG\t2e0\n", [1, 0]),
            ("faces/9/b.jpg;4;\nfaces/10/x.JPEG;2;\n", [1, 0]),
            ("4 faces/9/b.jpg\n2 faces/10/x.JPEG\n", [1, 0]),
            ("path,label\nfaces/9/b.jpg,4\nfaces/10/x.JPEG, 2\n", [1, 0]),
            (',path,label\n0,"faces/9/b.jpg",4\n7,faces/10/x.JPEG,2\n', [1, 0]),
            ("\ufefffaces/9/b.jpg 4\n\ufefffaces/10/x.JPEG 2\n", [1, 0]),
            ("faces\\9\\b.jpg 4\nfaces\\10\\x.JPEG 2\n", [1, 0]),
            ("faces/9/b.jpg 4\rfaces/10/x.JPEG 2\r", [1, 0]),
        ],
    )
    def test_lines_are_images(self, folder, tmp_path, noise_images, text, keys):
        store = convert(self.write(folder, text), tmp_path / "train.lmdb")
        assert store.source_labels.tolist() == [2, 4]
        assert store.source_keys.tolist() == keys
        assert store.source_names == ("faces/10/x.JPEG", "faces/9/b.jpg")
        assert [store.read(i) for i in range(2)] == [noise_images[4], noise_images[1]]

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("suffix", [".lst", ".list", ".txt", ".tsv", ".csv"])
    def test_what_windows_saves_is_read(self, folder, encoding, suffix):
        path = folder.parent / f"faces{suffix}"
        path.write_bytes("faces/9/b.jpg\t3\r\nfaces/9/a2.jpg\t3\r\n\r\n".encode(encoding))
        found = open_source(path)
        assert (found.total, found.name(1)) == (2, "faces/9/a2.jpg")

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("my faces/one 1.jpg 4\nmy faces/two  2.jpg 5\n", True),
            ("4 my faces/one 1.jpg\n5 my faces/two  2.jpg\n", True),
            ("1 my faces/one 1.jpg 4\n1 my faces/two  2.jpg 5\n", True),
            ("3 4 my faces/one 1.jpg\n4 5 my faces/two  2.jpg\n", True),
            ("my faces/one 1.jpg\t4\nmy faces/two  2.jpg\t5\n", True),
            ("my faces/one 1.jpg,4\nmy faces/two  2.jpg,5\n", True),
            ("a,b/one 1.jpg 4\na;b/two  2.jpg 5\n", False),
            ('"a,b/one 1.jpg",4\n"a;b/two  2.jpg",5\n', False),
        ],
    )
    def test_paths_may_hold_blanks_and_other_separators(self, folder, text, names):
        files = read_list(self.write(folder, text))
        wanted = ["my faces/one 1.jpg", "my faces/two  2.jpg"]
        if not names:
            wanted = ["a,b/one 1.jpg", "a;b/two  2.jpg"]
        assert [files.name(i) for i in range(2)] == wanted

    def test_names_that_are_no_utf_8_stay_what_they_are(self, folder):
        path = folder.parent / "faces.txt"
        path.write_bytes(b"faces/\xc3.jpg 1\n\xe5.jpg 2\n")
        assert os.fsencode(read_list(path).name(0)) == b"faces/\xc3.jpg"

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("1\t2\ta.jpg\nx\t2\tb.jpg\n", "line 2: the key is 'x'"),
            ("2\ta.jpg\n-1\tb.jpg\n", "line 2: the label is '-1'"),
            ("2.5\ta.jpg\n", "line 1: the label is '2.5'"),
            ("2\ta.jpg\nnan\tb.jpg\n", "line 2: the label is 'nan'"),
            ("a.jpg 1\nb.jpg \u00b2\n", "line 2: the label is '\u00b2'"),
            ("2\ta.jpg\n1\t2\tb.jpg\n", "line 2: .* is not LABEL tab PATH, as the first line is"),
            ("a.jpg 1\nb.jpg\n", "line 2: 'b.jpg' is not PATH blank LABEL"),
            ("a.jpg\n", "line 1: 'a.jpg' has none of the forms KEY LABEL PATH"),
            ("a.jpg anna\n", "line 1: .* KEY and LABEL are whole numbers"),
            ("a.jpg 1 20 30 40\n", "line 1: .* has none of the forms"),
            ("path label\n", "line 1: .* has none of the forms"),
            ("1\t2\t\n", "line 1: the path is empty"),
            ("1\t2\ta.jpg\n1\t3\tb.jpg\n", "line 2: the key 1 stands in line 1"),
            ("1 a.jpg\n2 b\0.jpg\n", "line 2 holds a zero byte"),
            ("\n\n", "names no images"),
            ("", "names no images"),
            ("\ufeff", "names no images"),
        ],
    )
    def test_mistakes_are_named_with_their_line(self, folder, text, complaint):
        with pytest.raises(UserError, match=complaint):
            read_list(self.write(folder, text))

    def test_a_missing_file_is_named(self, folder, tmp_path):
        path = self.write(folder, "0\tfaces/9/b.jpg\n0\tfaces/none.jpg\n")
        with pytest.raises(UserError, match=r"none\.jpg: cannot read it: No such file"):
            convert(path, tmp_path / "train.lmdb")
        assert len(convert(path, tmp_path / "train.lmdb", skip_bad=True)) == 1


def test_a_folder_of_neither_says_what_is_wanted(tmp_path):
    with pytest.raises(UserError, match=r"no train\.rec and no images in it; give a folder"):
        open_source(tmp_path)


def test_images_of_another_size_are_refused(folder, tmp_path):
    (folder / "9" / "c.jpg").write_bytes(encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(UserError, match=r"c\.jpg: the image has 8x8 pixels, the first image says"):
        convert(folder, tmp_path / "train.lmdb")


def test_paths_need_not_be_text(tmp_path, noise_images):
    root = tmp_path / "faces"
    (root / "a").mkdir(parents=True)
    name = os.fsdecode(b"\xff.jpg")
    (root / "a" / name).write_bytes(noise_images[0])
    assert read_folder(root).name(0) == str(Path("a") / name)
    assert convert(root, tmp_path / "train.lmdb").source_names == (f"a/{name}",)
