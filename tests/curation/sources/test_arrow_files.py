"""Arrow streams as Hugging Face's ``save_to_disk`` writes them."""

import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.inspection import inspect_path
from curation.sources.label_choice import LabelChoice
from curation.sources.quarantine import read_quarantine
from curation.verify import verify

LABELS = [7, 3, 5, 7, 3, 5, 7, 3, 5, 7]


def write_stream(path: Path, columns: dict[str, Any], rows: int = 4, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    kind = pa.ipc.IpcWriteOptions(**options)
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, table.schema, options=kind) as w,
    ):
        w.write_table(table, max_chunksize=rows)
    return path


@pytest.fixture
def columns(noise_images) -> dict[str, Any]:
    images = [{"bytes": noise_images[i], "path": f"{i}.jpg"} for i in range(10)]
    return {"image": images, "label": LABELS, "person": ["x", "y"] * 5, "pose": [{"yaw": 1}] * 10}


def test_a_saved_data_set_is_converted(tmp_path, columns, noise_images):
    for number in range(2):
        part = {name: values[5 * number :][:5] for name, values in columns.items()}
        write_stream(tmp_path / "set" / f"data-{number:05d}-of-00002.arrow", part, rows=2)
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / "set" / name).write_text("{}")
    write_stream(tmp_path / "set" / "cache-1f2e.arrow", columns)
    store = convert(tmp_path / "set", tmp_path / "a.lmdb")
    order = [int(name[0]) for name in store.source_names]
    assert order == [1, 4, 7, 2, 5, 8, 0, 3, 6, 9]
    assert [store.read(i) for i in range(10)] == [noise_images[i] for i in order]
    assert store.source_labels.tolist() == [3, 5, 7]
    assert (store.meta.source_kind, inspect_path(tmp_path / "set")["files"]) == ("arrow", 2)
    assert verify(tmp_path / "set", decoding=True)["sound"]
    chosen = convert(tmp_path / "set", tmp_path / "b.lmdb", choice=LabelChoice("person"))
    assert chosen.identities == 2


def test_splits_and_other_files_are_refused_with_the_next_step(tmp_path, columns):
    write_stream(tmp_path / "set" / "faces-train-00000-of-00001.arrow", columns)
    write_stream(tmp_path / "set" / "faces-test.arrow", columns)
    with pytest.raises(UserError, match="several splits"):
        convert(tmp_path / "set", tmp_path / "a.lmdb")
    (tmp_path / "set" / "faces-test.arrow").unlink()
    assert len(convert(tmp_path / "set", tmp_path / "a.lmdb")) == 10
    feather = tmp_path / "feather" / "a.arrow"
    feather.parent.mkdir()
    with pa.ipc.new_file(str(feather), pa.schema([])):
        pass
    with pytest.raises(UserError, match="is an Arrow table, not an Arrow stream; write it as Parq"):
        convert(feather, tmp_path / "b.lmdb")
    (tmp_path / "dict").mkdir()
    (tmp_path / "set").rename(tmp_path / "dict" / "train")
    with pytest.raises(UserError, match="it holds train/faces-train"):
        convert(tmp_path / "dict", tmp_path / "b.lmdb")


@pytest.mark.parametrize(
    ("options", "column", "message"),
    [
        ({"compression": "zstd"}, LABELS, "is compressed; write it as Parquet"),
        ({}, pa.array(LABELS).dictionary_encode(), "has dictionaries; write it as Parquet"),
    ],
    ids=["compressed", "dictionaries"],
)
def test_tables_that_grow_in_memory_are_refused(tmp_path, columns, options, column, message):
    path = write_stream(tmp_path / "a.arrow", columns | {"label": column}, **options)
    with pytest.raises(UserError, match=message):
        convert(path, tmp_path / "a.lmdb")


def test_a_file_that_is_cut_off_is_bad_from_there(tmp_path, columns):
    path = write_stream(tmp_path / "a.arrow", columns)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="cannot be read past this point"):
        convert(path, tmp_path / "a.lmdb")
    store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
    assert 0 < len(store) < 10
    assert len(list(read_quarantine(store.path))) == 1


def test_offsets_outside_the_data_are_no_crash(tmp_path, noise_images):
    columns = {"image": noise_images[:2], "label": [8, 9], "path": ["a", "b"]}
    path = write_stream(tmp_path / "a.arrow", columns)
    offsets, wrong = struct.pack("<3i", 0, 1, 2), struct.pack("<3i", 0, 1, 1 << 30)
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, wrong))
    with pytest.raises(UserError, match=r"cannot be read past this point: .*offset"):
        convert(path, tmp_path / "a.lmdb")


def test_one_name_of_a_gigabyte_is_refused(tmp_path, noise_images):
    columns = {"image": noise_images[:1], "label": [1], "path": ["x" * (65 << 20)]}
    path = write_stream(tmp_path / "a.arrow", columns)
    with pytest.raises(UserError, match=r"1 rows of label, path have .* bytes; at most"):
        convert(path, tmp_path / "a.lmdb")
