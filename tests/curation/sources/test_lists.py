"""Lists of images as sources of a conversion."""

import json
import os
import re
import time

import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.sources.lists import read_list
from curation.sources.opening import open_source
from tests.memory import traced_memory


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

    @pytest.mark.parametrize("suffix", [".jsonl", ".JSONL"])
    def test_json_lines_as_in_image_folders(self, folder, tmp_path, suffix):
        names = ["faces/9/b.jpg", "faces/10/x.JPEG", "faces/9/a2.jpg"]
        rows = [
            {"file_name": name, "label": n, "age": [1]}
            for name, n in zip(names, (4, 2, None), strict=True)
        ]
        path = folder.parent / f"metadata{suffix}"
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
    @pytest.mark.parametrize("suffix", [".lst", ".list", ".txt", ".tsv", ".csv", ".TXT"])
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
            ("1\t2\ta.jpg\n1\t3\tb.jpg\n", "line 2: the key 1 is already in line 1"),
            (
                "key\tlabel\tpath\n\n7\t2\ta.jpg\n\n5\t3\tb.jpg\n7\t3\tc.jpg\n",
                "line 6: the key 7 is already in line 3",
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

    def test_labels_and_keys_may_be_numbers_of_53_bits(self, folder, tmp_path):
        most = 2**53 - 1
        store = convert(self.write(folder, f"{most} {most} faces/9/b.jpg\n"), tmp_path / "a.lmdb")
        assert [store.source_labels.tolist(), store.source_keys.tolist()] == [[most], [most]]
        with pytest.raises(UserError, match=f"0 to {most}, and -1 for none"):
            read_list(self.write(folder, f"faces/9/b.jpg {most + 1}\n"))

    @pytest.mark.parametrize(("label", "differs"), [(3, ""), (4, r" \(1 with another label\)")])
    def test_an_image_that_is_listed_twice_is_doubted(self, folder, tmp_path, label, differs):
        path = self.write(folder, f"faces/9/b.jpg 3\nfaces/9/a2.jpg 3\nfaces/9/b.jpg {label}\n")
        warned: list[str] = []
        convert(path, tmp_path / "train.lmdb", warn=warned.append)
        assert re.search(rf"1 image again{differs}, such as 'faces/9/b.jpg'", "".join(warned))

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

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("none.jpg", r"relative paths start at the list's folder, .*faces\)"),
            ("9/B.JPG", r"there is .*9/b\.jpg, which differs in upper and lower case"),
            ("Zoe\u0308/1.jpg", "there is .*Zo\u00eb/1.jpg, which differs in Unicode form"),
            (r"C:\data\1.jpg", "a path of Windows"),
            (r"\\server\data\1.jpg", "a path of Windows"),
            ("https://faces.org/1.jpg", "a web address; download"),
            ("Zo\udceb/1.jpg", "its name is not UTF-8; save the list as UTF-8"),
            ("/none/1.jpg", "No such file or directory; correct"),
        ],
        ids=["absent", "case", "unicode", "windows", "share", "address", "latin-1", "absolute"],
    )
    def test_a_missing_file_is_explained(self, folder, tmp_path, name, hint):
        (folder / "Zo\u00eb").mkdir()
        (folder / "Zo\u00eb" / "1.jpg").write_bytes((folder / "9" / "b.jpg").read_bytes())
        (folder / "list.txt").write_text(f"{name} 0\n", "utf-8", "surrogateescape")
        with pytest.raises(UserError, match=hint):
            convert(folder / "list.txt", tmp_path / "out.lmdb")

    def test_names_of_people_need_not_be_utf_8(self, folder):
        (folder / "list.csv").write_bytes(b"9/b.jpg,J\xfcrgen\n9/a2.jpg,J\xf6rgen\n")
        assert [file.label for file in read_list(folder / "list.csv")._files] == [0, 1]

    def test_paths_may_mix_slashes_and_backslashes(self, folder):
        (folder / "9" / r"a\b.jpg").write_bytes(b"its name has a backslash")
        (folder / "list.txt").write_text("./9\\b.jpg 0\n9/a\\b.jpg 1\n")
        names = [file.name for file in read_list(folder / "list.txt")._files]
        assert names == ["./9/b.jpg", r"9/a\b.jpg"]

    def test_if_all_files_are_missing_the_first_is_named(self, folder, tmp_path):
        path = self.write(folder, "/gone/1.jpg 0\n/gone/2.jpg 0\n")
        with pytest.raises(
            UserError, match=r"no good images: 2 are bad, the first: /gone/1\.jpg: "
        ):
            convert(path, tmp_path / "train.lmdb", skip_bad=True)
