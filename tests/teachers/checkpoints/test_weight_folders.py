"""Folders of weights: one file, or several that an index lists."""

import json

import pytest
import torch
from safetensors.torch import save_file
from weight_samples import equal, refused, small, weights

from curation.errors import UserError
from teachers.checkpoints import load_checkpoint


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


def test_no_file_and_an_empty_folder_are_refused(tmp_path):
    assert "no such file" in refused(tmp_path / "none.pth")
    assert "expected one file of weights" in refused(tmp_path)
