"""Damage in real packs: with --skip-bad the rest is converted and every loss is listed."""

import struct
import time
from itertools import pairwise

import cv2
import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.records.index import read_index, write_index
from curation.records.layout_writer import write_layout
from curation.records.recordio import (
    MAGIC,
    MAX_PART,
    ImageRecord,
    RecordReader,
    RecordWriter,
)
from curation.records.stream import RecordStream
from curation.sources.quarantine import read_quarantine
from curation.verify import verify


@pytest.fixture
def images(noise_images):
    return noise_images[:10]


def write(folder, records, index=True):
    folder.mkdir(exist_ok=True)
    with RecordWriter(folder / "train.rec") as writer:
        offsets = [
            writer.write(record if isinstance(record, bytes) else record.pack())
            for record in records
        ]
    if index:
        write_index(folder / "train.idx", [(100 + i, offset) for i, offset in enumerate(offsets)])
    return offsets


def skip(source, tmp_path):
    store = convert(source, tmp_path / "train.lmdb", skip_bad=True)
    assert verify(store.path)["sound"]
    listed = list(read_quarantine(store.path))
    assert store.meta.skipped == len(listed)
    return store, listed


BAD = {
    "an empty payload": (lambda image: ImageRecord(1.0, b""), "it is empty"),
    "text": (lambda image: ImageRecord(1.0, b"no image"), "neither JPEG nor PNG"),
    "a cut header": (lambda image: ImageRecord(1.0, image[:30]), "states no size"),
    "another size": (
        lambda image: ImageRecord(1.0, encode_jpeg(np.zeros((9, 9, 3), np.uint8))),
        "9x9 pixels",
    ),
    "NaN": (lambda image: ImageRecord(float("nan"), image), "label nan is not an identity"),
    "negative": (lambda image: ImageRecord(-3.0, image), "label -3 is not an identity"),
    "a fraction": (lambda image: ImageRecord(0.5, image), "label 0.5 is not an identity"),
    "a label vector of NaN": (
        lambda image: ImageRecord(0.0, image, labels=(float("nan"), 1.0)),
        "label nan is not an identity",
    ),
    "beyond float32": (lambda image: ImageRecord(2.0**25, image), "not an identity"),
    "no header": (lambda image: b"short", "too few for an image header"),
    "too many labels": (lambda image: struct.pack("<IfQQ", 99, 0, 0, 0), "announces 99 labels"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_bad_record_stops_or_is_listed(tmp_path, images, kind, place):
    make, reason = BAD[kind]
    records = [ImageRecord(float(i // 3), image) for i, image in enumerate(images)]
    records[place] = make(images[place])
    source = tmp_path / "source"
    offsets = write(source, records)
    (source / "property").write_text("4,24,20\n")
    wanted = rf"record {100 + place} at byte {offsets[place]}: .*{reason}.*--skip-bad"
    with pytest.raises(UserError, match=wanted):
        convert(source, tmp_path / "train.lmdb")
    store, listed = skip(source, tmp_path)
    assert [(bad.key, bad.offset) for bad in listed] == [(100 + place, offsets[place])]
    assert reason in listed[0].reason
    assert store.source_keys.tolist() == [100 + i for i in range(10) if i != place]


class TestDamagedFrames:
    @pytest.fixture
    def offsets(self, tmp_path, images):
        records = [ImageRecord(float(i // 3), image) for i, image in enumerate(images)]
        return write(tmp_path / "source", records)

    def damage(self, tmp_path, offset, data):
        with (tmp_path / "source" / "train.rec").open("r+b") as file:
            file.seek(offset)
            file.write(data)

    @pytest.mark.parametrize("indexed", [True, False])
    def test_after_a_wrong_magic_reading_resumes_at_the_next(self, tmp_path, offsets, indexed):
        self.damage(tmp_path, offsets[4], b"\0\0\0\0")
        if not indexed:
            (tmp_path / "source" / "train.idx").unlink()
        store, listed = skip(tmp_path / "source", tmp_path)
        # The length of the record before it cannot be verified.
        assert [bad.offset for bad in listed] == [offsets[3], offsets[4]]
        assert [bad.key for bad in listed] == ([103, 104] if indexed else [None, None])
        assert len(store) == 8

    def test_a_length_too_long_loses_one_record(self, tmp_path, offsets):
        self.damage(tmp_path, offsets[4] + 4, struct.pack("<I", offsets[6] - offsets[4] + 20))
        store, listed = skip(tmp_path / "source", tmp_path)
        assert [bad.key for bad in listed] == [104]
        assert len(store) == 9

    def test_a_length_too_short_loses_one_record(self, tmp_path, offsets):
        self.damage(tmp_path, offsets[4] + 4, struct.pack("<I", 200))
        store, listed = skip(tmp_path / "source", tmp_path)
        assert {bad.key for bad in listed} == {104, None}
        assert len(store) == 9

    def test_a_length_beyond_the_file_loses_one_record(self, tmp_path, offsets):
        self.damage(tmp_path, offsets[4] + 4, struct.pack("<I", (1 << 29) - 1))
        store, listed = skip(tmp_path / "source", tmp_path)
        assert ([bad.key for bad in listed], len(store)) == ([104], 9)

    @pytest.mark.parametrize("cut", [1, 5, 30, 500])
    def test_a_truncated_tail_is_listed(self, tmp_path, offsets, cut):
        path = tmp_path / "source" / "train.rec"
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(UserError, match=r"truncated.*--skip-bad"):
            convert(tmp_path / "source", tmp_path / "train.lmdb")
        store, listed = skip(tmp_path / "source", tmp_path)
        assert ([bad.key for bad in listed], len(store)) == ([109], 9)

    def test_a_file_cut_between_records_lists_the_index_entries(self, tmp_path, offsets):
        path = tmp_path / "source" / "train.rec"
        path.write_bytes(path.read_bytes()[: offsets[7]])
        store, listed = skip(tmp_path / "source", tmp_path)
        assert ([bad.key for bad in listed], len(store)) == ([107, 108, 109], 7)

    def test_nothing_left_is_an_error(self, tmp_path, images):
        write(tmp_path / "source", [ImageRecord(0.0, b"no image")])
        with pytest.raises(UserError, match="holds no good images"):
            convert(tmp_path / "source", tmp_path / "train.lmdb", skip_bad=True)
        assert list(tmp_path.glob("train.lmdb*")) == []


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("where", ["between two records", "in the middle of one"])
def test_half_a_pack_reports_the_number_of_announced_images(tmp_path, write_source, indexed, where):
    source = write_source({0: 4, 1: 4, 2: 4})
    offset = read_index(source / "train.idx").offsets[7]
    with (source / "train.rec").open("r+b") as file:
        file.truncate(int(offset) + (0 if where == "between two records" else 60))
    if not indexed:
        (source / "train.idx").unlink()
    lines: list[str] = []
    store = convert(source, tmp_path / "train.lmdb", skip_bad=True, warn=lines.append)
    assert len(store) == 6
    assert lines == [
        f"{source / 'train.rec'}: its header states 12 images, but it has 6",
        f"{source / 'property'}: it states 3 identities, but there are 2",
    ]


class TestRealPacks:
    @pytest.mark.parametrize("indexed", [True, False])
    def test_identity_records_before_the_images(self, tmp_path, images, indexed):
        end, people = 11, 4
        records = [ImageRecord(0.0, b"", labels=(float(end), float(end + people)))]
        firsts = [1, 4, 7, 10, 11]
        records += [
            ImageRecord(0.0, b"", labels=(float(first), float(last)))
            for first, last in pairwise(firsts)
        ]
        records += [ImageRecord(0.0, x, labels=(i // 3, i % 2)) for i, x in enumerate(images)]
        offsets = write(tmp_path / "source", records, index=False)
        keys = [0, *range(end, end + people), *range(1, end)]
        if indexed:
            write_index(tmp_path / "source" / "train.idx", [*zip(keys, offsets, strict=True)])
        store = convert(tmp_path / "source", tmp_path / "train.lmdb")
        assert [store.read(i) for i in range(len(store))] == images
        assert store.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]

    @pytest.mark.parametrize("aligned", [0.0, 1.0])
    @pytest.mark.parametrize("label", [0.0, 1.0, 2.0])
    def test_an_empty_image_is_not_taken_for_an_identity_record(
        self, tmp_path, images, label, aligned
    ):
        records = [ImageRecord(0.0, b"", labels=(11.0, 11.0))]
        records += [ImageRecord(0.0, x, labels=(2.0, aligned)) for x in images]
        records[5] = ImageRecord(0.0, b"", labels=(label, aligned))
        write(tmp_path / "source", records)
        _, listed = skip(tmp_path / "source", tmp_path)
        assert [bad.key for bad in listed] == [105]

    def test_duplicate_keys(self, tmp_path, images):
        offsets = write(tmp_path / "a", [ImageRecord(0.0, image) for image in images])
        write_index(tmp_path / "a" / "train.idx", [(i % 8, o) for i, o in enumerate(offsets)])
        with pytest.raises(UserError, match=r"record 0 at byte \d+: the key 0 occurs twice"):
            convert(tmp_path / "a", tmp_path / "train.lmdb")
        store, listed = skip(tmp_path / "a", tmp_path)
        assert [(bad.key, bad.offset) for bad in listed] == [(0, offsets[8]), (1, offsets[9])]
        assert store.source_keys.tolist() == list(range(8))

    def test_png_and_jpeg_mixed(self, tmp_path, images):
        png = cv2.imencode(".png", np.zeros((24, 20, 3), np.uint8))[1].tobytes()
        write(tmp_path / "a", [ImageRecord(0.0, image) for image in (images[0], png)])
        store = convert(tmp_path / "a", tmp_path / "train.lmdb")
        assert (store.meta.encoding, store.read(1)) == ("mixed", png)

    def test_images_larger_than_a_block_and_in_several_parts(self, tmp_path, monkeypatch):
        monkeypatch.setattr("curation.sources.read_ahead.BLOCK_BYTES", 4096)
        image = encode_jpeg(np.zeros((24, 20, 3), np.uint8))
        payloads = [image + bytes(20_000), image + struct.pack("<I", 0xCED7230A) * 3000, image]
        write_layout(tmp_path / "a", [(payload, i) for i, payload in enumerate(payloads)], (24, 20))
        store = convert(tmp_path / "a", tmp_path / "train.lmdb")
        assert [store.read(i) for i in range(3)] == payloads

    def test_labels_beyond_the_ranges_of_float32(self, tmp_path, images):
        header = ImageRecord(0.0, b"", labels=(float(1 << 25), float(1 << 26)))
        labels = [(1 << 24) - 1, 1 << 24]
        records = [ImageRecord(float(label), images[0]) for label in labels]
        ranges = [ImageRecord(0.0, b"", labels=(9.0, 1.0))] * 2
        write(tmp_path / "a", [header, *records], index=False)
        assert convert(tmp_path / "a", tmp_path / "a.lmdb").source_labels.tolist() == labels
        write(tmp_path / "b", [ImageRecord(0.0, b"", labels=(3.0, 5.0)), *records, *ranges])
        assert convert(tmp_path / "b", tmp_path / "b.lmdb").source_labels.tolist() == labels


def test_resuming_without_skip_bad_is_refused(tmp_path, images, monkeypatch):
    monkeypatch.setattr("curation.sources.read_ahead.BLOCK_BYTES", 1024)
    monkeypatch.setattr("curation.conversion.build.COMMIT_BYTES", 4096)
    records = [ImageRecord(0.0, image) for image in images * 4]
    records[1] = ImageRecord(0.0, b"no image")
    write(tmp_path / "a", records)

    class StoppedError(Exception):
        pass

    def stop(done, total):
        if done > total // 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        convert(tmp_path / "a", tmp_path / "train.lmdb", stop, skip_bad=True)
    with pytest.raises(UserError, match=r"skipped 1 bad record,.*give --skip-bad again"):
        convert(tmp_path / "a", tmp_path / "train.lmdb")
    assert len(convert(tmp_path / "a", tmp_path / "train.lmdb", skip_bad=True)) == 39


def test_good_frames_are_found_among_any_garbage(tmp_path, images):
    offsets = write(tmp_path / "a", [ImageRecord(0.0, image) for image in images], index=False)
    path = tmp_path / "a" / "train.rec"
    data = bytearray(path.read_bytes())
    data[offsets[2] : offsets[6]] = bytes(offsets[6] - offsets[2])
    path.write_bytes(data)
    with RecordReader(path) as reader:
        assert reader.find_record(offsets[2]) == offsets[6]
    store, _ = skip(tmp_path / "a", tmp_path)
    assert len(store) == 5


def frame(cflag, length):
    return struct.pack("<II", MAGIC, cflag << 29 | length)


OVERLAPPING = {
    "records that end nowhere": lambda n: b"".join(
        frame(0, max(8 * (n - i) - 12, 4)) for i in range(n)
    ),
    "first parts that go to one last part": lambda n: (
        b"".join(frame(1, 8 * (n - i - 1)) for i in range(n)) + frame(3, 4)
    ),
    "parts with first parts inside": lambda n: (frame(2, 8) + frame(1, 0)) * (n // 2),
    "first parts only": lambda n: frame(1, 0) * n,
    "beginnings without an end": lambda n: (frame(1, 0) + frame(2, 0)) * (n // 2),
    "one record of parts": lambda n: frame(1, 0) + frame(2, 0) * n,
}


@pytest.mark.parametrize("kind", OVERLAPPING)
def test_wrong_lengths_cost_time_linear_in_the_file_size(tmp_path, kind):
    """Eight times as many take eight times as long; they used to take 64 times."""

    def seconds(count):
        path = tmp_path / f"{count}.rec"
        path.write_bytes(OVERLAPPING[kind](count))
        bad = []
        began = time.process_time()
        assert sum(len(found.offsets) for found in RecordStream(path, on_bad=bad.append)) == 0
        assert bad
        return time.process_time() - began

    def least_seconds(count):  # other load on the machine only adds
        return min(seconds(count) for _ in range(3))

    assert least_seconds(16_000) < 24 * least_seconds(2000) + 0.2


def test_data_are_read_only_for_plausible_records(tmp_path):
    """Lengths that claim gigabytes cost nothing: the file has holes and takes no space."""
    path = tmp_path / "a.rec"
    path.write_bytes(frame(0, MAX_PART))
    with path.open("r+b") as file:
        file.truncate(8 + (1 << 29))
    with RecordReader(path) as reader, pytest.raises(UserError, match="536,870,911 bytes; at most"):
        reader.read(0)
