"""How the kind of a source is recognised, and what unsuitable files are called."""

import os
from pathlib import Path

import lmdb
import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.inspection import inspect_path
from curation.sources.folders import read_folder
from curation.sources.opening import open_source
from curation.store import Store


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
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
        (
            "a.parquet",
            b"PK\x03\x04" + bytes(30),
            "is a zip archive, not a Parq.* in .zip",
        ),
        ("a.tar", b"PAR1\x15", "is a Parquet table, not a tar archive; .* ends in .parquet"),
        ("a.zip", b"PAR1\x15", "is a Parquet table, not a zip archive; .* ends in .parquet"),
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
