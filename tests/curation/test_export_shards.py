import gc
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from curation import export_shards
from curation.conversion.convert import convert
from curation.errors import UserError
from curation.export_shards import export_parquet, export_webdataset
from curation.subsets import write_long_tail_cut, write_union
from curation.view_writing import write_view


@pytest.fixture
def mixed(store, tmp_path):
    """The first six images of the store: four of one identity, one of another, one unlabelled."""
    order, labels = np.array([0, 1, 2, 3, 4, 9]), np.array([0, 0, 0, 0, 1, -1])
    return write_view(tmp_path / "mixed.view", store, order, labels, "some", {})


def read_back(shards):
    """The samples as read by webdataset, which is collected while its warnings are ignored."""
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    gc.collect()
    return samples


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves files open
class TestWebDataset:
    def test_webdataset_reads_it(self, store, tmp_path, monkeypatch):
        monkeypatch.setattr(export_shards, "SHARD_IMAGES", 6)
        export_webdataset(store, tmp_path / "out")
        shards = sorted(str(path) for path in (tmp_path / "out").iterdir())
        assert [shard[-10:] for shard in shards] == ["000000.tar", "000001.tar", "000002.tar"]
        samples = read_back(shards)
        assert [sample["jpg"] for sample in samples] == [store.read(i) for i in range(16)]
        assert [int(sample["cls"]) for sample in samples] == store.labels.tolist()
        assert [sample["__key__"] for sample in samples] == [f"{i:08d}" for i in range(16)]

    def test_is_reproducible(self, store, tmp_path):
        for name in ("a", "b"):
            export_webdataset(store, tmp_path / name)
        a, b = (tmp_path / name / "shard-000000.tar" for name in ("a", "b"))
        assert a.read_bytes() == b.read_bytes()

    def test_marks_unlabelled_images(self, mixed, tmp_path):
        export_webdataset(mixed, tmp_path / "out")
        samples = read_back([str(tmp_path / "out" / "shard-000000.tar")])
        assert "cls" not in samples[5]
        assert json.loads(samples[5]["json"]) == {"label": None}


class TestParquet:
    def test_pyarrow_reads_it(self, store, tmp_path, monkeypatch):
        monkeypatch.setattr(export_shards, "SHARD_IMAGES", 10)
        export_parquet(store, tmp_path / "out")
        names = [path.name for path in sorted((tmp_path / "out").iterdir())]
        assert names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
        rows = pq.read_table(tmp_path / "out").to_pylist()
        assert [row["image"]["bytes"] for row in rows] == [store.read(i) for i in range(16)]
        assert [row["image"]["path"] for row in rows] == [f"{i:08d}.jpg" for i in range(16)]
        assert [row["label"] for row in rows] == store.labels.tolist()

    def test_declares_the_image_column(self, store, tmp_path):
        export_parquet(store, tmp_path / "out")
        schema = pq.read_schema(tmp_path / "out" / "train-00000-of-00001.parquet")
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        assert features["image"] == {"_type": "Image"}

    def test_marks_unlabelled_images(self, mixed, tmp_path):
        export_parquet(mixed, tmp_path / "out")
        assert pq.read_table(tmp_path / "out")["label"].to_pylist() == [0, 0, 0, 0, 1, None]


FORMS = pytest.mark.parametrize("export", [export_webdataset, export_parquet])


@FORMS
class TestBoth:
    def test_are_converted_back_to_the_same_images(self, mixed, tmp_path, export):
        export(mixed, tmp_path / "out")
        again = convert(tmp_path / "out", tmp_path / "again.lmdb")
        assert again.labels.tolist() == mixed.labels.tolist()
        assert [again.read(i) for i in range(6)] == [mixed.read(i) for i in range(6)]

    def test_can_keep_the_labels_and_keys_of_the_source(self, mixed, tmp_path, export):
        export(mixed, tmp_path / "out", original=True)
        again = convert(tmp_path / "out", tmp_path / "again.lmdb")
        assert again.source_labels.tolist() == [2, 3]
        assert sorted(again.source_names) == [f"{key:08d}.jpg" for key in (1, 2, 3, 4, 5, 10)]

    def test_one_key_in_two_sources_cannot_be_kept(self, store, write_source, tmp_path, export):
        other = convert(write_source({20: 3}, "other"), tmp_path / "other.lmdb")
        both = write_union(tmp_path / "both.view", store, other)
        with pytest.raises(UserError, match="had one record key in the source"):
            export(both, tmp_path / "out", original=True)

    def test_leave_no_files_when_stopped(self, store, tmp_path, export):
        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(store, tmp_path / "out", progress=stop)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]

    def test_do_not_overwrite_files(self, store, tmp_path, export):
        (tmp_path / "out").mkdir()
        with pytest.raises(UserError, match="out exists"):
            export(store, tmp_path / "out")

    def test_count_images(self, store, tmp_path, export):
        calls = []
        view = write_long_tail_cut(tmp_path / "a.view", store, 4)
        export(view, tmp_path / "out", progress=lambda *call: calls.append(call))
        assert calls == [(0, 10), (10, 10)]
