"""A whole job on tiny data: every step, nothing repeated, and a complete run directory."""

import json
import signal
import subprocess
import sys

import pytest
from small_job import (
    make_workspace,
    open_first,
    quiet,
    run_job,
    steps_of,
    teacher_text,
    wait_for,
    whole_job_text,
)

import distill
from distill.daemon.delivery import deliver


@pytest.fixture(scope="module")
def finished(tmp_path_factory, drawn_store, drawn_folder):
    """The workspace after the job."""
    workspace = make_workspace(tmp_path_factory.mktemp("work"), drawn_store, drawn_folder)
    run_job(workspace, whole_job_text())
    return workspace


def test_every_step_is_done_in_order(finished):
    assert list(steps_of(finished, "tiny").items()) == [
        ("teach", "done"), ("embed", "done"), ("generation 1", "done"),
        ("generation 2", "done"), ("evaluate", "done"), ("export", "done"),
    ]  # fmt: skip


def test_a_second_run_repeats_nothing(finished):
    before = distill.load(finished.runs / "tiny" / "bundle").embed([open_first(finished)])
    assert set(run_job(finished, whole_job_text()).values()) == {"reused"}
    after = distill.load(finished.runs / "tiny" / "bundle").embed([open_first(finished)])
    assert (before == after).all()


def test_another_job_reuses_equal_steps_and_runs_the_rest(finished):
    other = whole_job_text("other").replace("angular = {}", "angular = { weight = 3.0 }")
    assert run_job(finished, other) == {
        "teach": "reused", "embed": "reused", "generation 1": "done",
        "generation 2": "done", "evaluate": "done", "export": "done",
    }  # fmt: skip


def test_a_finished_job_is_a_teacher(finished):
    pupil = whole_job_text("pupil", teacher='[teacher]\nfrom = "tiny"\n')
    assert run_job(finished, pupil, until="generation 1")["embed"] == "done"
    resolved = json.loads((finished.runs / "pupil" / "resolved.json").read_text())
    assert resolved["spec"]["teacher"]["from"] == "tiny"


def test_the_run_directory_records_everything(finished):
    folder = finished.runs / "tiny"
    resolved = json.loads((folder / "resolved.json").read_text())
    assert resolved["spec"]["train"]["momentum"] == 0.9
    assert resolved["versions"]["torch"]
    assert len(resolved["images"]["digest"]) == 64
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in metrics} >= {"generation 1", "generation 2"}
    assert (folder / "checkpoints" / "generation-1" / "checkpoints").is_dir()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert set(evaluation["networks"]) == {"teacher", "generation 1", "generation 2"}
    for report in evaluation["networks"].values():
        assert 0 <= report["sets"]["pairs"]["accuracy"] <= 1


def test_the_second_generation_starts_from_the_first(finished):
    steps = json.loads((finished.runs / "tiny" / "steps.json").read_text())
    by_name = {step["name"]: step for step in steps}
    inputs = json.loads(
        (finished.steps / by_name["generation 2"]["id"] / "inputs.json").read_text()
    )
    assert inputs["start"] == by_name["generation 1"]["id"]
    assert inputs["teacher"] == by_name["embed"]["id"]


def test_the_bundle_embeds_as_the_network_that_was_evaluated(finished):
    bundle = distill.load(finished.runs / "tiny" / "bundle")
    features = bundle.embed([open_first(finished)])
    assert features.shape == (1, 16)
    assert bundle.config.architecture == "mobilefacenet"
    assert bundle.config.face.preprocessing.size == (32, 32)


def test_a_job_exports_the_formats_that_it_names(finished, drop_in_format):
    drop_in_format("letters")
    formats = '[export]\nformats = ["letters"]\n'
    steps = run_job(finished, whole_job_text("exported", formats))
    assert steps["evaluate"] == "reused"
    assert steps["export"] == "done"
    bundle = distill.load(finished.runs / "exported" / "bundle")
    assert list(bundle.config.formats) == ["letters"]
    assert deliver(bundle.path.resolve(), finished.bundles / "exported")
    assert (finished.bundles / "exported" / "letters" / "net.bin").is_file()


def test_a_job_warns_of_a_format_that_its_bundle_lacks(finished, drop_in_format):
    drop_in_format("letters", factor="(-1)")
    formats = '[export]\nformats = ["onnx", "letters"]\n'
    assert run_job(finished, whole_job_text("lacking", formats))["export"] == "done"
    assert list(distill.load(finished.runs / "lacking" / "bundle").config.formats) == ["onnx"]
    *_, notice = json.loads((finished.runs / "lacking" / "warnings.json").read_text())
    assert notice["text"].startswith("the bundle has no letters file: the letters export gives")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_stopped_or_killed_distill_run_continues_where_it_was(
    tmp_path, drawn_store, drawn_folder, number
):
    workspace = make_workspace(tmp_path / "work", drawn_store, drawn_folder)
    long = teacher_text(epochs=150, train="checkpoint_every = 5, log_every = 1")
    spec = tmp_path / "tiny.toml"
    spec.write_text(whole_job_text(teacher=long))
    command = [sys.executable, "-m", "distill.cli.main", "run", str(spec)]
    command += ["--workspace", str(workspace.root)]
    metrics = workspace.runs / "tiny" / "metrics.jsonl"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=quiet()) as process:
        wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 12)
        process.send_signal(number)
        process.wait(60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert steps_of(workspace, "tiny")["generation 1"] == "waiting"
    before = metrics.read_text().count("\n")

    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=quiet()) as process:
        wait_for(lambda: metrics.read_text().count("\n") > before)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    first = json.loads(metrics.read_text().splitlines()[before])
    assert 10 <= first["iteration"] <= before + 1
    if number != signal.SIGKILL:
        assert first["iteration"] == before + 1


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ('"mobilefacenet"', '"mobilefacenett"', "'mobilefacenett' is not known"),
        ("log_every = 1", 'precision = "bf17"', "precision"),
        ("batch_size = 12, log", "batch_size = 1000000, log", "batch_size"),
    ],
    ids=["a name", "a value", "what does not fit"],
)
def test_a_spec_that_cannot_run_does_not_take_the_name(
    tmp_path, drawn_store, drawn_folder, good, bad, words
):
    workspace = make_workspace(tmp_path / "work", drawn_store, drawn_folder)
    spec = tmp_path / "wrong.toml"
    spec.write_text(whole_job_text().replace(good, bad))
    command = [sys.executable, "-m", "distill.cli.main", "run", str(spec)]
    command += ["--workspace", str(workspace.root)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet())
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("error: ")
    assert words in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not (workspace.runs / "tiny").exists()
