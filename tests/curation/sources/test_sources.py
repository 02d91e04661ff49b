"""Folders of images and lists as sources of a conversion."""

import json
import os
import random
import re
import socket
import time
from pathlib import Path

import lmdb
import numpy as np
import pytest
from store_content import content_of

import curation.conversion.build
import curation.sources.image_files
from curation.conversion.convert import convert
from curation.conversion.journal import load_state
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.inspection import inspect_path
from curation.sources.folders import natural_order, read_folder
from curation.sources.lists import read_list
from curation.sources.opening import open_source
from curation.sources.quarantine import read_quarantine
from curation.store import Store
from tests.memory import traced_memory

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
    def test_each_folder_is_an_identity_in_natural_order(self, folder, tmp_path):
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

    def test_names_need_not_be_utf8(self, folder, tmp_path):
        odd = folder.rename(folder.with_name(os.fsdecode(b"faces\xff")))
        (odd / "9" / "b.jpg").rename(odd / "9" / os.fsdecode(b"b\xfe.jpg"))
        store = convert(odd, tmp_path / "train.lmdb")
        assert store.meta.source_name == r"faces\udcff"
        assert store.source_names[2] == os.fsdecode(b"9/b\xfe.jpg")
        assert len(convert(odd, tmp_path / "train.lmdb")) == 5

    def test_bytes_are_copied_unchanged(self, folder, tmp_path):
        store = convert(folder, tmp_path / "train.lmdb")
        for i, name in enumerate(store.source_names):
            assert store.read(i) == (folder / name).read_bytes()

    def test_a_second_conversion_notices_only_a_changed_file(self, folder, tmp_path):
        first = convert(folder, tmp_path / "train.lmdb")
        os.utime(folder / "9" / "b.jpg")
        assert convert(folder, tmp_path / "train.lmdb").digest == first.digest
        data = bytearray((folder / "9" / "b.jpg").read_bytes())
        data[-5] ^= 1
        (folder / "9" / "b.jpg").write_bytes(data)
        with pytest.raises(UserError, match="made from another source"):
            convert(folder, tmp_path / "train.lmdb")

    def test_images_outside_identities_are_refused_or_skipped(self, folder, tmp_path):
        (folder / "stray.png").write_bytes(b"")
        (folder / "sheet 2.jpg").write_bytes(b"")
        with pytest.raises(
            UserError, match=r"2\.jpg: it is not in an identity's folder.*--skip-bad"
        ):
            convert(folder, tmp_path / "train.lmdb")
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        assert (len(store), store.identities, store.meta.skipped) == (5, 3, 2)
        listed = [(bad.key, bad.offset, bad.reason) for bad in read_quarantine(store.path)]
        wanted = f"it is not in an identity's folder; expected {folder}/IDENTITY/"
        assert listed == [
            (None, 5, f"sheet 2.jpg: {wanted}sheet 2.jpg"),
            (None, 6, f"stray.png: {wanted}stray.png"),
        ]

    @pytest.mark.parametrize("kind", ["pipe", "device", "socket", "lost link", "annex", "huge"])
    def test_a_special_file_is_a_bad_image_and_never_blocks(self, folder, tmp_path, kind):
        path = folder / "9" / "c.jpg"
        with socket.socket(socket.AF_UNIX) as server:
            match kind:
                case "pipe":
                    os.mkfifo(path)
                case "device":
                    path.symlink_to("/dev/zero")
                case "socket":
                    server.bind(str(path))
                case "lost link":
                    path.symlink_to("elsewhere.jpg")
                case "annex":
                    path.symlink_to("../.git/annex/objects/x.jpg")
                case "huge":
                    os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 10 << 30)
            store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        ((key, _, reason),) = read_quarantine(store.path)
        said = {"pipe": "named pipe", "lost link": "link to elsewhere.jpg", "huge": "at most"}
        assert key == 3
        assert reason.startswith("9/c.jpg: it ")
        assert said.get(kind, kind) in reason

    def test_pictures_in_unsupported_formats_are_reported(self, folder, tmp_path):
        (folder / "9" / "c.webp").write_bytes(b"RIFF\x24\0\0\0WEBPVP8 ")
        (folder / "9" / "d.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        reasons = [bad.reason for bad in read_quarantine(store.path)]
        assert "neither JPEG nor PNG: it is an image (WebP)" in reasons[0]
        assert "neither JPEG nor PNG: it is a Git LFS pointer" in reasons[1]

    def test_linked_folders_are_read_and_cycles_are_not(self, folder, tmp_path, noise_images):
        outside = tmp_path / "elsewhere"
        outside.mkdir()
        (outside / "z.jpg").write_bytes(noise_images[7])
        (outside / "back").symlink_to(folder)
        (outside / "here").symlink_to(outside)
        (folder / "11").symlink_to(outside)
        (folder / "12").symlink_to(outside)
        (folder / "again").symlink_to(folder / "9")
        (folder / "9" / "up").symlink_to("..")
        names = convert(folder, tmp_path / "train.lmdb").source_names
        assert names[3:] == ("10/x.JPEG", "10/deep/er/y.jpg", "11/z.jpg")

    def test_circular_links_are_bad_images(self, folder, tmp_path):
        (folder / "9" / "c.jpg").symlink_to("d.jpg")
        (folder / "9" / "d.jpg").symlink_to("c.jpg")
        (folder / "9" / "here").symlink_to("here")
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        reasons = [bad.reason for bad in read_quarantine(store.path)]
        assert [reason[:18] for reason in reasons] == ["9/c.jpg: it is a l", "9/d.jpg: it is a l"]

    def test_digits_in_other_scripts_sort_as_letters(self, tmp_path, noise_images):
        for name in ("\u00b2x", "2x", "\u0663", "10\u00b2"):
            (tmp_path / "faces" / name).mkdir(parents=True)
            (tmp_path / "faces" / name / "\u00b9.jpg").write_bytes(noise_images[0])
        names = convert(tmp_path / "faces", tmp_path / "train.lmdb").source_names
        assert [name.split("/")[0] for name in names] == ["2x", "10\u00b2", "\u00b2x", "\u0663"]

    def test_an_unfinished_conversion_lists_a_bad_file_once(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(curation.conversion.build, "COMMIT_BYTES", 1)
        monkeypatch.setattr(curation.sources.image_files, "_TOGETHER", 2)
        (folder / "9" / "a1.jpg").symlink_to("nowhere")
        (folder / "stray.jpg").touch()

        def stop(done, total):
            if done > 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert(folder, tmp_path / "train.lmdb", stop, skip_bad=True)
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        reasons = [bad.reason.split(":")[0] for bad in read_quarantine(store.path)]
        assert (reasons, len(store)) == (["stray.jpg", "9/a1.jpg"], 5)

    def test_a_bad_file_is_named_and_can_be_skipped(self, folder, tmp_path):
        (folder / "9" / "c.jpg").write_bytes(b"nothing of the kind")
        with pytest.raises(UserError, match=r"9/c\.jpg: the image is neither.*--skip-bad"):
            convert(folder, tmp_path / "train.lmdb")
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        assert (len(store), store.meta.skipped) == (5, 1)

    def test_a_stopped_conversion_is_resumed(self, tmp_path, noise_images, monkeypatch):
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
        assert load_state(tmp_path / "train.lmdb.partial").copied > 0
        convert(tmp_path / "faces", tmp_path / "train.lmdb")
        assert content_of(tmp_path / "train.lmdb") == content_of(tmp_path / "wanted.lmdb")

    def test_names_sort_by_their_words_and_numbers(self):
        def slow(name):
            words = re.findall(r"[0-9]+|[^0-9]+", name)
            return [(0, int(w), "") if w[0] in "0123456789" else (1, 0, w) for w in words], name

        rng = random.Random(0)
        names = ["".join(rng.choices("ab019._\u00b2", k=rng.randrange(8))) for _ in range(5_000)]
        assert sorted(names, key=natural_order) == sorted(names, key=slow)

    @pytest.mark.parametrize("names", [["2", "10"], ["a2b", "a10a"], ["007", "8"], ["1a", "a1"]])
    def test_numbers_in_names_count(self, names):
        assert sorted({*names}, key=natural_order) == names


class TestLists:
    def test_an_impossible_file_name_is_skipped(self, tmp_path, folder):
        listed = folder / "list.txt"
        listed.write_text(f"0 {'a' * 300}.jpg\n1 9/b.jpg\n")
        store = convert(listed, tmp_path / "train.lmdb", skip_bad=True)
        assert (store.source_names, store.meta.skipped) == (("9/b.jpg",), 1)

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
            ("# made by us\nfaces/9/b.jpg 4\nfaces/10/x.JPEG 2\n", [1, 0]),
            ("# made\n#\n## by us\nfaces/9/b.jpg 4\n  # more\nfaces/10/x.JPEG 2\n", [1, 0]),
            ("# made\npath,label\nfaces/9/b.jpg,4\n# more\nfaces/10/x.JPEG,2\n", [1, 0]),
            ('"faces/9/b.jpg"\t"4"\n"faces/10/x.JPEG"\t"2"\n', [1, 0]),
            ('"faces/9/b.jpg" 4\n"faces/10/x.JPEG" 2\n', [1, 0]),
            (f"faces/9/b.jpg 4{' 1.5' * 10}\nfaces/10/x.JPEG 2{' 1.5' * 10}\n", [1, 0]),
            ("split,Label,img_path,age\nx,4,faces/9/b.jpg,7\ny,2,faces\\10\\x.JPEG,\n", [1, 0]),
            ("person_id\tfile_name\n4\tfaces/9/b.jpg\t\n2\tfaces/10/x.JPEG\n", [1, 0]),
        ],
    )
    def test_lines_are_images(self, folder, tmp_path, noise_images, text, keys):
        store = convert(self.write(folder, text), tmp_path / "train.lmdb")
        assert store.source_labels.tolist() == [2, 4]
        assert store.source_keys.tolist() == keys
        assert store.source_names == ("faces/10/x.JPEG", "faces/9/b.jpg")
        assert [store.read(i) for i in range(2)] == [noise_images[4], noise_images[1]]

    @pytest.mark.parametrize("missing", ["nan", "NaN", "None", "NULL", "<NA>"])
    @pytest.mark.parametrize("other", ["4", "anna"])
    @pytest.mark.parametrize("first", [True, False])
    def test_a_missing_label_is_none(self, folder, tmp_path, missing, other, first):
        lines = [f"faces/9/b.jpg {other}", f"faces/10/x.JPEG {missing}"]
        text = "\n".join(reversed(lines) if first else lines)
        store = convert(self.write(folder, text), tmp_path / "train.lmdb")
        assert (store.identities, store.unlabelled) == (1, 1)

    @pytest.mark.parametrize(
        "text",
        [
            "m.02 faces/9/b.jpg\nm.03 faces/10/x.JPEG\nm.02 faces/9/a2.jpg\n",
            "faces/9/b.jpg\tm.02\nfaces/10/x.JPEG\t5\nfaces/9/a2.jpg\tm.02\n",
            "path,name\nfaces/9/b.jpg,Anna Smith 1\nfaces/10/x.JPEG,Bo 2\n"
            "faces/9/a2.jpg,Anna Smith 1\n",
            "identity,age,image\nm.02,3,faces/9/b.jpg\nm.03,3,faces/10/x.JPEG\n"
            "m.02,3,faces/9/a2.jpg\n",
        ],
        ids=["name-path", "path-name", "csv", "heading"],
    )
    def test_identity_names_are_numbered_in_order(self, folder, tmp_path, text):
        store = convert(self.write(folder, text), tmp_path / "train.lmdb")
        assert store.source_labels.tolist() == [0, 1]
        assert store.labels.tolist() == [0, 0, 1]
        assert store.source_names == ("faces/9/b.jpg", "faces/9/a2.jpg", "faces/10/x.JPEG")

    def test_json_lines_as_in_image_folders(self, folder, tmp_path):
        names = ["faces/9/b.jpg", "faces/10/x.JPEG", "faces/9/a2.jpg"]
        rows = [
            {"file_name": name, "label": n, "age": [1]}
            for name, n in zip(names, (4, 2, None), strict=True)
        ]
        path = folder.parent / "metadata.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        store = convert(path, tmp_path / "train.lmdb")
        assert (store.source_labels.tolist(), store.unlabelled) == ([2, 4], 1)
        assert store.source_names == (names[1], names[0], names[2])

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            (
                "a.csv",
                "image,label\na.jpg,1\nb.jpg\n",
                "line 3: it has 1 columns, the",
            ),
            ("a.csv", "image,label\n,1\n", "line 2: it names no file"),
            ("a.csv", "image,label\na.jpg,1\nb.jpg,x\n", "line 3: the label 'x' is not a whole"),
            ("a.jsonl", "[1]\n", "line 1: .* is not a JSON object with file_name, label"),
            ("a.jsonl", '{"file_name": "a.jpg", "label": 1}\n{\n', "line 2: "),
            ("a.jsonl", '{"label": 1}\n', "line 1: it names no file"),
        ],
        ids=["columns", "no-file", "label", "array", "damaged", "no-key"],
    )
    def test_mistakes_in_named_columns(self, tmp_path, name, text, message):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=message):
            read_list(tmp_path / name)

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("suffix", [".lst", ".list", ".txt", ".tsv", ".csv"])
    def test_files_saved_on_windows_are_read(self, folder, encoding, suffix):
        path = folder.parent / f"faces{suffix}"
        path.write_bytes("faces/9/b.jpg\t3\r\nfaces/9/a2.jpg\t3\r\n\r\n".encode(encoding))
        found = open_source(path)
        assert (len(found), found.name(1)) == (2, "faces/9/a2.jpg")

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
    def test_paths_may_contain_spaces_and_other_separators(self, folder, text, names):
        files = read_list(self.write(folder, text))
        wanted = ["my faces/one 1.jpg", "my faces/two  2.jpg"]
        if not names:
            wanted = ["a,b/one 1.jpg", "a;b/two  2.jpg"]
        assert [files.name(i) for i in range(2)] == wanted

    def test_names_that_are_not_utf_8_are_preserved(self, folder):
        path = folder.parent / "faces.txt"
        path.write_bytes(b"faces/\xc3.jpg 1\n\xe5.jpg 2\n")
        assert os.fsencode(read_list(path).name(0)) == b"faces/\xc3.jpg"

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("1\t2\ta.jpg\nx\t2\tb.jpg\n", "line 2: the key is 'x'"),
            ("2\ta.jpg\n-2\tb.jpg\n", "line 2: the label is '-2'"),
            ("2.5\ta.jpg\n", "line 1: the label is '2.5'"),
            ("2\ta.jpg\ninf\tb.jpg\n", "line 2: the label is 'inf'"),
            ("a.jpg 1\nb.jpg \u00b2\n", "line 2: the label is '\u00b2'"),
            ("2\ta.jpg\n1\t2\tb.jpg\n", "line 2: .* is not LABEL tab PATH, as the first line is"),
            ("a.jpg 1\nb.jpg\n", "line 2: 'b.jpg' is not PATH blank LABEL"),
            ("1\ta.jpg\t0\n1\tb/\n", "line 2: .* is not ALIGNED tab PATH tab LABEL"),
            ("1 a.jpg 0\n1 b.jpg\n", "line 2: .* is not ALIGNED blank PATH blank LABEL"),
            ("a b.jpg\n", "line 1: 'a b.jpg' matches none of the forms KEY LABEL PATH"),
            ("a.jpg\n" + "b" * 5000, "line 2: the path has 5,000 characters"),
            ("a.jpg anna 7 bo\n", "line 1: .* KEY and LABEL are whole numbers"),
            ("a.jpg,anna\nb.jpg,\n", "line 2: 'b.jpg,' is not PATH comma NAME"),
            ("a.jpg,anna\nb.jpg," + "x" * 300, "line 2: the label 'x{40}' is not a name of at"),
            ("a.jpg 1 20 30 40\n", "line 1: .* matches none of the forms"),
            ("path label\n", "line 1: .* matches none of the forms"),
            ("1\t2\t\n", "line 1: the path is empty"),
            ("1\t2\ta.jpg\n1\t3\tb.jpg\n", "line 2: the key 1 stands in line 1"),
            (
                "key\tlabel\tpath\n\n7\t2\ta.jpg\n\n5\t3\tb.jpg\n7\t3\tc.jpg\n",
                "line 6: the key 7 stands in line 3",
            ),
            ("1 a.jpg\n2 b\0.jpg\n", "line 2 holds a zero byte"),
            ("\n\n", "names no images"),
            ("", "names no images"),
            ("\ufeff", "names no images"),
        ],
    )
    def test_errors_name_their_line(self, folder, text, complaint):
        with pytest.raises(UserError, match=complaint):
            read_list(self.write(folder, text))

    def test_a_long_list_takes_little_more_memory_than_its_names(self, folder):
        count = 20_000
        lines = (f"{count - i}\t{i // 9}\tanna/{i:05}.jpg\n" for i in range(count))
        path = self.write(folder, "".join(lines))
        with traced_memory() as memory:
            files = read_list(path)
        assert len(files) == count
        assert memory.kept < 60 * count  # 200 if each were an object

    def test_a_line_of_a_million_digits_takes_no_time(self, folder):
        began = time.process_time()
        with pytest.raises(UserError, match="line 1: the path has 1,000,001 characters") as found:
            read_list(self.write(folder, "1" * 1_000_000 + "x 5\n"))
        assert time.process_time() - began < 2
        assert len(str(found.value)) < 500

    def test_a_missing_file_is_named(self, folder, tmp_path):
        path = self.write(folder, "0\tfaces/9/b.jpg\n0\tfaces/none.jpg\n")
        with pytest.raises(UserError, match=r"none\.jpg: cannot read it: No such file"):
            convert(path, tmp_path / "train.lmdb")
        assert len(convert(path, tmp_path / "train.lmdb", skip_bad=True)) == 1

    def test_if_all_files_are_missing_the_first_is_named(self, folder, tmp_path):
        path = self.write(folder, "/gone/1.jpg 0\n/gone/2.jpg 0\n")
        with pytest.raises(
            UserError, match=r"no good images: 2 are bad, the first: /gone/1\.jpg: "
        ):
            convert(path, tmp_path / "train.lmdb", skip_bad=True)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("train.rec", b"<!doctype html><html>", "is a web page .*, not RecordIO; download"),
        ("train.rec", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("train.rec", b"PAR1\x15", "is a Parquet table, not RecordIO"),
        ("train.rec.gz", b"\x1f\x8b\x08", "is compressed with gzip, not a training set; unpack"),
        ("train.zip.1", b"PK\x03\x04" + bytes(30), "is a zip archive"),
        ("lfw.bin", b"\x80\x04\x95", "is a pickle, not a training set; verification sets"),
        ("train.lst", b"\x89HDF\r\n\x1a\n", "is an HDF5 file, not a list of images"),
        ("model.onnx", b"\x08\x08\x12\x07pytorch", "is an ONNX model"),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_the_kind_of_an_unsuitable_file_is_named(tmp_path, name, data, said, skip_bad):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=said):
        convert(tmp_path / name, tmp_path / "train.lmdb", skip_bad=skip_bad)


@pytest.mark.parametrize("given", [".", "train.rec"])
def test_records_that_were_not_downloaded_are_named(tmp_path, given):
    (tmp_path / "train.rec").symlink_to(".git/annex/objects/a/SHA256E-s9--b.rec")
    with pytest.raises(UserError, match=r"train\.rec is a git-annex pointer .*git annex get"):
        open_source(tmp_path / given)


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (["faces.rec", "faces.idx"], "faces.rec"),
        (
            ["data/default/train/0000.parquet", "data/default/train/0001.parquet"],
            "data/default/train",
        ),
        ([".cache/a.tar", "shards/b.tar"], "shards/b.tar"),
    ],
    ids=["records", "tables", "shard"],
)
def test_data_files_below_a_folder_are_named(tmp_path, names, given):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for look in (open_source, inspect_path):
        with pytest.raises(
            UserError, match=rf"no images in it; it holds .*: give {tmp_path / given}$"
        ):
            look(tmp_path)


def test_records_and_lists_are_recognised_by_content(folder, tmp_path, write_source):
    (write_source({0: 2}) / "train.rec").rename(tmp_path / "train.dat")
    assert open_source(tmp_path / "train.dat").kind == "records"
    (tmp_path / "names").write_text("faces/9/b.jpg 3\n")
    assert open_source(tmp_path / "names").kind == "list"


def test_a_store_and_a_foreign_lmdb_are_named(folder, tmp_path):
    store = convert(folder, tmp_path / "train.lmdb")
    with pytest.raises(UserError, match="is a store already"):
        open_source(store.path)
    with lmdb.open(str(tmp_path / "kv")) as environment, environment.begin(write=True) as writing:
        writing.put(b"0", b"x")
    assert open_source(tmp_path / "kv").kind == "lmdb"
    with pytest.raises(UserError, match="another kind of LMDB"):
        Store(tmp_path / "kv")


def test_an_unknown_folder_lists_the_supported_sources(tmp_path):
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
