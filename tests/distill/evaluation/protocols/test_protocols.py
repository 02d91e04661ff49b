"""What holds for every published evaluation, in its own format."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curation.errors import UserError
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.features import Embedded
from distill.evaluation.given_features import GivenFeatures
from distill.evaluation.protocols import protocol as registry
from distill.evaluation.protocols import tables
from distill.evaluation.protocols.protocol import ProtocolSet, open_protocol, protocols, split_name
from distill.evaluation.set_features import NetworkFeatures
from tests.distill.evaluation.drawn_images import GridEmbedder
from tests.distill.evaluation.protocols.people_at_random import drawn
from tests.distill.evaluation.small_protocols import (
    PEOPLE,
    write_ijb,
    write_lfr,
    write_megaface,
    write_tinyface,
)

WRITERS: dict[str, Callable[[Path], None]] = {
    "ijbb": lambda folder: write_ijb(folder, "ijbb", ("S1", "S2")),
    "ijbc": write_ijb,
    "lfr": write_lfr,
    "megaface": write_megaface,
    "tinyface": write_tinyface,
}


@pytest.fixture(params=sorted(WRITERS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> ProtocolSet:
    WRITERS[request.param](tmp_path / "set")
    return open_protocol(request.param, tmp_path / "set")


@pytest.mark.parametrize("name", ["ijbb", "ijbc", "lfr", "megaface"])
def test_a_list_of_any_length_takes_no_memory(tmp_path, monkeypatch, name: str):
    WRITERS[name](tmp_path / "set")
    monkeypatch.setattr(tables, "MOST_IMAGES", 10)
    with pytest.raises(UserError, match="has more than 10 lines; expected: "):
        open_protocol(name, tmp_path / "set")


def test_every_reader_is_tested_here():
    assert set(protocols()) == set(WRITERS)


def test_the_digest_does_not_depend_on_the_place(
    opened: ProtocolSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(tmp_path / "set", tmp_path / "elsewhere")
    assert open_protocol(opened.protocol, tmp_path / "elsewhere").digest == opened.digest
    monkeypatch.chdir(tmp_path / "set")
    assert open_protocol(opened.protocol, Path()).digest == opened.digest
    opened.faces.paths[0].write_bytes(b"another size")
    assert open_protocol(opened.protocol, Path()).digest != opened.digest


def test_a_network_is_scored_and_its_features_are_cached(opened: ProtocolSet, tmp_path: Path):
    class Counting(GridEmbedder):
        asked = 0

        def embed(self, images: np.ndarray) -> np.ndarray:
            Counting.asked += 1
            return super().embed(images)

    first = evaluate(NetworkFeatures(Counting(), tmp_path / "kept"), [opened])
    asked = Counting.asked
    again = evaluate(NetworkFeatures(Counting(), tmp_path / "kept"), [opened])
    assert asked > 0
    assert Counting.asked == asked
    assert again == first
    report = first["sets"][opened.name]
    assert report["digest"] == opened.digest
    assert report["protocol"] == opened.protocol
    assert first["thresholds"]["false_accept_rates"]["1e-2"] is None


def test_a_missing_image_is_reported_before_embedding(opened: ProtocolSet):
    opened.faces.paths[3].unlink()
    with pytest.raises(UserError, match=r"1 of .* images of the lists are not there"):
        evaluate(NeverAsked(), [opened])


def test_a_damaged_image_is_reported_before_embedding(opened: ProtocolSet):
    path = opened.faces.paths[3]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        evaluate(NeverAsked(), [opened])


class NeverAsked(NetworkFeatures):
    def __init__(self) -> None:
        super().__init__(GridEmbedder())

    def _embed(self, each: object, progress: object) -> Embedded:
        raise AssertionError("nothing is to be embedded")


def test_given_embeddings_need_no_images(tmp_path: Path):
    write_ijb(tmp_path / "set")
    opened = open_protocol("ijbc", tmp_path / "set")
    people = np.repeat(np.arange(PEOPLE), 6)
    np.save(tmp_path / "ijbc.npy", drawn(48, people).unit)
    for path in opened.faces.paths:
        Path(path).unlink()
    report = evaluate(GivenFeatures(tmp_path), [open_protocol("ijbc", tmp_path / "set")])
    assert report["sets"]["ijbc"]["tar_at_far"]["1e-2"]["tar"] > 0.9


def test_unknown_protocols_and_folders_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no protocol 'ijbd'.*did you mean"):
        open_protocol("ijbd", tmp_path)
    with pytest.raises(UserError, match="is not a folder; ijbc needs one"):
        open_protocol("ijbc", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "name"),
    [("ijbc:/a/b", "ijbc"), ("c:\\sets", None), ("ijbc", None), ("ijbc:", None), ("a/b:c", None)],
)
def test_a_protocol_is_named_with_its_folder(text: str, name: str | None):
    found = split_name(text)
    assert (found and found[0]) == name


def test_the_name_of_a_protocol_is_unique():
    with pytest.raises(UserError, match="the protocol 'lfr' is registered in"):
        registry.protocol("lfr", "another")(lambda folder, weights: None)  # type: ignore[arg-type, return-value]
