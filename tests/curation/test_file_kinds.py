import bz2
import gzip
import io
import lzma
import os
import pickle
import socket
import sqlite3
import tarfile
import zipfile

import lmdb
import numpy as np
import pytest

from curation.errors import UserError
from curation.file_kinds import detect_kind, wrong_kind
from curation.files import open_regular
from curation.images import encode_jpeg
from curation.records.recordio import ImageRecord, RecordWriter


def tar_of(data, format=tarfile.USTAR_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        entry = tarfile.TarInfo("000001.jpg")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def old_tar():
    """A tar archive in the format of Unix V7, without the word ustar."""
    header = bytearray(tar_of(b"x")[:512])
    header[257:] = bytes(512 - 257)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def zip_of(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"content")
    return file.getvalue()


def saved(save, *what):
    file = io.BytesIO()
    save(file, *what)
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FILES = {
    "empty": b"",
    "zeros": bytes(5000),
    "html": b"\n <!DOCTYPE html>\n<html>",
    "html with a mark": b"\xef\xbb\xbf<HTML>",
    "html in UTF-16": "<html>".encode("utf-16"),
    "xml": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "git-lfs": LFS,
    "git-annex": b"/annex/objects/SHA256E-s3--ba78.rec\n",
    "gzip": gzip.compress(b"x"),
    "bzip2": bz2.compress(b"x"),
    "xz": lzma.compress(b"x"),
    "zip": zip_of("p0/0.jpg"),
    "torch": zip_of("archive/data.pkl"),
    "npz": saved(np.savez, np.arange(3)),
    "tar": tar_of(b"x" * 600),
    "tar of GNU": tar_of(b"x", tarfile.GNU_FORMAT),
    "tar of old": old_tar(),
    "parquet": b"PAR1\x15\x04\x15",
    "hdf5": b"\x89HDF\r\n\x1a\n\0\0",
    "numpy": saved(np.save, np.arange(3)),
    # The first record of TensorBoard's event files: its length, 24, and the checksum of that.
    "tfrecord": bytes.fromhex("1800000000000000a37f4b22") + bytes(28),
    "pickle": pickle.dumps(([b"x"], [True]), 2),
    "pickle 0": pickle.dumps([b"x"], 0),
    "image JPEG": encode_jpeg(np.zeros((8, 8, 3), np.uint8)),
    "image WebP": b"RIFF\x24\0\0\0WEBPVP8 ",
    "image BMP": b"BM\x36\x10\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    "safetensors": (64).to_bytes(8, "little") + b'{"__metadata__":{}}',
    "onnx": b"\x08\x08\x12\x07pytorch\x1a\x03",
    "mxnet-params": b"\x12\x01" + bytes(14) + b"\x01",
    "json": b'{"images": [1, 2]}',
    "csv": b"path,label\na.jpg,0\n",
    "text": "Zo\u00eb/0.jpg 0\n".encode(),
    "text in UTF-16": "a/0.jpg 0\n".encode("utf-16"),
    "appledouble": b"\0\x05\x16\x07\0\x02\0\0Mac OS X",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_recognised_by_its_first_bytes(tmp_path, name):
    path = tmp_path / "train.rec"
    path.write_bytes(FILES[name])
    expected = name.split(" in ")[0].split(" with ")[0].split(" of ")[0].removesuffix(" 0")
    found = detect_kind(path)
    assert found is not None
    assert found.name == expected


def test_record_files_and_databases_are_recognised(tmp_path):
    with RecordWriter(tmp_path / "a.bin") as writer:
        writer.write(ImageRecord(1.0, b"x").pack())
    with lmdb.open(str(tmp_path / "kv")) as environment, environment.begin(write=True) as writing:
        writing.put(b"0", b"x")
    with sqlite3.connect(tmp_path / "faces.db") as database:
        database.execute("create table faces (label)")
    names = ["a.bin", "kv/data.mdb", "kv", "faces.db"]
    found = [detect_kind(tmp_path / name) for name in names]
    assert [kind and kind.name for kind in found] == ["recordio", "lmdb", "lmdb", "sqlite"]


@pytest.mark.parametrize("data", [b"\x01\x02\x03", b"BM is how this begins \x00", b"8\x00" * 300])
def test_unknown_files_are_not_guessed(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    assert detect_kind(tmp_path / "x") is None
    assert wrong_kind(tmp_path / "x", "RecordIO") is None


def test_a_message_names_the_kind_the_wanted_one_and_the_fix(tmp_path):
    (tmp_path / "train.rec").write_bytes(LFS)
    message = str(wrong_kind(tmp_path / "train.rec", "RecordIO"))
    assert message == (
        f"{tmp_path / 'train.rec'} is a Git LFS pointer (the file itself was not fetched), "
        "not RecordIO; run `git lfs pull` where it was cloned"
    )


def test_a_broken_link_names_its_target(tmp_path):
    (tmp_path / "annexed.rec").symlink_to("../.git/annex/objects/ab/cd/SHA256E-s3--x.rec")
    (tmp_path / "lost.rec").symlink_to("elsewhere.rec")
    assert detect_kind(tmp_path / "annexed.rec").name == "git-annex"
    assert "elsewhere.rec, which does not exist" in detect_kind(tmp_path / "lost.rec").what
    assert detect_kind(tmp_path / "never.rec") is None


@pytest.mark.parametrize("kind", ["named pipe", "socket", "device", "directory"])
def test_special_files_are_refused_without_blocking(tmp_path, kind):
    path = tmp_path / "x"
    with socket.socket(socket.AF_UNIX) as server:
        match kind:
            case "named pipe":
                os.mkfifo(path)
            case "socket":
                server.bind(str(path))
            case "device":
                path.symlink_to("/dev/zero")
            case "directory":
                path.mkdir()
        with pytest.raises(UserError, match=f": it is a {kind}, not a file"):
            open_regular(path)
        assert detect_kind(path) is None
