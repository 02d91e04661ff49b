"""Third-party checkpoints: loaded by name with every key accounted for, or refused."""

import io
import json
import os
import pickle
import re
import struct
import sys
import time
import tracemalloc
import types
import zipfile
from collections import OrderedDict

import numpy
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from curation.errors import UserError
from distill.backbones import create
from teachers import checkpoints, weight_files
from teachers.checkpoints import load_checkpoint, recognise


def small(name="adaface_ir18", seed=0):
    torch.manual_seed(seed)
    return create(name, embedding=8, input_size=(32, 32), width=0.125).eval()


def weights(name="adaface_ir18"):
    """The state dict of a small trained network: no statistic has its initial value."""
    network = small(name, seed=1).train()
    network(torch.randn(4, 3, 32, 32))
    return network.state_dict()


def full_size(name):
    """Tensors with the network's true shapes in a tiny file: all elements share storage."""
    with torch.device("meta"):
        state = create(name).state_dict()
    return {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}


def equal(network, state):
    return all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


@pytest.fixture(autouse=True)
def small_registry(monkeypatch):
    """Few names to search when a file does not match."""
    names = ("adaface_ir18", "iresnet18", "treb1en_ir50")
    kept = {name: checkpoints.NETWORKS[name] for name in names}
    monkeypatch.setattr(checkpoints, "NETWORKS", kept)


def refused(path, network=None):
    """The one-line error for a refused file; the network is unchanged."""
    network = network or small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_checkpoint(network, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert equal(network, before)
    return message


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [
        ((), ""),
        (("state_dict",), "module."),
        (("net_state_dict",), ""),
        (("backbone",), "net."),
        (("model_ema",), "module.backbone."),
        (("checkpoint", "anything", "net"), "encoder._orig_mod."),
        ((), "a.b.c.d."),
    ],
)
@pytest.mark.parametrize("name", ["adaface_ir18", "iresnet18"])
def test_weights_are_found_under_whatever_wraps_them(path, name, wrapper, prefix):
    state = weights(name)
    content = {prefix + key: value for key, value in state.items()}
    for key in reversed(wrapper):
        content = {key: content, "epoch": 3, "optimiser": {"state": [torch.zeros(2)]}}
    torch.save(content, path)
    network = small(name)
    report = load_checkpoint(network, path)
    assert equal(network, state)
    assert (report.loaded, report.prefix) == (len(state), prefix)
    assert report.part == ".".join((*wrapper, prefix)).strip(".")
    assert (report.ignored, report.absent) == ((), ())


@pytest.mark.parametrize("flat", [False, True])
def test_of_two_stored_networks_the_user_chooses_one(path, flat):
    first, average = weights(), {key: value + 1 for key, value in weights().items()}
    both = {"model": first, "model_ema": average}
    if flat:
        both = {f"{name}.{key}": v for name, state in both.items() for key, v in state.items()}
    torch.save({"state": both}, path)
    message = refused(path)
    assert "holds this network 2 times with different weights" in message
    assert 'choose one: part = "state.model' in message
    for part, state in (("model_ema", average), ("state.model", first)):
        network = small()
        assert load_checkpoint(network, path, part).part.endswith(part)
        assert equal(network, state)
    with pytest.raises(UserError, match="has no part 'ema'"):
        load_checkpoint(small(), path, "ema")


def test_equal_copies_are_one(path):
    torch.save({"model": weights(), "model_ema": weights()}, path)
    load_checkpoint(small(), path)


def test_an_average_counts_its_steps(path):
    averaged = torch.optim.swa_utils.AveragedModel(small(seed=1))
    torch.save(averaged.state_dict(), path)
    assert load_checkpoint(small(), path).ignored == ("n_averaged",)


def test_only_the_user_can_omit_other_layers(path):
    named = {f"backbone.{key}": value for key, value in weights().items()}
    torch.save(named | {"neck.weight": torch.zeros(8, 8)}, path)
    message = refused(path)
    assert "has 'neck.weight'" in message
    assert 'set part = "backbone"' in message
    load_checkpoint(small(), path, "backbone")


class Settings(dict):
    """Objects that training programs store beside the weights, of a class that no longer exists."""


class Best:
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return Best, (self.value,), {"more": 1}


@pytest.mark.parametrize("old", [False, True])
def test_objects_stored_with_the_weights_are_not_created(path, old, monkeypatch):
    state = weights()
    beside = {
        "settings": Settings(lr=1),
        "best": Best(0.9),
        "where": path,
        "loss": numpy.float64(3),
    }
    torch.save({"net": state, **beside}, path, _use_new_zipfile_serialization=not old)
    monkeypatch.delattr(sys.modules[__name__], "Settings")
    monkeypatch.setattr(Best, "__init__", None)
    network = small()
    load_checkpoint(network, path)
    assert equal(network, state)


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
    ],
)
def test_the_kinds_of_other_files_are_named(path, content, words):
    path.write_bytes(content)
    message = refused(path)
    assert words in message
    assert "not a file of weights" in message


def nested_tuples(levels):
    """A pickle with a key that takes 2^levels steps to hash."""
    return b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * levels + b"K\x01s."


def test_a_pickle_without_end_is_given_up(path, monkeypatch):
    monkeypatch.setattr(weight_files, "SCAN_SECONDS", 1)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", nested_tuples(60))
    assert "takes more time than any weights do" in refused(path)


def archive_of(path, program, storage=b"", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", storage)


def tensor_of(offset=0, size=(2,), stride=(1,), kind=torch.FloatStorage, count=2, key="0"):
    """A pickle of one tensor with an arbitrary description."""

    class Storage:
        identifier = ("storage", kind, key, "cpu", count)

    class Described:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                Storage(), offset, size, stride, False, OrderedDict(),
            )  # fmt: skip

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identifier if isinstance(value, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"a": Described()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "description",
    [
        {"offset": 1},
        {"offset": -1, "size": (1,)},
        {"size": (3,)},
        {"size": (-1,)},
        {"size": (2, 2), "stride": (1, 1)},
        {"size": (2,), "stride": (-1,)},
        {"size": (2,), "stride": (1 << 61,)},
        {"size": (1 << 40, 1 << 40), "stride": (0, 0)},
        {"size": (1,) * 65, "stride": (0,) * 65},
        {"size": (2.0,)},
        {"size": (True,)},
        {"size": ("2",)},
        {"size": (2,), "stride": ()},
        {"count": 1 << 40},
        {"count": -1},
        {"count": float("nan")},
        {"count": "2"},
        {"key": "1"},
        {"key": 0.5},
        {"key": "../data.pkl"},
    ],
    ids=str,
)
def test_a_tensor_of_elements_that_the_file_lacks_is_refused(path, description):
    archive_of(path, tensor_of(**description), bytes(8))
    assert "not a file of weights: damaged" in refused(path)


def test_elements_are_read_at_their_file_offsets(path):
    values = torch.arange(12.0).reshape(3, 4)
    archive_of(
        path,
        tensor_of(offset=1, size=(3, 2), stride=(4, 2), count=12),
        values.numpy().tobytes(),
    )
    (part,) = weight_files.read_parts(path)
    assert torch.equal(part.tensors["a"].read(), values[:, 1::2])


def test_elements_far_apart_are_refused(path, monkeypatch):
    monkeypatch.setattr(weight_files, "LARGEST_SPAN", 100)
    archive_of(path, tensor_of(size=(2,), stride=(40,), count=41), bytes(41 * 4))
    (part,) = weight_files.read_parts(path)
    with pytest.raises(UserError, match=r"the 2 elements of a tensor lie among 164 bytes"):
        part.tensors["a"].read()


@pytest.mark.parametrize("old", [False, True])
def test_data_that_a_network_does_not_need_is_not_read(path, old):
    network = torch.nn.Linear(4, 4)
    content = {"model": network.state_dict(), "optimiser": {"fc": torch.zeros(16 << 20)}}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    tracemalloc.start()
    try:
        load_checkpoint(network, path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_shared_and_empty_elements_are_read(path):
    values = torch.arange(6.0)
    content = {"a": values, "b": values[2:], "c": torch.zeros(0, 3), "d": torch.zeros(0).long()}
    for old in (False, True):
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        (part,) = weight_files.read_parts(path)
        assert {key: each.read().tolist() for key, each in part.tensors.items()} == {
            key: each.tolist() for key, each in content.items()
        }


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("old", [False, True])
def test_tensors_of_every_plain_type_are_read(path, dtype, old):
    value = torch.tensor([[1, 0, 1], [0, 1, 1]], dtype=dtype)
    content = {"t": value.T, "parameter": torch.nn.Parameter(torch.ones(2))}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    (part,) = weight_files.read_parts(path)
    assert part.tensors["t"].read().dtype == dtype
    assert torch.equal(part.tensors["t"].read(), value.T)
    assert torch.equal(part.tensors["parameter"].read(), torch.ones(2))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x7f\x85R.", "no state dict"),
        (b"\x80\x02ctorch\nTensor\n\x8a\x05\0\0\0\0\x7f\x85R.", "no state dict"),
        (b"\x80\x02c_codecs\nencode\nX\1\0\0\0aX\3\0\0\0zip\x86R.", "no state dict"),
        (b"\x80\x02}X\1\0\0\0ar\xff\xff\xff\xff.", "more memory"),
        (b"\x80\x02" + b"]" * 6_000_000 + b".", "more memory|no state dict"),
        (b"\x80\x02" + b"(" * 1_000_000 + b".", "damaged|more memory"),
        (b"\x80\x02" + bytes(17_000_000), "more than 16 MiB"),
        (b"".join(b"cx\nk%d\n" % i for i in range(2_000)) + b".", "more than 1000 classes"),
        (b"\x80\x02" + b"\x8d" + b"\xff" * 7 + b"\x0f" + b"a.", "damaged|more memory"),
        (b"\x80\x02}X\xff\xff\xff\x7fa.", "damaged|more memory"),
        (b"\x80\x02}]q\0h\0a.", "damaged|no state dict"),
        (b"\x80\x02}" + b"q\0h\0\x85" * 100 + b"K\1s.", "damaged|no state dict"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x04\x95" + b"\xff" * 8 + b"}.", "damaged|more memory"),
        (b"\x80\x02\x82\x01.", "damaged"),
    ],
    ids=lambda value: repr(value[:12]),
)
@pytest.mark.parametrize("old", [False, True])
def test_pickles_made_to_harm_end_in_one_line(path, program, words, old, monkeypatch):
    monkeypatch.setattr(weight_files, "SCAN_SECONDS", 2)
    if old:
        buffer = io.BytesIO()
        torch.save(0, buffer, _use_new_zipfile_serialization=False)
        before = buffer.getvalue()[: buffer.getvalue().rindex(b"\x80\x02K\0.")]
        path.write_bytes(before + program)
    else:
        archive_of(path, program)
    message = refused(path)
    assert re.search(f"{words}|more time" + "|damaged" * old, message)
    assert len(message) < 500


def test_an_archive_that_torch_does_not_write_is_refused(path):
    archive_of(path, tensor_of(), bytes(8), zipfile.ZIP_DEFLATED)
    assert "a compressed archive, which torch.save does not write" in refused(path)
    archive_of(path, tensor_of(), bytes(8))
    weight_files.read_parts(path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data/0", bytes(8))
    assert "that torch.save did not write" in refused(path)


def test_members_that_share_their_bytes_are_refused(path):
    """Otherwise a small file could give the same bytes to any number of tensors."""
    torch.save({f"k{i}": torch.zeros(1_000) for i in range(3)}, path)
    data = bytearray(path.read_bytes())
    places = [found.start() for found in re.finditer(b"PK\1\2", data)]
    offsets = {bytes(data[p + 46 : p + 46 + 14]): data[p + 42 : p + 46] for p in places}
    first = next(at for name, at in offsets.items() if name.endswith(b"/data/0"))
    for place in places:
        if b"/data/" in data[place + 46 : place + 60]:
            data[place + 42 : place + 46] = first
    path.write_bytes(data)
    assert "its directory does not fit its members" in refused(path)


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


def test_many_prefixes_are_distinguished_in_a_short_time(tmp_path):
    path = tmp_path / "weights.safetensors"
    words = ("module", "model", "net", "backbone")
    names = (".".join(words[(i >> 2 * j) % 4] for j in range(7)) for i in range(8_000))
    save_file({f"{name}.k{i}": torch.zeros(1) for i, name in enumerate(names)}, path)
    began = time.process_time()
    assert "no registered network fits" in refused(path)
    assert time.process_time() - began < 10


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


def test_references_to_references_are_followed_once(path):
    content = {"weight": torch.zeros(1)}
    for _ in range(60):
        content = {"a": content, "b": content}
    torch.save(content, path)
    assert "no state dict" in refused(path)


def folder_of(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (tmp_path / name).write_text(content)
        elif name.endswith(".safetensors"):
            save_file(content, tmp_path / name)
        else:
            torch.save(content, tmp_path / name)
    return tmp_path


def halves():
    items = list(weights().items())
    return dict(items[::2]), dict(items[1::2])


def index(first, second, name="two.bin"):
    return json.dumps(
        {"weight_map": {**dict.fromkeys(first, "one.bin"), **dict.fromkeys(second, name)}}
    )


@pytest.mark.parametrize("kind", ["safetensors", "bin", "shards", "cvlface", "alone"])
def test_a_folder_of_weights_is_read(tmp_path, kind):
    state, (first, second) = weights(), halves()
    files = {
        "safetensors": {"config.json": "{}", "model.safetensors": state},
        "bin": {"pytorch_model.bin": state},
        "shards": {
            "pytorch_model.bin.index.json": index(first, second),
            "one.bin": first,
            "two.bin": second,
        },
        "cvlface": {
            "config.json": "{}",
            "pretrained_model/model.pt": {f"net.{k}": v for k, v in state.items()},
        },
        "alone": {"any.pth": state},
    }
    network = small()
    load_checkpoint(network, folder_of(tmp_path, files[kind]))
    assert equal(network, state)


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ('{"weight_map": {"a": "../one.bin"}}', "names files outside its folder"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "names files outside its folder"),
        ('{"weight_map": {"a": 1}}', "outside"),
        ('{"weight_map": {"a": "one.bin"}}', "lists 'a', which no file has"),
        ('{"weight_map": {"a": "none.bin"}}', "lacks none.bin"),
        ('{"weight_map": []}', "not an index"),
        ("[" * 100_000, "nested deeper than 64"),
        ('{"weight_map": {"a": NaN}}', "is damaged"),
        ('{"weight_map": {"a": "' + "b" * 5_000 + '"}}', "lacks bbb"),
        ('{"weight_map": {"a": "b\\u0000"}}', "lacks b"),
        ('{"weight_map": {"a": ["one.bin"]}}', "not an index"),
        (" " * (1 << 22) + "{}", "at most 4,194,304 are allowed"),
    ],
)
def test_a_false_index_is_refused(tmp_path, listed, words):
    folder = folder_of(tmp_path, {"model.safetensors.index.json": listed, "one.bin": halves()[0]})
    with pytest.raises(UserError, match=words):
        load_checkpoint(small(), folder)


def test_a_folder_with_several_files_is_not_guessed_at(tmp_path):
    folder = folder_of(tmp_path, {"a.pth": weights(), "b.pth": weights()})
    assert "found: a.pth, b.pth" in refused_in(folder)


def refused_in(folder):
    with pytest.raises(UserError) as caught:
        load_checkpoint(small(), folder)
    return str(caught.value)


def test_safetensors_are_read(tmp_path):
    state, path = weights(), tmp_path / "model.safetensors"
    save_file({f"model.net.{key}": value for key, value in state.items()}, path)
    network = small()
    assert load_checkpoint(network, path).prefix == "model.net."
    assert equal(network, state)


def test_the_format_before_pytorch_1_6_is_read(path):
    state, network = weights(), small()
    torch.save(state, path, _use_new_zipfile_serialization=False)
    load_checkpoint(network, path)
    assert equal(network, state)


@pytest.mark.parametrize("counters", [False, True], ids=["values", "counters-too"])
def test_half_precision_becomes_the_networks(path, counters):
    state, network = weights(), small()
    cast = {k: v.half() if counters or v.is_floating_point() else v for k, v in state.items()}
    torch.save(cast, path)
    load_checkpoint(network, path)
    loaded = network.state_dict()["output_layer.3.weight"]
    assert loaded.dtype == torch.float32
    assert torch.allclose(loaded, state["output_layer.3.weight"], atol=1e-3)


def test_insightfaces_training_checkpoint_is_read(path):
    state, network = weights("iresnet18"), small("iresnet18")
    classifier = {"weight": torch.zeros(5, 8)}
    torch.save(
        {"epoch": 1, "state_dict_backbone": state, "state_dict_softmax_fc": classifier}, path
    )
    load_checkpoint(network, path)
    assert equal(network, state)
    assert not network.features.weight.requires_grad


def test_a_trainers_checkpoint_is_read_without_its_classes(path, monkeypatch):
    """AdaFace's: its trainer keys the state of a callback by the callback's class."""
    state = weights()
    named = {f"model.{key}": value for key, value in state.items()}
    named |= {"head.kernel": torch.zeros(8, 5), "head.t": torch.zeros(1)}
    trainer = types.ModuleType("pytorch_lightning")
    trainer.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": trainer.__name__})
    with monkeypatch.context() as during_saving:
        during_saving.setitem(sys.modules, trainer.__name__, trainer)
        callbacks = {trainer.ModelCheckpoint: {"monitor": "val_acc"}}
        callback = trainer.ModelCheckpoint()
        callback.every = 1
        torch.save({"state_dict": named, "callbacks": callbacks, "callback": callback}, path)
    network = small()
    report = load_checkpoint(network, path)
    assert equal(network, state)
    assert report.ignored == ("head.kernel", "head.t")
    assert (report.loaded, report.prefix) == (len(state), "model.")


def test_a_classifier_named_like_a_layer_is_ignored(path):
    """MagFace's: the network is under features.module, the classifier is another fc."""
    state = weights("iresnet18")
    named = {f"features.module.{key}": value for key, value in state.items()}
    torch.save({"state_dict": named | {"fc.weight": torch.zeros(8, 5)}}, path)
    network = small("iresnet18")
    assert load_checkpoint(network, path).ignored == ("fc.weight",)
    assert equal(network, state)


def test_batch_counters_may_be_absent(path):
    state = weights()
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    torch.save({key: value for key, value in state.items() if key not in counters}, path)
    report = load_checkpoint(small(), path)
    assert set(report.absent) == counters
    assert report.loaded == len(state) - len(counters)


def test_superfluous_keys_may_be_skipped(path):
    torch.save({**weights(), "fc2.weight": torch.zeros(2, 8)}, path)
    assert "has 'fc2.weight'; save the state dict without them" in refused(path)


def test_missing_unexpected_and_misshapen_keys_are_named(path):
    state = weights()
    del state["body.0.res_layer.0.weight"], state["body.1.res_layer.0.bias"]
    state["body.0.extra.weight"] = torch.zeros(1)
    state["output_layer.3.weight"] = torch.zeros(8, 3)
    torch.save(state, path)
    message = refused(path)
    assert "lacks 'body.0.res_layer.0.weight' and 1 more" in message
    assert "has 'body.0.extra.weight'," in message
    assert "has other shapes: 'output_layer.3.weight' (8x3, not 8x256)" in message
    assert "no registered network fits" in message


def test_a_prefix_that_only_some_keys_have_stays(path):
    state = weights()
    torch.save({("module." if i else "") + k: v for i, (k, v) in enumerate(state.items())}, path)
    assert "lacks 'input_layer.0.weight', has 'input_layer.0.weight'" in refused(path)


def test_the_networks_that_a_file_does_fit_are_named(path):
    torch.save({f"net.{k}": v for k, v in full_size("treb1en_ir50").items()}, path)
    assert recognise(path) == ("treb1en_ir50",)
    message = refused(path)
    assert message.endswith("these are the keys of treb1en_ir50")
    assert "not weights of this IRBackbone" in message


def test_a_file_of_no_registered_network_is_not_recognised(path):
    torch.save({"body.0.weight": torch.zeros(3)}, path)
    assert recognise(path) == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_in_the_network_are_refused(path, value):
    state = weights()
    bad = state["body.1.res_layer.1.weight"].double()
    bad[0, 0, 0, 0] = value
    torch.save(state | {"body.1.res_layer.1.weight": bad}, path)
    assert "'body.1.res_layer.1.weight' has values that are not finite" in refused(path)


def test_quantised_weights_are_refused(path):
    state = weights()
    torch.save(state | {"output_layer.3.bias": torch.zeros(8, dtype=torch.int8)}, path)
    assert "'output_layer.3.bias' holds torch.int8" in refused(path)


def save_old(content, path):
    """The format before PyTorch 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


class Harm:
    """A normal unpickler would create a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (torch.save, "can be read safely (it would call posix.mkdir)"),
        (save_old, "can be read safely (it would call posix.mkdir)"),
        (lambda x, path: path.write_bytes(pickle.dumps(x)), "a pickle, not a file of weights"),
    ],
)
def test_code_in_a_file_is_not_run(path, save, words):
    folder = path.parent / "harm"
    save({"state_dict": weights(), "harm": Harm(folder)}, path)
    assert words in refused(path)
    assert not folder.exists()


def test_a_function_under_a_trainers_name_is_not_called(path, monkeypatch):
    called = []
    trainer = types.ModuleType("pytorch_lightning.harm")
    trainer.run = lambda: called.append(True)
    monkeypatch.setitem(sys.modules, trainer.__name__, trainer)
    program = b"\x80\x02cpytorch_lightning.harm\nrun\n)R."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3")
    assert "holds no state dict" in refused(path)
    assert not called


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


def whole_file():
    buffer = io.BytesIO()
    torch.save(weights(), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".bin", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", whole_file()[:5000]])
def test_a_file_that_is_not_one_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert "not a file of weights" in refused(path)


def test_no_file_and_an_empty_folder_are_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.pth")
    assert "expected one file of weights" in refused(tmp_path)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
@pytest.mark.parametrize("start", [b"", b"\x80\x02", b"\x80\x02}X"])
def test_random_pickles_are_refused(path, start, content):
    path.write_bytes(start + content)
    with pytest.raises(UserError):
        recognise(path)
