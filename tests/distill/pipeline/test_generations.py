"""Generations with several seeds: the best candidate continues, and no gain ends them early."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_job import (
    checked_job,
    job_text,
    make_workspace,
    open_first,
    quiet,
    run_job,
    stage_text,
    steps_of,
)
from typer.testing import CliRunner

import distill
from curation.errors import UserError
from curation.images import decode
from curation.workspace import QUEUE_FILE
from distill.cli.main import app
from distill.daemon.outcome import Outcome
from distill.daemon.queue import Queue
from distill.daemon.states import Event
from distill.pipeline.architecture import Architecture
from distill.pipeline.fit import check_fit
from distill.pipeline.generations import Candidate, Generations
from distill.pipeline.job import JobRun
from distill.pipeline.planning import plan
from distill.pipeline.record import RunRecord
from distill.pipeline.training import NETWORK, TrainedNetwork, train_network
from distill.pipeline.work import evaluate_network
from distill.spec import GenerationsSpec
from distill.spec_text import parse_spec
from distill.training.loop import Stopped
from teachers.embedder import embed_mirrored
from teachers.usable import UnusableEmbeddingsError

GENERATIONS = """
[generations]
count = 4
seeds = [3, 0]
stop_without_gain = true
least_gain = 0.9
"""
JOB = job_text("family", stage_text(), GENERATIONS, evaluate='["pairs", "drawn/train"]')


@pytest.fixture(scope="module")
def finished(tmp_path_factory, drawn_store, drawn_folder):
    """The workspace after the job, whose second generation cannot reach the requested gain."""
    workspace = make_workspace(tmp_path_factory.mktemp("work"), drawn_store, drawn_folder)
    run_job(workspace, JOB)
    return workspace


def read(workspace, name):
    return json.loads((workspace.runs / "family" / name).read_text())


def weights_of(workspace, step):
    return (workspace.steps / step / NETWORK).read_bytes()


def test_every_seed_is_a_step_and_the_rest_is_skipped(finished):
    assert list(steps_of(finished, "family").items()) == [
        ("generation 1 seed 3", "done"), ("generation 1 seed 0", "done"),
        ("generation 1 choice", "done"),
        ("generation 2 seed 3", "done"), ("generation 2 seed 0", "done"),
        ("generation 2 choice", "done"),
        ("generation 3 seed 3", "skipped"), ("generation 3 seed 0", "skipped"),
        ("generation 3 choice", "skipped"),
        ("generation 4 seed 3", "skipped"), ("generation 4 seed 0", "skipped"),
        ("generation 4 choice", "skipped"),
        ("evaluate", "done"), ("export", "done"),
    ]  # fmt: skip


def test_candidates_start_from_the_best_previous_one(finished):
    steps = {step["name"]: step for step in read(finished, "steps.json")}
    scores = steps["generation 1 choice"]["scores"]
    assert scores.keys() == {"generation 1 seed 3", "generation 1 seed 0"}
    best = max(scores, key=scores.__getitem__)
    for seed in (3, 0):
        step = finished.steps / steps[f"generation 2 seed {seed}"]["id"]
        inputs = json.loads((step / "inputs.json").read_text())
        assert inputs["start"] == steps[best]["id"]
        assert inputs["settings"]["seed"] == seed
    assert (
        len({weights_of(finished, steps[f"generation 2 seed {seed}"]["id"]) for seed in (3, 0)})
        == 2
    )


def test_the_record_has_every_candidate_and_why_it_stopped(finished):
    evaluation = read(finished, "evaluation.json")
    selection = evaluation["selection"]
    scores = {each["name"]: each["score"] for each in selection["candidates"]}
    assert len(scores) == 4
    for each in selection["candidates"]:
        assert each["accuracies"] == {"pairs": each["score"]}
    first = max(scores[f"generation 1 seed {seed}"] for seed in (3, 0))
    second = max(scores[f"generation 2 seed {seed}"] for seed in (3, 0))
    assert selection["stopped"].startswith(f"generation 2: {second:.4f} after {first:.4f} (95 % ")
    assert scores[selection["delivered"]] == first
    assert selection["delivered"].startswith("generation 1 ")
    [difference] = selection["differences"]
    assert difference["from"] == selection["delivered"]
    assert difference["score"] == second - first
    low, high = difference["interval"]
    assert low <= difference["score"] <= high
    skipped = [step for step in read(finished, "steps.json") if step["state"] == "skipped"]
    assert {step["note"] for step in skipped} == {selection["stopped"]}


def test_the_best_candidate_is_evaluated_last_and_exported(finished):
    evaluation = read(finished, "evaluation.json")
    delivered = evaluation["selection"]["delivered"]
    assert evaluation["sets"] == evaluation["networks"][delivered]["sets"]
    assert evaluation["sets"].keys() == {"pairs", "train"}
    step = next(step for step in read(finished, "steps.json") if step["name"] == delivered)
    architecture = Architecture("mobilefacenet", 16, (32, 32), 0.125)
    candidate = TrainedNetwork(architecture, Path(step["path"]), step["id"]).embedder()
    picture = open_first(finished)
    expected = embed_mirrored(candidate, decode(picture)[None])
    bundle = distill.load(finished.runs / "family" / "bundle")
    assert bundle.embed([picture]) == pytest.approx(expected, abs=1e-4)


def test_scores_and_reasons_are_shown(finished):
    shown = CliRunner().invoke(app, ["show", "family", "--workspace", str(finished.root)])
    words = " ".join(shown.stdout.split())
    selection = read(finished, "evaluation.json")["selection"]
    for candidate in selection["candidates"]:
        assert f"seed {candidate['seed']} {candidate['score']:.4f}" in words
    assert "skipped" in words
    command = ["show", "family", "--json", "--workspace", str(finished.root)]
    told = json.loads(CliRunner().invoke(app, command).stdout)
    assert told["evaluation"]["selection"] == selection
    assert told["steps"][2]["scores"].keys() == {"generation 1 seed 3", "generation 1 seed 0"}


def test_following_and_asking_the_daemon_tell_the_same(finished):
    finished.daemon.mkdir()
    with Queue(finished.daemon / QUEUE_FILE) as queue:
        queue.submit("family", JOB, 0.0)
        queue.claim(1.0)
        done = Outcome(event=Event.SUCCEED, exit_status=0)
        queue.settle("family", 1, lambda cancelled: done, 2.0)
    steps = read(finished, "steps.json")
    watched = CliRunner().invoke(app, ["watch", "family", "--workspace", str(finished.root)])
    assert steps[2]["name"] == "generation 1 choice"
    assert re.search(r"generation 1 choice: done in [\d.]+ s; seed 3 ", watched.stderr)
    assert f"generation 4 seed 0: skipped; {steps[-3]['note']}" in watched.stderr
    command = ["status", "family", "--json", "--workspace", str(finished.root)]
    assert json.loads(CliRunner().invoke(app, command).stdout)["steps"] == steps


def test_a_second_run_repeats_nothing_and_skips_the_same(finished, tmp_path):
    before = steps_of(finished, "family")
    (tmp_path / "family.toml").write_text(JOB)
    command = [sys.executable, "-m", "distill.cli.main", "run", str(tmp_path / "family.toml")]
    command += ["--workspace", str(finished.root)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=quiet()).stderr
    assert steps_of(finished, "family") == {
        name: "skipped" if state == "skipped" else "reused" for name, state in before.items()
    }
    selection = read(finished, "evaluation.json")["selection"]
    assert f"generation 3 seed 0: skipped: {selection['stopped']}" in told
    assert re.search(r"generation 1 choice: reused in .* s; seed 3 .*, seed 0 .*; best: ", told)


def test_one_more_seed_trains_its_own_candidate_only(finished):
    larger = JOB.replace('"family"', '"larger"').replace("[3, 0]", "[3, 0, 1]")
    states = stop_in(finished, larger, "generation 1 seed 1")
    assert list(states.values())[:3] == ["reused", "reused", "waiting"]


def test_stopped_in_any_candidate_a_job_ends_the_same(
    finished, tmp_path, drawn_store, drawn_folder
):
    workspace = make_workspace(tmp_path, drawn_store, drawn_folder)
    for name in ("generation 1 seed 0", "generation 2 seed 3"):
        assert stop_in(workspace, JOB, name)[name] == "waiting"
    states = stop_in(workspace, JOB, "evaluate")
    assert states["generation 1 seed 0"] == "reused"
    assert states["generation 2 seed 3"] == "done"
    there = {step["name"]: step for step in read(finished, "steps.json")}
    for step in read(workspace, "steps.json"):
        if step["state"] in ("done", "reused"):
            assert step["id"] == there[step["name"]]["id"]
            assert step["scores"] == there[step["name"]]["scores"]
        if step["kind"] == "distil" and step["id"]:
            assert weights_of(workspace, step["id"]) == weights_of(finished, step["id"])


@pytest.fixture
def diverges(monkeypatch):
    """Selects seeds that are trained at a rate at which every training diverges."""
    seeds = set()

    def train_at_another_rate(kind, stage, *rest):
        if stage.settings.seed in seeds:
            update = {"learning_rate": 1e30, "warmup": 0.0}
            stage = replace(stage, settings=stage.settings.model_copy(update=update))
        return train_network(kind, stage, *rest)

    monkeypatch.setattr("distill.pipeline.job.train_network", train_at_another_rate)
    return seeds.update


def test_a_diverging_candidate_is_dropped(finished, diverges):
    diverges({3})
    text = JOB.replace('"family"', '"one-diverges"').replace("count = 4", "count = 2")
    run_job(finished, text, until="evaluate")
    steps = json.loads((finished.runs / "one-diverges" / "steps.json").read_text())
    states = {step["name"]: step["state"] for step in steps}
    for number in (1, 2):
        assert states[f"generation {number} seed 3"] == "skipped"
        assert states[f"generation {number} choice"] in ("done", "reused")
    assert "training has diverged" in steps[0]["note"]
    assert list(steps[2]["scores"]) == ["generation 1 seed 0"]


def test_if_all_candidates_diverge_the_job_says_so(finished, diverges):
    diverges({3, 0})
    with pytest.raises(UserError, match="training has diverged"):
        run_job(finished, JOB.replace('"family"', '"all-diverge"'))


def break_embeddings(monkeypatch, seeds):
    """Candidates of these seeds have embeddings that are not finite."""

    def evaluate(embedder, sets, steps, progress, kept, protocols):
        outcome = evaluate_network(embedder, sets, steps, progress, kept, protocols)
        inputs = json.loads((steps.root / embedder.digest / "inputs.json").read_text())
        if inputs["settings"]["seed"] not in seeds:
            return outcome
        raise UnusableEmbeddingsError("pairs: the network's embedding of image 3 is not finite")

    monkeypatch.setattr("distill.pipeline.job.evaluate_network", evaluate)


def test_a_candidate_with_unusable_embeddings_is_left_out(finished, monkeypatch):
    break_embeddings(monkeypatch, {3})
    text = JOB.replace('"family"', '"one-broken"')
    run_job(finished, text, until="generation 2 seed 3")
    steps = json.loads((finished.runs / "one-broken" / "steps.json").read_text())
    assert list(steps[2]["scores"]) == ["generation 1 seed 0"]
    assert "seed 3 is left out: pairs: the network's embedding of image 3" in steps[2]["note"]


def test_a_job_names_the_network_with_unusable_embeddings(finished, monkeypatch):
    break_embeddings(monkeypatch, {3, 0})
    text = job_text("broken", stage_text(), "[generations]\nseeds = [3]")
    said = r"^generation 1: pairs: the network's embedding of image 3 is not finite"
    with pytest.raises(UserError, match=said):
        run_job(finished, text)


def test_if_no_candidate_is_usable_the_job_says_why(finished, monkeypatch):
    break_embeddings(monkeypatch, {3, 0})
    with pytest.raises(UserError, match=r"of generation 1 is usable: .* image 3 is not"):
        run_job(finished, JOB.replace('"family"', '"all-broken"'))


def stop_in(workspace, text, name):
    """The states after a stop was requested in the middle of that step."""
    spec = parse_spec(text, "spec")
    seen = []

    def observe(event):
        if event.step == name and event.kind in ("metrics", "progress"):
            seen.append(event)

    record = RunRecord(workspace.runs / spec.name, observe, stop=lambda: len(seen) >= 2)
    with pytest.raises(Stopped):
        JobRun(spec, workspace, record, check_fit(spec, workspace)).run()
    return steps_of(workspace, spec.name)


def test_one_seed_needs_no_choice_and_has_the_earlier_names():
    spec = parse_spec(JOB[: JOB.index("[generations]")] + "[generations]\nseeds = [7]", "spec")
    assert [step.name for step in plan(spec)] == ["generation 1", "evaluate", "export"]


def test_a_step_is_named_by_generation_seed_and_stage():
    stage = JOB[JOB.index("[[stage]]") : JOB.index("[generations]")]
    spec = parse_spec(JOB.replace("count = 4", "count = 2") + stage, "spec")
    names = [step.name for step in plan(spec)]
    assert names[:5] == [
        "generation 1 seed 3 stage 1", "generation 1 seed 3 stage 2",
        "generation 1 seed 0 stage 1", "generation 1 seed 0 stage 2", "generation 1 choice",
    ]  # fmt: skip


def candidate(generation, score, seed=0, noise=0.0):
    """A candidate whose score varies randomly by ``noise`` between bootstrap samples."""
    name = f"generation {generation} seed {seed}"
    trained = TrainedNetwork(Architecture("mobilefacenet", 16, (32, 32), 0.125), Path(name), name)
    chance = np.random.default_rng(100 * generation + seed).normal(0, noise, 1000)
    scores = {"a": score + 0.1, "b": score - 0.1}
    return Candidate(name, generation, seed, trained, scores, score + chance)


def generations_with(scores, noise=0.0, **settings):
    generations = Generations(GenerationsSpec(count=9, **settings))
    for number, score in enumerate(scores, start=1):
        generations.add([candidate(number, score, noise=noise)])
    return generations


@pytest.mark.parametrize(
    ("scores", "least_gain", "noise", "stops", "delivered"),
    [
        ([0.80], 0.0, 0.0, False, 1),
        ([0.80, 0.81], 0.0, 0.0, False, 2),
        ([0.80, 0.80], 0.0, 0.0, True, 1),
        ([0.80, 0.79], 0.0, 0.0, True, 1),
        ([0.80, 0.82], 0.05, 0.0, True, 1),
        ([0.80, 0.82], 0.0, 0.03, True, 1),
        ([0.80, 0.82], 0.0, 0.003, False, 2),
        ([0.80, 0.90, 0.85], 0.0, 0.0, True, 2),
        ([0.80, 0.90, 0.91], 0.0, 0.02, True, 2),
    ],
)
def test_without_gain_it_stops_and_keeps_the_previous_one(
    scores, least_gain, noise, stops, delivered
):
    generations = generations_with(scores, noise, stop_without_gain=True, least_gain=least_gain)
    assert (generations.reason_to_stop is not None) is stops
    assert generations.delivered.generation == delivered
    assert generations.in_order_of_delivery[-1] is generations.delivered
    assert len(generations.in_order_of_delivery) == len(scores)


def test_the_reason_has_the_numbers():
    generations = generations_with([0.873, 0.8712], stop_without_gain=True)
    assert generations.reason_to_stop == (
        "generation 2: 0.8712 after 0.8730 (95 % interval of the difference: -0.0018 to -0.0018); "
        "no gain"
    )


def test_a_gain_within_noise_is_reported_and_recorded():
    generations = generations_with([0.80, 0.82], noise=0.03, stop_without_gain=True)
    assert generations.reason_to_stop.endswith("; the gain is within noise")
    record = generations.record()
    [difference] = record["differences"]
    assert (difference["from"], difference["to"]) == ("generation 1 seed 0", "generation 2 seed 0")
    assert difference["score"] == pytest.approx(0.02)
    low, high = difference["interval"]
    assert low < 0 < high
    assert not difference["more_than_noise"]
    assert record["delivered"] == "generation 1 seed 0"
    assert record["stopped"] == generations.reason_to_stop


def test_without_a_wanted_gain_the_last_generation_counts():
    generations = generations_with([0.9, 0.8])
    assert generations.reason_to_stop is None
    assert generations.delivered.generation == 2


def test_the_best_seed_continues_the_first_of_equals():
    generations = Generations(GenerationsSpec(seeds=[5, 6, 7]))
    generations.add([candidate(1, score, seed) for seed, score in [(5, 0.7), (6, 0.9), (7, 0.9)]])
    assert generations.start is generations.best[0].trained
    assert generations.best[0].seed == 6
    assert generations.note == (
        "seed 5 0.7000, seed 6 0.9000, seed 7 0.9000; best: seed 6 (within noise of it: 7)"
    )


def test_a_seed_that_leads_by_noise_continues_and_is_called_so():
    generations = Generations(GenerationsSpec(seeds=[5, 6]))
    generations.add([candidate(1, 0.80, 5, noise=0.03), candidate(1, 0.81, 6, noise=0.03)])
    assert generations.best[0].seed == 6
    assert generations.note.endswith("; best: seed 6 (within noise of it: 5)")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[3, 0]", "[3, 3]", "generations.seeds: .* has a duplicate"),
        ("[3, 0]", "[-1]", "generations.seeds 1: -1 is below 0"),
        ("count = 4", "count = 1", "stop_without_gain: needs a count above 1"),
        ("stop_without_gain = true", "", "least_gain: needs stop_without_gain = true"),
        ("count = 4", 'count = 4\nselect_on = ["lfw"]',
         "'lfw' is not in data.evaluate; allowed: pairs, drawn/train"),
        ("count = 4", 'count = 4\nselect_on = ["drawn/train"]',
         "'drawn/train' is not a set of pairs .*allowed: pairs"),
        ('["pairs", "drawn/train"]', '["drawn/train"]', "data.evaluate names none"),
        ('["pairs", "drawn/train"]', "[]", "data.evaluate names none"),
    ],
)  # fmt: skip
def test_an_impossible_choice_is_refused_in_one_line(finished, old, new, words):
    assert old in JOB
    with pytest.raises(UserError, match=words) as error:
        checked_job(JOB.replace(old, new), finished)
    assert "\n" not in str(error.value)


def test_a_teacher_alone_has_no_generations():
    teacher = """
    name = "alone"
    data = { train = "drawn/train", evaluate = ["pairs"] }
    generations = { count = 2 }
    [teacher]
    network = { backbone = "iresnet18" }
    stage = { epochs = 1, losses = { arcface = {} } }
    """
    with pytest.raises(UserError, match=r"generations: they apply to a student"):
        parse_spec(teacher, "spec")


def test_sets_for_the_choice_can_be_named_and_need_a_choice(finished, drawn_folder):
    shutil.copy(drawn_folder / "pairs.bin", finished.datasets / "drawn" / "more.bin")
    text = JOB.replace('["pairs", ', '["pairs", "more", ')
    chosen = text.replace("count = 4", 'count = 4\nselect_on = ["more"]')
    assert checked_job(chosen, finished).generations.select_on == ["more"]
    unchosen = f'{text[: text.index("count")]}select_on = ["more"]\n'
    with pytest.raises(UserError, match="select_on: needs several seeds"):
        checked_job(unchosen, finished)
