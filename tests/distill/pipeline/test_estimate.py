"""The estimated cost of a job: every step of it; finished steps cost nothing."""

import json
import shutil

import psutil
import pytest
from small_job import (
    ARCFACE,
    job_text,
    make_workspace,
    network_text,
    run_job,
    stage_text,
    teacher_text,
    whole_job_text,
)
from typer.testing import CliRunner

from curation.errors import UserError
from distill.cli.estimating import estimated
from distill.cli.main import app
from distill.pipeline import estimate as estimating
from distill.pipeline import evaluation_fit
from distill.pipeline.estimate import estimate
from distill.pipeline.fit import Fit, check_job
from distill.pipeline.measuring import FEW, DrawnAnswers, step_time
from distill.pipeline.peak_memory import private_bytes
from distill.pipeline.planning import plan
from distill.pipeline.training import student_stage
from distill.pipeline.training_images import open_training_images
from distill.run_directory import SPEC
from distill.spec_text import SpecFile
from distill.training.memory import give_back_memory

LEARN = stage_text(f"{ARCFACE}, angular = {{}}")


@pytest.fixture
def workspace(tmp_path, drawn_store, drawn_folder):
    return make_workspace(tmp_path, drawn_store, drawn_folder)


@pytest.fixture
def quick_export(monkeypatch):
    """An export takes most of the time here; other tests measure it."""
    monkeypatch.setattr(estimating, "export_time", lambda *about: (1.0, 1000))


def cost_of(workspace, text, limit=4.0):
    spec = SpecFile.parse(text, "spec")
    return estimate(spec.job, workspace, check_job(spec, workspace), limit)


def run_whole(workspace, text):
    """Run the job as `distill run` does."""
    run_job(workspace, text)
    (workspace.runs / SpecFile.parse(text, "spec").job.name / SPEC).write_text(text)


def seconds_of(found, name):
    (step,) = (step for step in found.steps if step.name == name)
    return step.seconds


def states(found):
    return {step.name: step.state for step in found.steps}


def written(workspace):
    return sorted(path for path in workspace.root.rglob("*") if "datasets" not in path.parts)


def test_every_step_has_a_time_and_nothing_is_written(workspace):
    text = whole_job_text()
    before = written(workspace)
    found = cost_of(workspace, text)
    assert written(workspace) == before
    spec = SpecFile.parse(text, "spec").job
    assert [step.name for step in found.steps] == [step.name for step in plan(spec)]
    assert set(states(found).values()) == {"waiting"}
    assert all(step.seconds > 0 for step in found.steps)
    assert found.seconds == pytest.approx(sum(step.seconds for step in found.steps))
    assert found.cache_bytes == found.steps[1].disk_bytes > 0
    assert found.disk_bytes > found.cache_bytes
    assert found.memory_bytes > 10 << 20


def test_finished_work_costs_nothing(workspace):
    run_whole(workspace, whole_job_text())
    found = cost_of(workspace, whole_job_text())
    assert set(states(found).values()) == {"done"}
    assert found.seconds == found.disk_bytes == 0
    # The same holds for the steps of another job.
    more = whole_job_text("more").replace("count = 2", "count = 3")
    found = states(cost_of(workspace, more))
    done = {"teach", "embed", "generation 1", "generation 2"}
    assert {name for name, state in found.items() if state == "done"} == done


@pytest.mark.parametrize(
    "train",
    [
        pytest.param("log_every = 1", id="plain"),
        pytest.param(
            'ema = 0.9, evaluate_every = 2, keep = "best", checkpoint_every = 1, '
            'optimiser = "adamw", learning_rate = 0.001',
            id="averages, the best and the last two",
        ),
    ],
)
def test_the_disk_space_is_what_the_job_then_takes(workspace, train):
    text = job_text(
        "sized", teacher_text(), LEARN, train=train, evaluate='["pairs", "drawn/train"]'
    )
    found = cost_of(workspace, text)
    before = bytes_of(workspace.root)
    run_whole(workspace, text)
    assert found.disk_bytes == pytest.approx(bytes_of(workspace.root) - before, rel=0.1)
    arrays = ("unit.npy", "norm.npy", "rows.npy")
    cached = [each for each in workspace.cache.glob("*/*.npy") if each.name in arrays]
    headers = 128 * len(cached)
    assert found.cache_bytes + headers == sum(each.stat().st_size for each in cached)


def bytes_of(folder):
    files = (each for each in folder.rglob("*") if not each.is_symlink() and each.is_file())
    return sum(each.stat().st_size for each in files)


def test_of_a_stopped_training_only_the_rest_is_left(quick_export, workspace):
    text = job_text("half", stage_text(epochs=4), train="checkpoint_every = 1")

    def left():
        return next(step for step in cost_of(workspace, text).steps if step.kind == "distil")

    assert left().state == "waiting"
    steps = int(left().note.split()[0])
    run_job(workspace, text, until="generation 1")
    assert left().state == "begun"
    assert 0 < int(left().note.split()[0]) < steps


@pytest.mark.slow
def test_stages_seeds_and_choices_are_counted(quick_export, workspace):
    stages = LEARN + stage_text("triplet = {}", more='sampler = { kind = "pk", images = 2 }')
    generations = "[generations]\ncount = 2\nseeds = [0, 1]\n"
    text = job_text("seeds", teacher_text(), stages, generations)
    found = cost_of(workspace, text)
    spec = SpecFile.parse(text, "spec").job
    assert [step.name for step in found.steps] == [step.name for step in plan(spec)]
    run_whole(workspace, text)
    assert set(states(cost_of(workspace, text)).values()) == {"done"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        "[augment]\nviews = 6\n",
        '[augment]\nviews = "fresh"\nteacher_sees = "plain"\n',
        "[augment]\nviews = 4\nmix = 0.3\n",
    ],
)
def test_augmented_views_are_embedded_and_made(quick_export, workspace, more):
    plain = cost_of(workspace, job_text("views", teacher_text(), LEARN))
    found = cost_of(workspace, job_text("views", teacher_text(), LEARN, more))
    assert found.seconds > 0
    asked = 'views = "fresh"' not in more
    assert (found.cache_bytes > plain.cache_bytes) == asked


@pytest.mark.parametrize("answers", ["float16", "online"])
def test_the_trial_of_the_teacher_is_counted(quick_export, workspace, monkeypatch, answers):
    teacher = teacher_text().replace("[teacher]\n", f'[teacher]\nanswers = "{answers}"\n')
    text = job_text("tried", teacher, LEARN)
    monkeypatch.setattr(estimating, "teacher_seconds", lambda *about: 0.5)
    images = 0 if answers == "online" else 2 * 48
    assert seconds_of(cost_of(workspace, text), "embed") == 0.5 * images
    # The drawn images are of too few people for a trial.
    monkeypatch.setattr(estimating, "trial_size", lambda images: 40)
    assert seconds_of(cost_of(workspace, text), "embed") == 0.5 * (images + 40)


def test_a_finished_job_with_an_online_teacher_costs_nothing(workspace):
    teacher = teacher_text().replace("[teacher]\n", '[teacher]\nanswers = "online"\n')
    text = job_text("live", teacher, LEARN)
    run_whole(workspace, text)
    assert set(states(cost_of(workspace, text)).values()) == {"done"}
    shutil.rmtree(workspace.runs / "live")  # trainings are found by their inputs
    found = states(cost_of(workspace, text))
    assert [found["teach"], found["embed"]] == ["done", "waiting"]
    assert found["generation 1"] == "done"


def test_a_step_that_takes_too_long_is_measured_in_part(workspace):
    text = job_text("large", LEARN.replace(", angular = {}", ""), batch=48)
    spec = SpecFile.parse(text, "spec").job
    images = open_training_images(spec.data, workspace)
    architecture = estimating.student_architecture(spec, None, None)
    training = student_stage(spec, 0, 0, architecture, None).training(images, None)
    part = step_time(training, 1, budget=0.0)
    assert FEW <= part.images < 48
    assert part.seconds > 0
    whole = step_time(training, 1, budget=600.0)
    assert whole.images == 48
    assert whole.state == part.state
    halves = step_time(training, 2, budget=600.0)
    assert halves.images == 24


def test_a_partly_measured_step_tells_the_memory_of_a_whole_one(workspace):
    student = network_text(size=(64, 64), width=1.0)
    text = job_text("wide", stage_text(), student=student, batch=48)
    spec = SpecFile.parse(text, "spec").job
    images = open_training_images(spec.data, workspace)
    architecture = estimating.student_architecture(spec, None, None)
    training = student_stage(spec, 0, 0, architecture, None).training(images, None)
    give_back_memory()
    before = private_bytes(psutil.Process())
    part = step_time(training, 1, budget=0.0)
    assert part.images < 24
    whole = step_time(training, 1, budget=600.0)
    assert whole.images == 48
    assert whole.memory - before > 200e6
    assert part.memory - before == pytest.approx(whole.memory - before, rel=0.3)


def test_many_micro_batches_are_measured_with_two_images_each(quick_export, workspace):
    """One image at a time has no statistics for a normalisation over images."""
    text = job_text("micro", stage_text(), batch=48, train="accumulate = 16")
    assert seconds_of(cost_of(workspace, text), "generation 1") > 0


def test_if_memory_is_short_nothing_is_tried(quick_export, workspace, monkeypatch):
    monkeypatch.setattr(estimating, "_available_memory", lambda: 1)
    found = cost_of(workspace, job_text("big", LEARN.replace(", angular = {}", "")))
    assert found.seconds is None
    assert "not measured, as it takes" in found.steps[0].note


def test_drawn_answers_are_unit_vectors_of_the_row(workspace):
    import numpy as np

    answers = DrawnAnswers("digest", 8)
    rows = np.array([3, 5000, 3])
    found = answers.vectors(rows, 0)
    assert found.shape == (3, 8)
    assert answers.vectors(rows, slice(None)).shape == (3, 2, 8)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_allclose(np.linalg.norm(found.astype(float), axis=1), 1, atol=1e-2)


@pytest.mark.parametrize(
    ("text", "awaited"),
    [
        (job_text("student", LEARN, '[teacher]\nfrom = "r100"\n'), "the teacher"),
        (
            job_text("student", stage_text(), student='{ from = "r100" }'),
            "the network in student.from",
        ),
    ],
    ids=["teacher", "beginning"],
)
def test_a_network_to_come_cannot_be_measured(workspace, text, awaited):
    spec = SpecFile.parse(text, "jobs/student.toml")
    with pytest.raises(
        UserError, match=f"jobs/student.toml: another job has yet to make {awaited}"
    ):
        estimated(spec, workspace, Fit([], None), as_json=True)


def test_formats_in_int8_are_no_part_of_the_estimate(quick_export, workspace, monkeypatch):
    monkeypatch.setattr(evaluation_fit, "LEAST", 1)
    found = cost_of(workspace, whole_job_text() + '\n[export]\nformats = ["onnx-int8"]\n')
    assert found.steps[-1].seconds == 1.0
    assert "without onnx-int8" in found.steps[-1].note


def test_check_says_it_as_a_table_and_as_json(quick_export, workspace, tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(job_text("plain", LEARN.replace(", angular = {}", "")))
    given = ["check", str(path), "--estimate", "--workspace", str(workspace.root)]
    shown = CliRunner().invoke(app, given)
    assert shown.exit_code == 0, shown.exception
    assert "generation 1" in shown.stdout
    assert "in all" in shown.stdout
    told = json.loads(CliRunner().invoke(app, [*given, "--json"]).stdout)
    assert [step["name"] for step in told["estimate"]["steps"]] == [
        "generation 1",
        "evaluate",
        "export",
    ]
    assert told["estimate"]["seconds"] > 0
    assert told["name"] == "plain"
