"""Our record files compared with those of real MXNet 1.9.1, in both directions."""

import random

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.export import export_records
from curation.images import decode, encode_jpeg
from curation.records.index import write_index
from curation.records.layout_writer import write_layout
from curation.records.ms1m import find_source
from curation.records.recordio import MAGIC_BYTES, ImageRecord, RecordReader, RecordWriter
from curation.sources.records import read_images

pytestmark = pytest.mark.mxnet

SIZE = (24, 20)
LABELS = [4, 4, 4, 9, 11, 11]


def noise(count):
    return random.Random(count).randbytes(count)


CONTENTS = [
    *(b"", b"a", b"abc", b"abcd", MAGIC_BYTES, MAGIC_BYTES * 2, b"xxxx" + MAGIC_BYTES),
    *(b"x" + MAGIC_BYTES, b"xxxx" + MAGIC_BYTES + b"yyy", MAGIC_BYTES + b"zzzz" + MAGIC_BYTES),
    *(noise(999) + MAGIC_BYTES + noise(500), noise(1000) + MAGIC_BYTES + noise(501) + MAGIC_BYTES),
    noise(300_000),
]


@pytest.fixture(scope="module")
def images():
    """JPEG files; the last one contains the magic after the image, which decoders ignore."""
    rng = np.random.default_rng(0)
    files = [encode_jpeg(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)) for _ in LABELS]
    padding = bytes(-len(files[-1]) % 4)
    return [*files[:-1], files[-1] + padding + MAGIC_BYTES + b"after"]


@pytest.fixture
def records(images):
    """Image records of every form, in the format of speak_mxnet.py."""
    forms = [(0, [4.0]), (1, [4.0]), (2, [4.0, 0.0]), (5, [9.0, 0.5, -1.0, 2.0, 3.0])]
    forms += [(0, [16777216.0]), (3, [11.0, 1.0, 2.0])]
    return [
        {"key": key, "flag": flag, "labels": labels, "id": key, "id2": 7, "payload": payload.hex()}
        for key, ((flag, labels), payload) in enumerate(zip(forms, images, strict=True), 1)
    ]


def ours(record):
    labels = tuple(record["labels"]) if record["flag"] else None
    payload = bytes.fromhex(record["payload"])
    return ImageRecord(record["labels"][0], payload, record["id"], record["id2"], labels)


def described(images):
    return [(image["key"], image["labels"][0], bytes.fromhex(image["payload"])) for image in images]


class TestRecordsOfAnyBytes:
    def test_mxnet_reads_what_we_write(self, mxnet, tmp_path):
        with RecordWriter(tmp_path / "a.rec") as writer:
            for content in CONTENTS:
                writer.write(content)
        assert [bytes.fromhex(text) for text in mxnet("read_raw", records=tmp_path / "a.rec")] == (
            CONTENTS
        )

    def test_we_read_what_mxnet_writes_and_write_the_same_bytes(self, mxnet, tmp_path):
        path = tmp_path / "theirs.rec"
        mxnet("write_raw", records=path, contents=[content.hex() for content in CONTENTS])
        with RecordReader(path) as reader:
            assert [record for _, record in reader] == CONTENTS
        with RecordWriter(tmp_path / "ours.rec") as writer:
            for content in CONTENTS:
                writer.write(content)
        assert (tmp_path / "ours.rec").read_bytes() == path.read_bytes()


class TestImageRecords:
    def test_mxnet_reads_what_we_write(self, mxnet, tmp_path, records):
        with RecordWriter(tmp_path / "a.rec") as writer:
            offsets = [writer.write(ours(record).pack()) for record in records]
        keys = [record["key"] for record in records]
        write_index(tmp_path / "a.idx", list(zip(keys, offsets, strict=True)))
        assert mxnet("read", records=tmp_path / "a.rec", index=tmp_path / "a.idx") == records

    def test_we_read_what_mxnet_writes_by_any_key(self, mxnet, tmp_path, records):
        for record, key in zip(records, (30, 2, 17, 5, 1, 90), strict=True):
            record["key"] = key
        mxnet("write", records=tmp_path / "a.rec", index=tmp_path / "a.idx", contents=records)
        found = list(read_images(find_source(tmp_path / "a.rec")))
        assert [(image.key, image.label, image.payload) for image in found] == described(records)
        with RecordReader(tmp_path / "a.rec") as reader:
            assert [ImageRecord.unpack(record) for _, record in reader] == list(map(ours, records))


class TestExport:
    @pytest.fixture
    def source(self, tmp_path, images):
        write_layout(tmp_path / "source", zip(images, LABELS, strict=True), SIZE)
        return tmp_path / "source"

    @pytest.mark.parametrize("array_labels", [False, True])
    def test_mxnet_finds_labels_bytes_and_ranges(
        self, mxnet, tmp_path, source, images, array_labels
    ):
        store = convert(source, tmp_path / "train.lmdb")
        out = tmp_path / "out"
        export_records(store, out, array_labels=array_labels)
        found = mxnet("load", records=out / "train.rec", index=out / "train.idx")
        assert described(found["images"]) == list(
            zip(range(1, 7), [0, 0, 0, 1, 2, 2], images, strict=True)
        )
        assert {image["flag"] for image in found["images"]} == {2 if array_labels else 0}
        assert found["ranges"] == [[1, 4], [4, 5], [5, 7]]

    def test_a_store_exports_mxnets_files_byte_for_byte(self, mxnet, tmp_path, images):
        """Unsorted identities, so the pack has no header, like those of MXNet's im2rec."""
        (tmp_path / "theirs").mkdir()
        theirs = {name: tmp_path / "theirs" / f"train.{name}" for name in ("rec", "idx")}
        contents = [
            {"key": key, "flag": 0, "labels": [label], "id": key, "id2": 0, "payload": image.hex()}
            for key, (label, image) in enumerate(zip([9, 4, 11, 4, 9, 4], images, strict=True))
        ]
        mxnet("write", records=theirs["rec"], index=theirs["idx"], contents=contents)
        store = convert(tmp_path / "theirs", tmp_path / "train.lmdb")
        export_records(store, tmp_path / "out", original=True)
        for name, path in theirs.items():
            assert (tmp_path / "out" / f"train.{name}").read_bytes() == path.read_bytes()

    def test_the_image_iterator_gives_labels_and_pixels(self, mxnet, tmp_path, images):
        write_layout(tmp_path, zip(images, [1, 0, 1, 0, 2, 1], strict=True), SIZE, ranges=False)
        found = mxnet(
            "iterate",
            records=tmp_path / "train.rec",
            index=tmp_path / "train.idx",
            shape=SIZE,
            batch_size=4,
        )
        assert [label for label, _ in found] == [1, 0, 1, 0, 2, 1]
        for (_, pixels), image in zip(found, images, strict=True):
            theirs = np.frombuffer(bytes.fromhex(pixels), np.uint8).reshape(*SIZE, 3)
            difference = np.abs(theirs.astype(int) - decode(image))
            assert difference.max() <= 3  # another build of libjpeg may round differently
