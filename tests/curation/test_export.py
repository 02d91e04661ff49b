"""Exported images are identical to the converted ones."""

import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.export import export_folders, export_records
from curation.export_shards import export_webdataset
from curation.records.index import write_index
from curation.records.layout_writer import write_layout
from curation.records.ms1m import find_source
from curation.records.recordio import ImageRecord, RecordWriter
from curation.sources.records import read_images
from curation.store import Store
from curation.subsets import write_long_tail_cut
from curation.view_writing import write_view

LAYOUT = ("train.rec", "train.idx", "property")


def records(folder):
    """The label and the file of every image, in record order."""
    return [(image.label, image.payload) for image in read_images(find_source(folder))]


@pytest.fixture
def scattered(tmp_path, noise_images):
    """A source whose identities are not contiguous, like those written by MXNet's im2rec."""
    folder = tmp_path / "scattered"
    folder.mkdir()
    with RecordWriter(folder / "train.rec") as writer:
        offsets = [
            writer.write(ImageRecord(float(label), noise_images[i], id=i).pack())
            for i, label in enumerate([7, 2, 7, 5, 2, 7])
        ]
    write_index(folder / "train.idx", list(enumerate(offsets)))
    return folder


class TestRecords:
    def test_a_store_exports_the_source_byte_for_byte(self, write_source, tmp_path):
        source = write_source({0: 4, 1: 1, 2: 6})
        export_records(convert(source, tmp_path / "a.lmdb"), tmp_path / "out")
        for name in LAYOUT:
            assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()

    @pytest.mark.parametrize("array_labels", [False, True])
    def test_original_labels_with_gaps_are_preserved(self, write_source, tmp_path, array_labels):
        source = write_source({3: 2, 900: 3}, array_labels=array_labels)
        store = convert(source, tmp_path / "a.lmdb")
        export_records(store, tmp_path / "out", original=True, array_labels=array_labels)
        for name in LAYOUT:
            assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()

    def test_new_labels_ascend_from_0(self, store, tmp_path):
        view = write_long_tail_cut(tmp_path / "a.view", store, 3)
        export_records(view, tmp_path / "out")
        wanted = [(int(view.labels[i]), view.read(i)) for i in range(len(view))]
        assert records(tmp_path / "out") == wanted
        assert (tmp_path / "out" / "property").read_text() == "3,24,20\n"

    def test_scattered_identities_keep_the_original_order(self, scattered, tmp_path):
        export_records(convert(scattered, tmp_path / "a.lmdb"), tmp_path / "out", original=True)
        assert records(tmp_path / "out") == records(scattered)
        for name in ("train.rec", "train.idx"):
            assert (tmp_path / "out" / name).read_bytes() == (scattered / name).read_bytes()

    def test_a_scattered_source_is_sorted_with_new_labels(self, scattered, tmp_path):
        export_records(convert(scattered, tmp_path / "a.lmdb"), tmp_path / "out")
        assert [label for label, _ in records(tmp_path / "out")] == [0, 0, 1, 2, 2, 2]

    def test_label_vectors_need_a_header_record(self, scattered, tmp_path):
        store = convert(scattered, tmp_path / "a.lmdb")
        with pytest.raises(UserError, match="leave --array-labels out"):
            export_records(store, tmp_path / "out", original=True, array_labels=True)

    def test_a_split_identity_has_no_original_label(self, store, tmp_path):
        view = write_view(
            tmp_path / "a.view", store, np.array([0, 1, 4]), np.array([0, 1, 2]), "split", {}
        )
        with pytest.raises(UserError, match=r"had the label 2 in the source.*leave --original"):
            export_records(view, tmp_path / "out", original=True)

    def test_progress_counts_images(self, store, tmp_path):
        calls = []
        export_records(store, tmp_path / "out", progress=lambda *call: calls.append(call))
        assert calls == [(0, 16), (16, 16)]

    def test_existing_files_are_left_alone(self, store, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "train.rec").write_bytes(b"mine")
        with pytest.raises(UserError, match="out exists; remove it"):
            export_records(store, tmp_path / "out")
        assert (tmp_path / "out" / "train.rec").read_bytes() == b"mine"

    @pytest.mark.parametrize("name", ["train.lmdb", "a.view", "train.rec"])
    def test_an_unfinished_conversion_is_not_overwritten(self, store, tmp_path, name):
        unfinished = tmp_path / "elsewhere" / f"{name}.partial"
        unfinished.mkdir(parents=True)
        (unfinished / "data.mdb").write_bytes(b"hours of work")
        for export in (export_records, export_folders):
            with pytest.raises(UserError, match="without a suffix"):
                export(store, tmp_path / "elsewhere" / name)
        assert (unfinished / "data.mdb").exists()


class TestLayout:
    @pytest.mark.parametrize("ranges", [True, False])
    def test_a_label_that_float32_cannot_hold_is_refused(self, tmp_path, ranges):
        with pytest.raises(UserError, match="label 16777217 cannot be written"):
            write_layout(tmp_path, [(b"", (1 << 24) + 1)], (1, 1), ranges=ranges)
        assert list(tmp_path.iterdir()) == []

    def test_the_largest_label_is_exact(self, tmp_path, noise_images):
        write_layout(tmp_path, [(noise_images[0], 1 << 24)], (24, 20))
        assert records(tmp_path) == [(1 << 24, noise_images[0])]

    def test_without_ranges_the_records_are_the_images(self, tmp_path, noise_images):
        images = [(noise_images[i], label) for i, label in enumerate([1, 0, 1])]
        write_layout(tmp_path, images, (24, 20), ranges=False)
        assert records(tmp_path) == [(label, payload) for payload, label in images]
        assert (tmp_path / "train.idx").read_text().split()[::2] == ["0", "1", "2"]
        assert (tmp_path / "property").read_text() == "2,24,20\n"


class TestFolders:
    def test_each_identity_has_a_folder_of_its_images(self, store, tmp_path):
        view = write_long_tail_cut(tmp_path / "a.view", store, 4)
        export_folders(view, tmp_path / "out")
        files = sorted(path for path in (tmp_path / "out").rglob("*.jpg"))
        assert [path.relative_to(tmp_path / "out").as_posix() for path in files] == [
            f"{label:06d}/{index:08d}.jpg" for index, label in enumerate(view.labels)
        ]
        assert [path.read_bytes() for path in files] == [view.read(i) for i in range(len(view))]

    def test_original_names_are_label_and_record_key(self, store, tmp_path):
        export_folders(store, tmp_path / "out", original=True)
        assert (tmp_path / "out" / "000003" / "00000005.jpg").read_bytes() == store.read(4)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "000002", "000003", "000005", "000007", "000011",
        ]  # fmt: skip


STOPPED_HALF_WAY = """
import os, sys
from pathlib import Path
from curation.export import export_folders, export_records
from curation.store import Store

def stop(done, total):
    if done:
        os.kill(os.getpid(), int(sys.argv[3]))

export = {"recordio": export_records, "folders": export_folders}[sys.argv[2]]
export(Store(sys.argv[1]), Path("out"), progress=stop)
"""


class TestBeingStopped:
    @pytest.mark.parametrize("form", ["recordio", "folders"])
    @pytest.mark.parametrize(
        "how", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM, signal.SIGKILL]
    )
    def test_a_stopped_export_is_incomplete_and_starts_over(
        self, write_source, tmp_path, form, how
    ):
        store = convert(write_source({0: 500, 1: 500}), tmp_path / "train.lmdb")
        stopped = [sys.executable, "-c", STOPPED_HALF_WAY, str(store.path), form, str(int(how))]
        assert subprocess.run(stopped, cwd=tmp_path, capture_output=True).returncode != 0
        assert not (tmp_path / "out").exists()
        assert (tmp_path / "out.partial").exists() == (how != signal.SIGINT)
        again = [sys.executable, "-m", "distill.cli.curate", "export", str(store.path), "out"]
        subprocess.run([*again, "--as", form], cwd=tmp_path, check=True, capture_output=True)
        assert not (tmp_path / "out.partial").exists()
        files = sum(path.is_file() for path in (tmp_path / "out").rglob("*"))
        assert files == (3 if form == "recordio" else 1000)

    @pytest.mark.parametrize("form", ["recordio", "folders", "webdataset", "parquet"])
    def test_a_full_disk_is_one_line_and_leaves_no_files(self, write_source, tmp_path, form):
        store = convert(write_source({0: 50, 1: 50}), tmp_path / "train.lmdb")
        limited = "import resource, sys; from distill.cli.curate import main\n"
        limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); main()"
        command = [sys.executable, "-c", limited, "export", str(store.path), "out", "--as", form]
        failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert failed.returncode == 1
        last = failed.stderr.strip().splitlines()[-1]
        assert last.startswith("error: cannot write")
        assert "MB free; free some space" in last
        assert "Traceback" not in failed.stderr
        assert [path.name for path in tmp_path.glob("out*")] == []

    @pytest.mark.parametrize("form", [export_records, export_folders, export_webdataset])
    def test_too_small_a_disk_is_detected_before_copying(self, store, tmp_path, monkeypatch, form):
        size = sum(len(store.read(i)) for i in range(len(store)))
        usage = shutil.disk_usage(tmp_path)
        free = [size - 1]
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free[0]))
        with pytest.raises(UserError, match=r"out\.partial needs 0\.\d MB more, its disk has 0"):
            form(store, tmp_path / "out")
        assert [path.name for path in tmp_path.glob("out*")] == []
        free[0] = size
        form(store, tmp_path / "out")

    def test_two_exports_to_one_place_do_not_mix(self, store, tmp_path):
        def start_another(done, total):
            with pytest.raises(UserError, match="another process is writing"):
                export_records(Store(store.path), tmp_path / "out")

        export_records(store, tmp_path / "out", progress=start_another)
        assert len(records(tmp_path / "out")) == len(store)


def test_real_faces_survive_a_round_trip(real_data, tmp_path):
    store = convert(real_data / "faces", tmp_path / "faces.lmdb")
    export_records(store, tmp_path / "out", original=True)
    for name in LAYOUT:
        assert (tmp_path / "out" / name).read_bytes() == (real_data / "faces" / name).read_bytes()
