"""`[evaluate]` of a spec: published evaluations, and what is scored at intervals in which time."""

from pathlib import Path

import pytest
from small_job import job_text, make_workspace, run_job, stage_text
from small_training import PREPROCESSING, make_network

from curation.errors import UserError
from curation.pairs import read_pairs
from curation.store import Store
from distill.evaluation.protocols.protocol import open_protocol
from distill.export.bundle_files import check_bundle
from distill.notices import Notice
from distill.pipeline.fit import check_fit
from distill.pipeline.scores import PairAccuracies
from distill.pipeline.steps import StepStore
from distill.pipeline.work import evaluate_network
from distill.spec import JobSpec
from distill.spec_text import parse_spec
from distill.training.scoring import Measure
from teachers.embedder import TorchEmbedder
from tests.distill.evaluation.drawn_images import GridEmbedder
from tests.distill.evaluation.small_protocols import write_tinyface


def job(table: str) -> JobSpec:
    text = job_text("tiny", stage_text(), f"[evaluate]\n{table}\n", evaluate='["pairs"]')
    return parse_spec(text, "tiny.toml")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('at_intervals = ["lfw"]', "'lfw' is neither in data.evaluate nor in evaluate.protocols"),
        ('at_intervals = ["pairs", "pairs"]', "'pairs' is listed twice"),
        ('protocols = ["ijbc:/a", "ijbc:/b"]', "'ijbc' is listed twice"),
        ('protocols = ["ijbc"]', "evaluate.protocols"),
        ('protocols = ["ijbc:here"]', "evaluate.protocols"),
        ("seconds = 0", "evaluate.seconds"),
    ],
    ids=["unknown", "twice", "protocol twice", "no folder", "part of a path", "no time"],
)
def test_an_unscorable_setting_is_refused(table: str, message: str):
    with pytest.raises(UserError, match=message):
        job(table)


def test_a_job_without_the_table_means_what_it_meant():
    spec = parse_spec(job_text("tiny", stage_text(), evaluate='["pairs"]'), "tiny.toml")
    assert spec.evaluate.protocols == spec.evaluate.at_intervals == []
    assert spec.evaluate.seconds is None


def test_a_set_must_not_have_the_name_of_a_protocol(
    tmp_path: Path, drawn_store: Store, drawn_folder: Path
):
    workspace = make_workspace(tmp_path / "place", drawn_store, drawn_folder)
    (workspace.datasets / "drawn" / "pairs.bin").rename(
        workspace.datasets / "drawn" / "tinyface.bin"
    )
    write_tinyface(tmp_path / "tiny")
    table = f'[evaluate]\nprotocols = ["tinyface:{tmp_path / "tiny"}"]'
    spec = parse_spec(job_text("tiny", stage_text(), table, evaluate='["tinyface"]'), "tiny.toml")
    said = "evaluate.protocols 1: data.evaluate 'tinyface' is also called 'tinyface'"
    with pytest.raises(UserError, match=said):
        check_fit(spec, workspace)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", r"the image is empty \(1 of 44 images"), (b"<html>", "is neither JPEG nor PNG")],
    ids=["empty", "page"],
)
def test_a_bad_image_of_a_protocol_is_refused_first(
    tmp_path: Path, drawn_store: Store, drawn_folder: Path, content: bytes, reason: str
):
    workspace = make_workspace(tmp_path / "place", drawn_store, drawn_folder)
    write_tinyface(tmp_path / "tiny")
    (tmp_path / "tiny" / "Probe" / "0_1.jpg").write_bytes(content)
    table = f'[evaluate]\nprotocols = ["tinyface:{tmp_path / "tiny"}"]'
    spec = parse_spec(job_text("tiny", stage_text(), table), "tiny.toml")
    said = rf"evaluate.protocols 1: .*0_1.jpg:? {reason}"
    with pytest.raises(UserError, match=said):
        check_fit(spec, workspace)


def test_a_training_is_kept_if_its_evaluation_fails(
    tmp_path: Path, drawn_store: Store, drawn_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = make_workspace(tmp_path / "place", drawn_store, drawn_folder)
    write_tinyface(tmp_path / "tiny")
    image = tmp_path / "tiny" / "Gallery_Match" / "3_2.jpg"
    content = image.read_bytes()
    image.write_bytes(content[:99])
    table = f'[evaluate]\nprotocols = ["tinyface:{tmp_path / "tiny"}"]'
    with monkeypatch.context() as unseen:  # as if the image were not among those looked at
        unseen.setattr("distill.pipeline.evaluation_fit.check_embeddable", lambda each: None)
        with pytest.raises(UserError, match=r"3_2\.jpg is damaged"):
            run_job(workspace, job_text("tiny", stage_text(), table))
    image.write_bytes(content)
    again = run_job(workspace, job_text("tiny", stage_text(), table))
    assert again == {"generation 1": "reused", "evaluate": "done", "export": "done"}
    bundle = workspace.runs / "tiny" / "bundle"
    assert "| tinyface | 1 | " in (bundle / "README.md").read_text()
    assert set(check_bundle(bundle)[0].origin.scores) == {"pairs"}


def test_a_job_scores_published_evaluations(tmp_path: Path):
    write_tinyface(tmp_path / "tiny")
    steps = StepStore(tmp_path / "steps", "job")
    outcome = evaluate_network(
        GridEmbedder(),
        [],
        steps,
        lambda done, total: None,
        tmp_path / "kept",
        [f"tinyface:{tmp_path / 'tiny'}"],
    )
    assert outcome.result["sets"]["tinyface"]["closed_set"]["probes"] == 8


def test_sets_within_the_time_limit_are_scored_and_kept(
    drawn_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_tinyface(tmp_path / "tiny")
    pairs = read_pairs(drawn_folder / "pairs.bin")
    sets = [pairs, open_protocol("tinyface", tmp_path / "tiny")]
    images = len(set(pairs.images))
    monkeypatch.setattr("distill.pipeline.scores.mirrored_seconds", lambda embedder: 1.0)
    said: list[Notice] = []
    weights, chosen = make_network().state_dict(), tmp_path / "at-intervals.json"

    def score(seconds: float | None, kept: Path | None = chosen) -> set[str | Measure]:
        scored = PairAccuracies(make_network(), PREPROCESSING, sets, seconds, kept, said.append)
        found = scored(weights, lambda done, total: None)
        assert scored(weights, lambda done, total: None) == found
        return set(found)

    assert score(images) == {"pairs"}
    (notice,) = said
    assert "is not scored at intervals" in notice.text
    # The choice of the first attempt holds, whatever a later one would measure.
    assert score(1e6) == {"pairs"}
    assert score(1e6, None) == {"pairs", Measure("rank1", "tinyface")}
    assert score(None) == {"pairs", Measure("rank1", "tinyface")}
    chosen.write_text("[")  # damaged: chosen again
    assert score(images) == {"pairs"}


def test_a_time_limit_without_any_pairs_keeps_no_best(
    drawn_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sets = [read_pairs(drawn_folder / "pairs.bin")]
    monkeypatch.setattr("distill.pipeline.scores.mirrored_seconds", lambda embedder: 1.0)
    chosen = tmp_path / "at-intervals.json"
    scored = PairAccuracies(make_network(), PREPROCESSING, sets, 2.0, chosen, compared=True)
    with pytest.raises(UserError, match=r"no set of pairs .* evaluate.seconds = 2,"):
        scored(make_network().state_dict(), lambda done, total: None)
    assert not chosen.exists()  # the next attempt measures again


def test_time_is_measured_of_the_network(tmp_path: Path):
    from distill.evaluation.features import mirrored_seconds

    assert mirrored_seconds(TorchEmbedder(make_network(), PREPROCESSING, "x")) > 0
