"""A file added to curation/sources is a new kind of source without any other change."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from store_content import content_of

import curation.conversion.build
from curation import sources
from curation.conversion.convert import convert
from curation.conversion.journal import load_state
from curation.errors import UserError
from curation.inspection import inspect_path
from curation.records.layout_writer import write_layout
from curation.sources import opening
from curation.sources.opening import find_format, open_source
from curation.sources.quarantine import read_quarantine
from curation.verify import verify

PAGE = Path(__file__).parents[3] / "docs/how-to/add-a-source.md"
(PILE,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)

COMMAND = """
import sys

from curation import sources

sources.__path__.append(sys.argv.pop(1))
from distill.cli.curate import main

main()
"""


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A folder whose files also register kinds of sources, in this process."""
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path / "room")])
    monkeypatch.setattr(opening, "_FORMATS", dict(opening._FORMATS))
    modules = set(sys.modules)
    yield tmp_path / "room"
    for name in set(sys.modules) - modules:
        if name.startswith(sources.__name__):
            del sys.modules[name]


@pytest.fixture
def pile(room, tmp_path, noise_images):
    """Writes images with these labels to a pile, a kind of source that the test adds."""
    (room / "pile.py").write_text(PILE)

    def write(labels, name="faces.pile"):
        parts = []
        for number, label in enumerate(labels):
            image = b"" if label is None else noise_images[number % 40]
            parts.append((label or 0).to_bytes(4, "little") + len(image).to_bytes(4, "little"))
            parts.append(image)
        (tmp_path / name).write_bytes(b"".join(parts))
        return tmp_path / name

    return write


@pytest.mark.parametrize("labels", [sorted([3, 1, 4, 5] * 15), [3, 1, 4, 1, 5] * 12])
def test_a_new_kind_is_converted_like_the_same_record_file(pile, tmp_path, noise_images, labels):
    store = convert(pile(labels), tmp_path / "pile.lmdb")
    images = zip((noise_images[i % 40] for i in range(60)), labels, strict=True)
    write_layout(tmp_path / "records", sorted(images, key=lambda image: image[1]), (24, 20))
    other = convert(tmp_path / "records", tmp_path / "records.lmdb")
    assert (store.meta.source_kind, store.meta.source_name) == ("pile", "faces.pile")
    assert store.labels.tolist() == other.labels.tolist()
    assert [store.read(i) for i in range(60)] == [other.read(i) for i in range(60)]
    assert convert(tmp_path / "faces.pile", tmp_path / "pile.lmdb").digest == store.digest


@pytest.mark.parametrize("labels", [[2] * 30 + [7] * 30, [7, 2] * 30])
def test_a_stopped_conversion_of_a_new_kind_is_resumed(pile, tmp_path, monkeypatch, labels):
    monkeypatch.setattr(curation.conversion.build, "COMMIT_BYTES", 5000)
    monkeypatch.setattr(curation.conversion.build, "COMMIT_IMAGES", 7)
    labels[11] = None
    convert(pile(labels), tmp_path / "wanted.lmdb", skip_bad=True)

    def stop(done, total):
        state = load_state(tmp_path / "a.lmdb.partial")
        if state is not None and state.read > 35:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "faces.pile", tmp_path / "a.lmdb", stop, skip_bad=True)
    store = convert(tmp_path / "faces.pile", tmp_path / "a.lmdb", skip_bad=True)
    assert content_of(store.path) == content_of(tmp_path / "wanted.lmdb")
    assert [(bad.key, bad.reason) for bad in read_quarantine(store.path)] == [(11, "empty")]


def test_a_new_kind_is_inspected_and_verified(pile):
    path = pile([1, 1, 2])
    found = inspect_path(path)
    assert (found["kind"], found["images"], found["identities"]) == ("pile", 3, 2)
    assert found["bytes"] == path.stat().st_size
    assert verify(path) | {"kind": "pile", "images": 3, "sound": True} == verify(path)


def test_a_length_beyond_the_end_of_the_file_is_a_bad_record(pile, tmp_path):
    path = pile([1, 1, 2])
    path.write_bytes(path.read_bytes() + b"\1\0\0\0\xff\xff\xff\xffimage")
    store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
    assert [(bad.key, bad.reason) for bad in read_quarantine(store.path)] == [(3, "truncated")]


def test_each_unlabelled_image_is_its_own_identity(pile, tmp_path):
    assert convert(pile(range(5)), tmp_path / "a.lmdb").identities == 5


def test_the_commands_and_recipes_take_a_new_kind(pile, tmp_path):
    path, run = pile([1] * 6 + [2] * 7), [sys.executable, "-c", COMMAND, str(tmp_path / "room")]
    environment = os.environ | {"DISTILL_WORKSPACE": str(tmp_path / "ws")}
    for arguments, said in (
        (["inspect", str(path), "--json"], {"kind": "pile", "images": 13}),
        (["recipe", "ms1m", "--source", str(path), "--skip-bad", "--json"], None),
        (["inspect", "ms1m/train", "--json"], {"kind": "store", "images": 13}),
    ):
        done = subprocess.run(
            [*run, *arguments], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert said is None or {**found, **said} == found


def test_a_name_taken_twice_is_an_error_with_both_places(room, pile):
    (room / "heap.py").write_text(PILE)
    where = "registered in curation.sources.heap and in curation.sources.pile"
    with pytest.raises(UserError, match=f"the source 'pile' is {where}; names are unique"):
        open_source(pile([1]))


def test_a_source_of_two_kinds_is_refused(room, pile):
    (room / "heap.py").write_text(PILE.replace('"pile"', '"heap"').replace("a NAME.pile", "a heap"))
    with pytest.raises(UserError, match=r"faces\.pile can be read as a heap and as a NAME\.pile"):
        find_format(pile([1]))


def test_messages_name_the_new_kind(pile, tmp_path):
    pile([1])
    with pytest.raises(UserError, match=r"does not exist; give a folder .*; a NAME\.pile;"):
        open_source(tmp_path / "nowhere")
