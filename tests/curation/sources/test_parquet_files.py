import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_content import content_of

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.inspection import inspect_path
from curation.sources import parquet_files, parquet_pages
from curation.sources.quarantine import read_quarantine
from curation.subsets import write_keep
from curation.subsets.text_lists import By
from curation.verify import verify

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LABELS = [7, 3, 5, 7, 3, 5, 7, 3, 5, 7]


def write_table(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.fixture
def columns(noise_images) -> dict[str, Any]:
    images = [{"bytes": noise_images[i], "path": f"{i}.jpg"} for i in range(10)]
    return {"image": images, "label": LABELS, "class_name": ["x"] * 10}


class TestTables:
    def test_images_and_labels_are_unchanged(self, tmp_path, columns, noise_images):
        for number in range(2):
            part = {name: values[5 * number :][:5] for name, values in columns.items()}
            name = f"data/train-{number:05d}-of-00002.parquet"
            write_table(tmp_path / "set" / name, part, row_group_size=2)
        store = convert(tmp_path / "set", tmp_path / "a.lmdb")
        order = [int(name[0]) for name in store.source_names]
        assert order == [1, 4, 7, 2, 5, 8, 0, 3, 6, 9]
        assert [store.read(i) for i in range(10)] == [noise_images[i] for i in order]
        assert store.source_labels.tolist() == [3, 5, 7]
        assert inspect_path(tmp_path / "set")["files"] == 2
        assert verify(tmp_path / "set", decoding=True)["sound"]
        (tmp_path / "list.txt").write_text("3.jpg\n4.jpg\n")
        view = write_keep(tmp_path / "a.view", store, tmp_path / "list.txt", By.NAME)
        assert sorted(view.source_keys.tolist()) == [3, 4]

    def test_progress_knows_how_much_is_left(self, tmp_path, columns):
        many = {name: values * 60 for name, values in columns.items()}
        table, told = write_table(tmp_path / "a.parquet", many), []
        convert(table, tmp_path / "a.lmdb", lambda done, total: told.append((done, total)))
        assert told[0][0] < 300
        assert 550 < told[0][1] < 650

    def test_missing_tables_are_a_warning(self, tmp_path, columns):
        for name in ("train-00000-of-00004", "train-00003-of-00004"):
            write_table(tmp_path / "set" / f"{name}.parquet", columns)
        first, *others = inspect_path(tmp_path / "set")["warnings"]
        assert first.startswith("2 of 4 files are missing, such as ")
        assert "train-00001-of-00004.parquet" in first
        told = []
        convert(tmp_path / "set", tmp_path / "a.lmdb", unlabelled=True, warn=told.append)
        assert (told, others) == ([first], [])
        write_table(tmp_path / "set" / "train-00000-of-00002.parquet", columns)
        [both] = inspect_path(tmp_path / "set")["warnings"]
        assert "files numbered of 00002 and of 00004" in both

    def test_pandas_writes_missing_labels_as_nan(self, tmp_path, columns):
        labels = [float("nan"), 3.0, *[5.0] * 8]
        store = convert(
            write_table(tmp_path / "a.parquet", columns | {"label": labels}), tmp_path / "a.lmdb"
        )
        assert (store.source_labels.tolist(), store.unlabelled) == ([3, 5], 1)

    def test_one_of_several_columns_of_images_must_be_called_so(self, tmp_path, columns):
        images = columns.pop("image")
        path = write_table(tmp_path / "a.parquet", columns | {"face": images, "crop": images})
        with pytest.raises(UserError, match="several columns of images, face, crop; call the one"):
            convert(path, tmp_path / "a.lmdb")

    def test_tables_of_file_names_are_no_images(self, tmp_path, columns):
        images = pa.array([{"bytes": None, "path": f"{i}.jpg"} for i in range(10)], STRUCT)
        path = write_table(tmp_path / "a.parquet", columns | {"image": images})
        with pytest.raises(UserError, match=r"0\.jpg: its row has no bytes .* read as lists"):
            convert(path, tmp_path / "a.lmdb")

    @pytest.mark.parametrize(
        ("image", "label", "name"),
        [("jpg", "cls", "__key__"), ("anything", "target", "file_name"), ("img", "label", "key")],
    )
    def test_columns_are_recognised_by_name_and_type(
        self, tmp_path, noise_images, image, label, name
    ):
        path = write_table(
            tmp_path / "a.parquet",
            {"__url__": ["u"] * 2, image: noise_images[:2], label: ["4", "2"], name: ["k0", "k1"]},
        )
        store = convert(path, tmp_path / "a.lmdb")
        assert store.source_labels.tolist() == [2, 4]
        assert store.source_names == ("k1", "k0")

    def test_rows_without_a_label_are_unlabelled(self, tmp_path, columns):
        del columns["label"]
        store = convert(write_table(tmp_path / "a.parquet", columns), tmp_path / "a.lmdb")
        assert (store.identities, store.unlabelled) == (0, 10)
        columns["label"] = [1, None, -1, 1] + [0] * 6
        store = convert(write_table(tmp_path / "b.parquet", columns), tmp_path / "b.lmdb")
        assert (store.identities, store.unlabelled) == (2, 2)

    def test_labels_may_be_names(self, tmp_path, columns):
        names = ["Bo", "7", "Anna"]
        labels = [names[i % 3] for i in range(10)]
        half = {name: values[:5] for name, values in columns.items()} | {"label": labels[:5]}
        rest = {name: values[5:] for name, values in columns.items()} | {"label": labels[5:]}
        write_table(tmp_path / "set" / "0.parquet", half)
        write_table(tmp_path / "set" / "1.parquet", rest)
        store = convert(tmp_path / "set", tmp_path / "a.lmdb")
        found = store.source_labels_of(store.rows)
        assert [found[store.source_keys == i].item() for i in range(10)] == [0, 1, 2] * 3 + [0]

    @pytest.mark.parametrize(
        "kind",
        [pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())],
        ids=str,
    )
    def test_images_may_have_any_binary_type(self, tmp_path, noise_images, kind):
        images = pa.array([None, *noise_images[:3]], pa.binary()).cast(kind)
        path = write_table(tmp_path / "a.parquet", {"image": images, "label": [0, 0, 1, 1]})
        store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
        assert [store.read(i) for i in range(3)] == noise_images[:3]

    @pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
    def test_compression_does_not_matter(self, tmp_path, columns, compression):
        path = write_table(tmp_path / "a.parquet", columns, compression=compression)
        assert len(convert(path, tmp_path / "a.lmdb")) == 10

    def test_a_stopped_conversion_is_resumed(self, tmp_path, noise_images):
        images = [noise_images[i % 40] for i in range(2000)]
        labels = [i * 7919 % 500 for i in range(2000)]
        path = write_table(tmp_path / "a.parquet", {"image": images, "label": labels})
        program = (
            "import os, sys; from curation.conversion import build, convert\n"
            "build.COMMIT_BYTES = 1 << 16; build.COMMIT_IMAGES = 100\n"
            "convert.convert(sys.argv[1], sys.argv[2], lambda done, _: done > 800 and os._exit(9))"
        )
        command = [sys.executable, "-c", program, str(path), str(tmp_path / "a.lmdb")]
        assert subprocess.run(command, check=False).returncode == 9
        stopped = convert(path, tmp_path / "a.lmdb")
        assert content_of(stopped.path) == content_of(convert(path, tmp_path / "b.lmdb").path)


class TestMistakes:
    def test_several_splits_are_not_mixed(self, tmp_path, columns):
        for split in ("train", "test"):
            write_table(tmp_path / "set" / f"{split}-00000-of-00001.parquet", columns)
        with pytest.raises(
            UserError, match=r"several splits \(test, train\); give the files of one split"
        ):
            convert(tmp_path / "set", tmp_path / "a.lmdb")
        assert len(convert(tmp_path / "set" / "train-*.parquet", tmp_path / "a.lmdb")) == 10

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            (
                {"image": pa.array([{"bytes": None, "path": "x.jpg"}], STRUCT)},
                "its row has no bytes of an image",
            ),
            ({"image": pa.array([None], STRUCT)}, "its row has no bytes of an image"),
            ({"image": [{"bytes": b"x", "path": "x.jpg"}]}, r"x\.jpg: .*JPEG"),
            ({"label": [1.5]}, "the label '1.5' is not a whole number"),
            ({"label": [[1, 2]]}, r"the label is a list of 2 values, \[1, 2\]; expected one"),
            ({"label": ["anna"]}, "the label 'anna' is not a whole number"),
            ({"label": [-7]}, "the label is -7"),
            ({"label": [Decimal("1.5")]}, "the label '1.5' is not a whole number"),
        ],
    )
    def test_bad_rows_are_named_or_skipped(self, tmp_path, columns, changes, complaint):
        one = {name: values[:1] for name, values in columns.items()} | changes
        write_table(tmp_path / "set" / "0.parquet", columns)
        write_table(tmp_path / "set" / "1.parquet", one)
        with pytest.raises(UserError, match=complaint):
            convert(tmp_path / "set", tmp_path / "a.lmdb")
        store = convert(tmp_path / "set", tmp_path / "a.lmdb", skip_bad=True)
        assert (len(store), store.meta.skipped) == (10, 1)

    @pytest.mark.parametrize(
        "values",
        [
            [Decimal("3.00"), Decimal("0.00"), None],
            [[3], [0], [None]],
            pa.array([[3], [0], None], pa.list_(pa.int32(), 1)),
        ],
        ids=["decimal", "list", "list-of-fixed-length"],
    )
    def test_labels_of_unusual_types(self, tmp_path, noise_images, values):
        path = write_table(tmp_path / "a.parquet", {"image": noise_images[:3], "label": values})
        store = convert(path, tmp_path / "a.lmdb")
        assert store.source_labels_of(store.rows).tolist() == [0, 3, -1]

    def test_bad_rows_without_a_name_are_numbered(self, tmp_path, noise_images):
        path = write_table(tmp_path / "a.parquet", {"image": [noise_images[0], b"x"]})
        with pytest.raises(UserError, match=r"a\.parquet: row 1 \(from 0\): .*JPEG"):
            convert(path, tmp_path / "a.lmdb")
        store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
        assert next(read_quarantine(store.path)).reason.startswith("row 1 (from 0): ")

    @pytest.mark.parametrize("columns", [{"a": [1], "b": ["x"]}, {"image": ["path"]}])
    def test_a_table_without_images_is_reported(self, tmp_path, columns):
        with pytest.raises(UserError, match="has no column of images among"):
            convert(write_table(tmp_path / "a.parquet", columns), tmp_path / "a.lmdb")

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
    def test_a_damaged_table_is_reported(self, tmp_path, columns, share):
        path = write_table(tmp_path / "a.parquet", columns)
        os.truncate(path, int(share * path.stat().st_size))
        with pytest.raises(UserError, match=r"a\.parquet"):
            convert(path, tmp_path / "a.lmdb")

    def test_rows_after_damage_in_the_middle_are_skipped(self, tmp_path, columns):
        path = write_table(tmp_path / "a.parquet", columns, compression="none", row_group_size=2)
        data = bytearray(path.read_bytes())
        for at in range(len(data) // 2, len(data) // 2 + 400):
            data[at] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.parquet"):
            convert(path, tmp_path / "a.lmdb")

    @pytest.mark.parametrize("column", ["image", "label", "file_name"])
    def test_a_page_that_unpacks_to_gigabytes_is_refused(
        self, tmp_path, columns, monkeypatch, column
    ):
        monkeypatch.setattr(parquet_pages, "MOST_PAGE", 1 << 20)
        one: dict[str, Any] = {"image": columns["image"][:1], "label": ["1"], "file_name": ["a"]}
        large = "1" * (1 << 20)
        one[column] = [{"bytes": large.encode(), "path": "x"}] if column == "image" else [large]
        path = write_table(tmp_path / "a.parquet", one, compression="zstd")
        assert path.stat().st_size < 20_000
        with pytest.raises(UserError, match=rf"a page of the column '{column}.*' has 1,048,\d"):
            convert(path, tmp_path / "a.lmdb", skip_bad=True)

    def test_few_rows_of_one_large_value_are_read_together(self, tmp_path, columns, monkeypatch):
        monkeypatch.setattr(parquet_files, "_DICTIONARY_BYTES_TOGETHER", 1 << 20)
        image = columns["image"][0]["bytes"] + bytes(1 << 18)
        path = write_table(tmp_path / "a.parquet", {"image": [image] * 20}, compression="zstd")
        assert path.stat().st_size < 20_000
        with parquet_files._file(path) as table:
            assert parquet_files._rows_together(path, table, ["image"]) == 3
        assert len(convert(path, tmp_path / "a.lmdb")) == 20

    @pytest.mark.parametrize("version", ["1.0", "2.0"])
    @pytest.mark.parametrize("dictionary", [False, True])
    def test_pages_are_measured_by_their_headers(self, tmp_path, noise_images, version, dictionary):
        images = [noise_images[i % 40] for i in range(3000)]
        options = {"use_dictionary": dictionary, "data_page_version": version}
        path = write_table(tmp_path / "a.parquet", {"image": images}, **options)
        with parquet_files._file(path) as table:
            pages = parquet_pages.measure_pages(path, table, ["image"])
        mean = sum(map(len, images)) / len(images)
        distinct = sum(len(image) + 4 for image in noise_images[:40])
        assert pages.a_value == (distinct if dictionary else 0)
        assert dictionary or mean <= pages.a_row < 1.2 * mean

    def test_row_groups_that_share_their_pages_are_damage(self, tmp_path, noise_images):
        path = write_table(tmp_path / "a.parquet", {"image": noise_images}, use_dictionary=False)
        with parquet_files._file(path) as table:
            group = table.metadata.row_group(0)
        metadata = SimpleNamespace(num_row_groups=2, row_group=lambda number: group)
        with pytest.raises(ValueError, match="the pages of its columns overlap"):
            parquet_pages.measure_pages(path, SimpleNamespace(metadata=metadata), ["image"])

    def test_without_pyarrow_the_install_command_is_named(self, tmp_path, monkeypatch):
        (tmp_path / "a.parquet").write_bytes(b"PAR1")
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(UserError, match=r"pip install 'face-distill\[parquet\]'"):
            convert(tmp_path / "a.parquet", tmp_path / "a.lmdb")
