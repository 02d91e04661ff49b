"""The guarantees of a conversion: images unchanged, deterministic output, safe interruption."""

import fcntl
import hashlib
import os
import random
import resource
import shutil
import signal
import struct
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from store_content import content_of

from curation.conversion.convert import convert
from curation.conversion.journal import ROWS_FILE, load_state
from curation.conversion.store_file import StoreFile, stored_bytes
from curation.environment import DATA_FILE
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.inspection import inspect_path
from curation.records.layout_writer import write_layout
from curation.records.ms1m import find_source
from curation.records.recordio import ImageRecord, RecordWriter
from curation.sources.image_files import ImageFiles
from curation.sources.records import read_images
from curation.store import Store

COUNTS = {2: 40, 3: 1, 5: 90, 7: 20, 11: 49}


@pytest.fixture
def source(write_source):
    return write_source(COUNTS)


@pytest.fixture
def disorder(tmp_path, noise_images):
    """A source with descending labels, which is converted in two passes."""
    labels = [2] * 40 + [9, 2, 9, 4, 2, 7, 4] * 20
    (tmp_path / "disorder").mkdir()
    with RecordWriter(tmp_path / "disorder" / "train.rec") as writer:
        for number, label in enumerate(labels):
            image = noise_images[number % len(noise_images)]
            writer.write(ImageRecord(float(label), image).pack())
    return tmp_path / "disorder"


def assert_equals_source(store, source):
    images = list(read_images(find_source(source)))
    by_label = sorted(images, key=lambda image: image.label)
    assert len(store) == len(images)
    assert store.source_labels[store.labels].tolist() == [image.label for image in by_label]
    assert store.source_keys.tolist() == [image.key for image in by_label]
    assert [store.read(i) for i in range(len(store))] == [image.payload for image in by_label]


class TestContent:
    @pytest.mark.parametrize("pack", ["scalar", "array", "bare"])
    def test_packs_that_mxnet_wrote_are_stored_byte_for_byte(self, mxnet_written, tmp_path, pack):
        store = convert(mxnet_written / pack, tmp_path / "train.lmdb")
        assert_equals_source(store, mxnet_written / pack)
        assert (store.identities, store.image_size) == (3, (112, 112))

    def test_the_path_of_a_store_need_not_be_utf8(self, source, tmp_path):
        folder = tmp_path / os.fsdecode(b"\xff\n")
        store = convert(source, folder / "train.lmdb")
        assert_equals_source(Store(store.path), source)

    def test_images_of_an_identity_become_contiguous(self, tmp_path, noise_images):
        labels = [9, 2, 9, 4, 2, 2, 9]
        with RecordWriter(tmp_path / "train.rec") as writer:
            for label, image in zip(labels, noise_images, strict=False):
                writer.write(ImageRecord(float(label), image).pack())
        store = convert(tmp_path / "train.rec", tmp_path / "train.lmdb")
        assert_equals_source(store, tmp_path)
        assert store.source_labels.tolist() == [2, 4, 9]
        assert store.source_keys.tolist() == [1, 4, 5, 3, 0, 2, 6]

    def test_several_batches_give_the_same_content(self, many_batches, source, tmp_path):
        assert_equals_source(convert(source, tmp_path / "train.lmdb"), source)

    def test_images_containing_the_record_magic_survive(self, tmp_path):
        image = encode_jpeg(np.zeros((8, 8, 3), np.uint8)) + struct.pack("<I", 0xCED7230A) * 3
        write_layout(tmp_path, [(image + bytes(pad), 0) for pad in range(4)], (8, 8))
        assert_equals_source(convert(tmp_path, tmp_path / "train.lmdb"), tmp_path)

    @pytest.mark.parametrize("extension", [".png", ".jpg"])
    def test_the_encoding_is_recorded(self, tmp_path, extension):
        image = cv2.imencode(extension, np.zeros((8, 9, 3), np.uint8))[1].tobytes()
        write_layout(tmp_path, [(image, 0)], (8, 9))
        meta = convert(tmp_path, tmp_path / "train.lmdb").meta
        assert (meta.encoding, meta.image_size) == (
            {".png": "png", ".jpg": "jpeg"}[extension],
            (8, 9),
        )

    def test_the_source_is_recorded(self, source, tmp_path):
        meta = convert(source, tmp_path / "train.lmdb").meta
        assert meta.source_digest == hashlib.sha256((source / "train.rec").read_bytes()).hexdigest()

    @pytest.mark.parametrize("passes", [1, 2])
    def test_progress_counts_images_over_every_pass(self, source, disorder, tmp_path, passes):
        calls = []
        given = source if passes == 1 else disorder
        store = convert(given, tmp_path / "train.lmdb", lambda *call: calls.append(call))
        done = [call[0] for call in calls]
        assert done == sorted(done)
        assert calls[-1] == (len(store), len(store))

    @pytest.mark.parametrize("size", [300, 1900, 2010, 2030, 4080, 9000])
    def test_disk_use_is_predicted(self, tmp_path, size):
        with lmdb.open(str(tmp_path / "a"), map_size=1 << 28) as environment:
            for first in range(0, 3000, 300):
                with environment.begin(write=True) as batch:
                    images = [(struct.pack(">Q", first + i), bytes(size)) for i in range(300)]
                    batch.cursor().putmulti(images, append=True)
        used = (tmp_path / "a" / "data.mdb").stat().st_size
        assert stored_bytes(np.full(3000, size)).sum() == pytest.approx(used, rel=0.02, abs=64_000)


class TestSameSourceSameStore:
    def test_two_conversions_give_the_same_content(self, many_batches, source, tmp_path):
        convert(source, tmp_path / "a.lmdb")
        shutil.copytree(source, tmp_path / "copy")
        convert(tmp_path / "copy", tmp_path / "b.lmdb")
        assert content_of(tmp_path / "a.lmdb") == content_of(tmp_path / "b.lmdb")

    def test_the_digest_distinguishes_sources(self, write_source, tmp_path):
        one = convert(write_source({0: 3, 1: 2}, "one"), tmp_path / "one.lmdb")
        two = convert(write_source({0: 2, 1: 3}, "two"), tmp_path / "two.lmdb")
        assert one.digest != two.digest

    def test_files_are_looked_at_once_before_they_are_read(
        self, tmp_path, noise_images, monkeypatch
    ):
        folder = tmp_path / "faces" / "person"
        folder.mkdir(parents=True)
        for number, image in enumerate(noise_images[:4]):
            (folder / f"{number}.jpg").write_bytes(image)
        stamped, stamp = [], ImageFiles.stamp
        monkeypatch.setattr(ImageFiles, "stamp", lambda own: stamped.append(1) or stamp(own))
        convert(folder.parent, tmp_path / "faces.lmdb")
        assert len(stamped) == 1

    def test_a_second_conversion_does_nothing(self, source, tmp_path):
        first = convert(source, tmp_path / "train.lmdb")
        before = (first.path / "data.mdb").stat()
        assert convert(source, tmp_path / "train.lmdb").digest == first.digest
        assert (first.path / "data.mdb").stat() == before

    def test_the_source_is_recognised_without_its_stamp(self, source, tmp_path):
        convert(source, tmp_path / "train.lmdb")
        (tmp_path / "train.lmdb" / "source.json").unlink()
        assert len(convert(source, tmp_path / "train.lmdb")) == 200

    def test_a_touched_source_is_recognised_by_its_digest(self, source, tmp_path):
        convert(source, tmp_path / "train.lmdb")
        os.utime(source / "train.rec")
        assert len(convert(source, tmp_path / "train.lmdb")) == 200

    @pytest.mark.parametrize("counts", [{0: 3}, COUNTS | {2: 39, 3: 2}])
    def test_another_source_is_refused(self, source, write_source, tmp_path, counts):
        convert(source, tmp_path / "train.lmdb")
        other = write_source(counts, "other")
        with pytest.raises(UserError, match="was made from another source"):
            convert(other, tmp_path / "train.lmdb")

    @pytest.mark.parametrize("name", ["file/train.lmdb", "other.lmdb"])
    def test_a_destination_that_cannot_be_created_is_refused(self, source, tmp_path, name):
        (tmp_path / "file").touch()
        (tmp_path / "other.lmdb.partial").touch()
        with pytest.raises(UserError, match=r"cannot convert to .*(Not a directory|File exists)"):
            convert(source, tmp_path / name)

    def test_a_destination_that_is_something_else_is_left_alone(self, source, tmp_path):
        (tmp_path / "train.lmdb").mkdir()
        (tmp_path / "train.lmdb" / "thesis.tex").write_text("precious")
        with pytest.raises(UserError, match="is not a store"):
            convert(source, tmp_path / "train.lmdb")
        assert (tmp_path / "train.lmdb" / "thesis.tex").read_text() == "precious"


def convert_in_a_child(source, destination, prepare=lambda: None):
    """Start a conversion in a forked process, after running ``prepare`` there; its process id."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            prepare()
            convert(source, destination)
            status = 0
        except UserError as error:
            status = 1
            (destination.parent / "message").write_text(str(error))
        finally:
            os._exit(status)
    return child


def outcome(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


DISK_CALLS = (
    *((os, name) for name in ("fsync", "fdatasync", "ftruncate")),
    *((Path, name) for name in ("rename", "replace", "unlink", "mkdir", "open")),
    *((StoreFile, name) for name in ("append", "commit", "put", "finish", "close")),
)


def dies_at_call(number, calls=DISK_CALLS):
    """Let the process kill itself at the ``number``-th of these calls."""
    left = number

    def counted(function):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    def prepare():
        for owner, name in calls:
            setattr(owner, name, counted(getattr(owner, name)))

    return prepare


def dies_at_byte(limit):
    """Let the system kill the process when it writes beyond this byte of any file."""

    def prepare():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return prepare


@pytest.mark.usefixtures("many_batches")
class TestStoppedAtAnyMoment:
    @pytest.fixture(params=[pytest.param("ascending", marks=pytest.mark.slow), "disorder"])
    def source(self, request, source, disorder):
        return source if request.param == "ascending" else disorder

    @pytest.fixture
    def wanted(self, source, tmp_path):
        convert(source, tmp_path / "wanted.lmdb")
        return content_of(tmp_path / "wanted.lmdb")

    @pytest.mark.parametrize(
        ("dies_at", "step", "least"), [(dies_at_call, 1, 20), (dies_at_byte, 999, 100_000)]
    )
    def test_killed_at_any_point_it_gives_the_same_store(
        self, source, tmp_path, wanted, dies_at, step, least
    ):
        place = 0
        while True:
            place += step + place // 8
            destination = tmp_path / f"{place}.lmdb"
            if outcome(convert_in_a_child(source, destination, dies_at(place))) == 0:
                break
            assert outcome(convert_in_a_child(source, destination)) == 0
            assert content_of(destination) == wanted
            assert {entry.name for entry in destination.iterdir()} == {"data.mdb", "source.json"}
            assert not destination.with_name(f"{place}.lmdb.partial").exists()
        assert place > least

    @pytest.mark.parametrize("seed", range(3))
    def test_killed_repeatedly_it_gives_the_same_store(self, source, tmp_path, wanted, seed):
        chance = random.Random(seed)
        kills, status = 0, -signal.SIGKILL
        while status == -signal.SIGKILL:
            child = convert_in_a_child(source, tmp_path / "train.lmdb")
            time.sleep(chance.uniform(0, 0.02 + 0.005 * kills))
            os.kill(child, signal.SIGKILL)
            status = outcome(child)
            kills += 1
        assert status == 0
        assert content_of(tmp_path / "train.lmdb") == wanted

    def stop(self, source, destination):
        """A conversion that was killed after some commits; its unfinished folder."""
        dies = dies_at_call(8, [(StoreFile, "append")])
        assert outcome(convert_in_a_child(source, destination, dies)) != 0
        partial = destination.with_name(f"{destination.name}.partial")
        assert load_state(partial).read > 30
        return partial

    def test_finished_work_is_not_repeated(self, source, tmp_path, wanted):
        partial = self.stop(source, tmp_path / "train.lmdb")
        before = (partial / ROWS_FILE).read_bytes()[: load_state(partial).read * 40]
        inode = (partial / ROWS_FILE).stat().st_ino
        calls = []
        convert(
            source,
            tmp_path / "train.lmdb",
            lambda *call: calls.append(
                (partial / ROWS_FILE).stat().st_ino if (partial / ROWS_FILE).exists() else inode
            ),
        )
        assert set(calls) == {inode}
        assert before

    @pytest.mark.parametrize("name", [DATA_FILE, ROWS_FILE])
    def test_a_damaged_unfinished_store_is_started_over(self, source, tmp_path, wanted, name):
        partial = self.stop(source, tmp_path / "train.lmdb")
        if (partial / name).exists():
            os.truncate(partial / name, 90)
        convert(source, tmp_path / "train.lmdb")
        assert content_of(tmp_path / "train.lmdb") == wanted

    def test_a_source_that_changed_meanwhile_is_refused(self, source, tmp_path):
        self.stop(source, tmp_path / "train.lmdb")
        with (source / "train.rec").open("r+b") as file:
            file.seek(1000)
            file.write(b"changed")
        with pytest.raises(UserError, match=r"train\.rec.*changed"):
            convert(source, tmp_path / "train.lmdb")
        assert not (tmp_path / "train.lmdb").exists()

    def test_a_source_of_another_size_is_refused(self, source, tmp_path):
        self.stop(source, tmp_path / "train.lmdb")
        with (source / "train.rec").open("ab") as file:
            file.write(bytes(8))
        with pytest.raises(UserError, match=r"train\.rec has changed since the conversion"):
            convert(source, tmp_path / "train.lmdb")

    def test_a_source_that_changes_between_the_passes_is_noticed(self, disorder, tmp_path):
        records = disorder / "train.rec"
        content = bytearray(records.read_bytes())
        content[20_000] ^= 1

        def change_after_the_scan(done, total):
            if done == total // 2:
                records.write_bytes(content)

        with pytest.raises(UserError, match="was changed at byte"):
            convert(disorder, tmp_path / "train.lmdb", change_after_the_scan)
        assert not (tmp_path / "train.lmdb").exists()

    def test_a_second_conversion_at_the_same_time_is_refused(self, source, tmp_path):
        (tmp_path / "train.lmdb.partial").mkdir()
        descriptor = os.open(tmp_path / "train.lmdb.partial", os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is writing"):
            convert(source, tmp_path / "train.lmdb")
        os.close(descriptor)
        assert len(convert(source, tmp_path / "train.lmdb")) > 0


@pytest.mark.usefixtures("many_batches")
class TestFullDisk:
    @pytest.mark.parametrize("limit", [100, 5_000, 30_000, 200_000])
    def test_it_is_one_line_and_can_be_resumed_later(self, source, tmp_path, limit):
        convert(source, tmp_path / "wanted.lmdb")
        destination = tmp_path / "train.lmdb"

        def limit_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        assert outcome(convert_in_a_child(source, destination, limit_files)) in (1, 3)
        assert not destination.exists()
        convert(source, destination)
        assert content_of(destination) == content_of(tmp_path / "wanted.lmdb")

    def test_the_message_says_what_to_do(self, source, tmp_path):
        def limit_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

        assert outcome(convert_in_a_child(source, tmp_path / "train.lmdb", limit_files)) == 1
        message = (tmp_path / "message").read_text()
        assert "the disk is full or failing, with " in message
        assert "MB free; free some space" in message
        assert "\n" not in message

    def test_insufficient_space_is_detected_before_copying(self, source, tmp_path, monkeypatch):
        usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(UserError, match=r"needs \d\.\d MB more, its disk has 0\.1 MB free"):
            convert(source, tmp_path / "train.lmdb")
        assert not (tmp_path / "train.lmdb.partial").exists()


class TestBadSources:
    def write(self, folder, payloads):
        with RecordWriter(folder / "train.rec") as writer:
            for payload in payloads:
                writer.write(ImageRecord(0.0, payload).pack())

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"", "neither JPEG nor PNG: it is empty"),
            (b"text, not an image", "neither JPEG nor PNG: it begins with 74 65 78 74"),
            (b"\xff\xd8\xff\xe0", "damaged: its header states no size"),
        ],
    )
    def test_a_payload_that_is_not_an_image_is_named(self, tmp_path, noise_images, payload, reason):
        self.write(tmp_path, [noise_images[0], payload])
        with pytest.raises(
            UserError, match=rf"train\.rec: record 1 at byte \d+: the image is {reason}"
        ):
            convert(tmp_path, tmp_path / "train.lmdb")
        assert list(tmp_path.glob("train.lmdb*")) == []

    def test_images_must_have_one_size(self, tmp_path, noise_images):
        other = encode_jpeg(np.zeros((30, 30, 3), np.uint8))
        self.write(tmp_path, [noise_images[0], other])
        with pytest.raises(UserError, match=r"record 1 at byte .* 30x30 .* first image says 24x20"):
            convert(tmp_path, tmp_path / "train.lmdb")

    def test_a_mismatched_property_file_is_a_warning(self, source, tmp_path):
        (source / "property").write_text("7,112,112\n")
        lines: list[str] = []
        store = convert(source, tmp_path / "train.lmdb", warn=lines.append)
        assert store.image_size == (24, 20)
        assert [line.split("property: ")[1] for line in lines] == [
            f"it states 7 identities, but there are {store.identities}",
            "it states 112x112 pixels, but the images have 24x20",
        ]
        again: list[str] = []
        convert(source, tmp_path / "train.lmdb", warn=again.append)
        assert again == lines

    def test_one_image_of_another_size_keeps_the_property_size(self, tmp_path, noise_images):
        odd = encode_jpeg(np.zeros((9, 9, 3), np.uint8))
        write_layout(tmp_path, [(odd, 0), *((image, 1) for image in noise_images)], (24, 20))
        with pytest.raises(UserError, match=r"record 1 .* 9x9 .*property file says 24x20"):
            convert(tmp_path, tmp_path / "train.lmdb")

    def test_a_repaired_source_can_be_converted_after_a_refusal(self, tmp_path, noise_images):
        self.write(tmp_path, [b"no image"])
        with pytest.raises(UserError):
            convert(tmp_path, tmp_path / "train.lmdb")
        self.write(tmp_path, noise_images)
        assert len(convert(tmp_path, tmp_path / "train.lmdb")) == len(noise_images)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_a_truncated_file_leaves_no_store(self, source, tmp_path, share):
        records = source / "train.rec"
        os.truncate(records, int(records.stat().st_size * share))
        with pytest.raises(UserError, match="truncated"):
            convert(source, tmp_path / "train.lmdb")
        assert list(tmp_path.glob("train.lmdb*")) == []


@pytest.mark.parametrize(
    "name",
    ["rows.bin", "data.mdb", "quarantine.tsv", ".source.json.7.partial"],
)
def test_links_among_the_files_of_a_conversion_are_replaced(write_source, tmp_path, name):
    (tmp_path / "x.lmdb.partial").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "x.lmdb.partial" / name).symlink_to(tmp_path / "precious")
    assert len(convert(write_source({0: 2, 1: 3}), tmp_path / "x.lmdb")) == 5
    assert (tmp_path / "precious").read_text() == "mine"
    assert {path.name for path in (tmp_path / "x.lmdb").iterdir()} == {"data.mdb", "source.json"}


@pytest.mark.parametrize("look", [convert, lambda source, destination: inspect_path(destination)])
def test_a_conversion_begun_by_an_older_version_is_refused(write_source, tmp_path, look):
    partial = tmp_path / "x.lmdb.partial"
    partial.mkdir()
    for name in ("pages.bin", "state.json", "rows.bin", "leaves.bin", "quarantine.tsv"):
        (partial / name).write_bytes(bytes(100))
    said = "started by an earlier version .*; remove it and convert again"
    with pytest.raises(UserError, match=rf"x\.lmdb\.partial was {said}"):
        look(write_source({0: 2}), tmp_path / "x.lmdb")
    assert len([*partial.iterdir()]) == 5
    shutil.rmtree(partial)
    assert len(convert(tmp_path / "source", tmp_path / "x.lmdb")) == 2
