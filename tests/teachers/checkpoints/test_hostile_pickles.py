"""Pickled weights are read without running them, and harmful ones are refused in one line."""

import io
import os
import pickle
import re
import sys
import types
import zipfile

import numpy
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weight_samples import archive_of, equal, refused, save_old, small, weights

from curation.errors import UserError
from teachers import weight_files
from teachers.checkpoints import load_checkpoint, recognise


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


def nested_tuples(levels):
    """A pickle with a key that takes 2^levels steps to hash."""
    return b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * levels + b"K\x01s."


def test_a_pickle_without_end_is_given_up(path, monkeypatch):
    monkeypatch.setattr(weight_files, "SCAN_SECONDS", 1)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", nested_tuples(60))
    assert "takes more time than any weights do" in refused(path)


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


def test_references_to_references_are_followed_once(path):
    content = {"weight": torch.zeros(1)}
    for _ in range(60):
        content = {"a": content, "b": content}
    torch.save(content, path)
    assert "no state dict" in refused(path)


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


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
@pytest.mark.parametrize("start", [b"", b"\x80\x02", b"\x80\x02}X"])
def test_random_pickles_are_refused(path, start, content):
    path.write_bytes(start + content)
    with pytest.raises(UserError):
        recognise(path)
