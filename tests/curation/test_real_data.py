"""Tests on real faces and MXNet's full files, in the folder FACE_DISTILL_REAL_DATA."""

import hashlib
import json

import pytest

from curation.conversion.convert import convert
from curation.pairs import read_pairs
from curation.records.layout_writer import write_layout
from curation.records.ms1m import find_source
from curation.records.recordio import ImageRecord, RecordReader, RecordWriter
from curation.sources.records import read_images


@pytest.mark.parametrize("folder", ["mxnet-written", "mxnet-written/array_labels"])
def test_every_record_that_mxnet_wrote_is_read_exactly(real_data, folder):
    wanted = json.loads((real_data / folder / "manifest.json").read_text())["records"]
    with RecordReader(real_data / folder / "train.rec") as reader:
        found = [(offset, ImageRecord.unpack(record)) for offset, record in reader]
    for (offset, record), entry in zip(found, wanted, strict=True):
        label = record.label if record.labels is None else list(record.labels)
        assert (offset, record.flag, label) == (entry["offset"], entry["flag"], entry["label"])
        assert hashlib.sha256(record.payload).hexdigest() == entry["sha256"]


@pytest.mark.parametrize("array_labels", [False, True])
def test_the_full_layout_is_written_byte_for_byte(real_data, tmp_path, array_labels):
    folder = real_data / "mxnet-written" / ("array_labels" if array_labels else ".")
    images = [(image.payload, image.label) for image in read_images(find_source(folder))]
    write_layout(tmp_path, images, (112, 112), array_labels)
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_long_records_with_the_magic_are_split_and_joined(real_data, tmp_path):
    folder = real_data / "mxnet-written" / "magic"
    payloads = [bytes.fromhex(text) for text in json.loads((folder / "payloads.json").read_text())]
    with RecordReader(folder / "m.rec") as reader:
        assert [record for _, record in reader] == payloads
    with RecordWriter(tmp_path / "m.rec") as writer:
        for payload in payloads:
            writer.write(payload)
    assert (tmp_path / "m.rec").read_bytes() == (folder / "m.rec").read_bytes()


def test_python_2_and_python_3_sets_are_equal(real_data):
    old, new = (read_pairs(real_data / "mxnet-written" / f"pairs_{v}.bin") for v in ("py2", "py3"))
    assert (old.images, old.same.tolist()) == (new.images, new.same.tolist())


def test_the_real_training_set_is_stored_byte_for_byte(real_data, tmp_path):
    store = convert(real_data / "faces", tmp_path / "train.lmdb")
    assert (len(store), store.identities, store.image_size) == (19_004, 4_941, (112, 112))
    wanted = {image.key: image for image in read_images(find_source(real_data / "faces"))}
    for i, key in enumerate(store.source_keys.tolist()):
        assert store.source_labels[store.labels[i]] == wanted[key].label
        assert store.read(i) == wanted[key].payload


@pytest.mark.parametrize(("name", "pairs"), [("lfw", 1200), ("cfp_ff", 1400), ("cfp_fp", 1400)])
def test_the_real_verification_sets_are_read(real_data, name, pairs):
    found = read_pairs(real_data / "faces" / f"{name}.bin")
    assert (len(found), found.same.sum()) == (pairs, pairs // 2)
