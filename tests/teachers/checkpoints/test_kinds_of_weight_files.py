"""Files of weights: safetensors and their headers, and files that are something else."""

import json
import pickle
import re
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from weight_samples import equal, refused, small, weights, whole_file

from teachers.checkpoints import load_checkpoint


def test_a_whole_network_is_named_as_such(path):
    torch.save(small(), path)
    message = refused(path)
    assert "a whole network ('teachers." in message
    assert "torch.save(network.state_dict(), FILE)" in message


def test_torchscript_is_named_as_such(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}.")
        archive.writestr("net/code/__torch__.py", "raise SystemExit")
    message = refused(path)
    assert "TorchScript" in message
    assert 'torch.save(torch.jit.load(FILE, "cpu").state_dict()' in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(8), "export the network to ONNX"),
        (b"\x12\x01" + bytes(14), "MXNet parameters"),
        (b"\x1c\0\0\0TFL3" + bytes(8), "TensorFlow Lite"),
        (b"\x1f\x8b\x08" + bytes(8), "gunzip"),
        (pickle.dumps({"a": 1}), "torch.save its tensors by name"),
        (b"images/a.jpg 1\n", "of weights; give the file that holds the network"),
        (b"\xff\xd8\xff\xe0" + bytes(8), "an image (JPEG), not a file of weights; give the file"),
        (b"PAR1" + bytes(8), "weights; give the file that holds the network"),
    ],
)
def test_the_kinds_of_other_files_are_named(path, content, words):
    path.write_bytes(content)
    message = refused(path)
    assert words in message
    assert "not a file of weights" in message


@pytest.mark.parametrize(
    "content",
    [
        {f"k{i}": torch.zeros(()) for i in range(20_001)},
        {"k" * 301: torch.zeros(1)},
        {"a": torch.zeros(2).to_sparse(), "b": torch.zeros(1)},
    ],
    ids=["many", "long", "sparse"],
)
def test_impossible_weights_are_refused(path, content):
    torch.save(content, path)
    assert re.search("not weights of a network|not a state dict", refused(path))


@pytest.mark.parametrize("length", [1 << 23, 100_000_000, 1 << 62])
def test_a_safetensors_header_longer_than_any_is_refused(tmp_path, length):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b'{"a":' * 1000)
    assert f"its header claims {length:,} bytes" in refused(path)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 60]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [float("nan"), 8]}},
        {"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}},
        {"a": {"shape": [2], "data_offsets": [0, 8]}},
        {"__metadata__": {"a": "b"}},
        {"__metadata__": [], "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},
        [],
    ],
    ids=str,
)
def test_safetensors_with_false_headers_are_refused(tmp_path, header):
    path, text = tmp_path / "weights.safetensors", json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    message = refused(path)
    assert len(message) < 500


def test_safetensors_are_read(tmp_path):
    state, path = weights(), tmp_path / "model.safetensors"
    save_file({f"model.net.{key}": value for key, value in state.items()}, path)
    network = small()
    assert load_checkpoint(network, path).prefix == "model.net."
    assert equal(network, state)


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(1)],
        {},
        7,
        OrderedDict(a=1),
        {1: torch.zeros(1)},
        {"a": torch.zeros(2).to_sparse()},
        {"a": torch.zeros(2, dtype=torch.complex64)},
        {"a": torch.zeros(2, device="meta")},
        {"state_dict": {"state_dict": {"state_dict": {"state_dict": {"state_dict": {}}}}}},
        {"line\nbreak" * 50: 1},
    ],
)
def test_content_that_is_no_state_dict_is_refused(path, content):
    torch.save(content, path)
    assert "state dict" in refused(path)


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".bin", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", whole_file()[:5000]])
def test_a_file_that_is_not_one_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert "not a file of weights" in refused(path)
