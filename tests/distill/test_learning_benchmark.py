"""The benchmark of the recipes: its jobs can be run, and its table says what was measured."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from learning import tasks
from learning_page import ALONE, BOTH, COLUMNS, CONTROL, SECOND, bars, ends, table
from learning_recipes import RECIPES, ROWS, STUDENTS, spec
from learning_scores import Scorer, _curve, _last_stages

from curation.workspace import Workspace
from distill.backbones import lookup
from distill.losses import parse_losses
from distill.spec_text import parse_spec

JOBS = [(student, recipe) for student in STUDENTS for recipe in student.recipes]


@pytest.mark.parametrize(("student", "recipe"), JOBS, ids=lambda each: getattr(each, "name", each))
def test_every_job_is_a_spec_that_the_product_takes(student, recipe):
    job = parse_spec(spec(student, recipe, student.seeds[0], "sface.onnx", 593), "job")
    lookup(job.student.backbone)
    for stage in job.stage:
        parse_losses(stage.losses, "stage.losses")
    assert sum(stage.epochs for stage in job.stage) == student.epochs


@pytest.mark.parametrize("epochs", [3, 4, 9])
def test_the_progressive_stages_share_the_epochs(epochs):
    text = spec(replace(STUDENTS[0], epochs=epochs), "progressive", 0, "sface.onnx", 593)
    stages = [stage.epochs for stage in parse_spec(text, "job").stage]
    assert sum(stages) == epochs
    assert stages[0] >= stages[1] == stages[2] > 0


def test_recipes_that_share_steps_are_trained_in_turn():
    trained = tasks(STUDENTS)
    jobs = [(student.name, seed, recipe) for student, seed, names in trained for recipe in names]
    assert sorted(jobs) == sorted(
        (student.name, seed, recipe)
        for student in STUDENTS
        for seed in student.seeds
        for recipe in student.recipes
        if seed == 0 or recipe not in student.once
    )
    assert (STUDENTS[0], 0, ["arcface", "arcface-generations"]) in trained


def test_a_student_is_trained_alike_but_for_the_recipe():
    for student in STUDENTS:
        given = [tomllib.loads(spec(student, recipe, 0, "t.onnx", 9)) for recipe in student.recipes]
        assert all(job["train"] == given[0]["train"] for job in given)
        assert all(job["student"] == given[0]["student"] for job in given)


def test_every_row_is_a_generation_that_its_recipe_trains():
    assert all(1 <= row.generation <= RECIPES[row.recipe][1] for row in ROWS)


def result(student, row, *seeds):
    """Scores that are all the same for each of the ``seeds``."""
    sets = {each: {score: 0.0 for _, name, score in COLUMNS if name == each}
            for _, each, _ in COLUMNS}  # fmt: skip
    filled = [
        {each: dict.fromkeys(scores, seed) for each, scores in sets.items()} for seed in seeds
    ]
    return {"student": student, "row": row, "seeds": dict(enumerate(filled))}


def test_the_table_has_mean_and_deviation_over_seeds():
    text = table([result(None, "teacher", 0.9), result("small", ALONE, 0.5, 0.7)])
    assert text.splitlines()[2] == "|  | teacher |" + " 0.900 |" * 9
    assert text.splitlines()[3] == f"| small | {ALONE} |" + " 0.600 ± 0.100 |" * 9


def test_the_bars_say_what_was_reached():
    teacher, alone = result(None, "teacher", 1.0), result("small", ALONE, 0.5)
    lines = bars([teacher, alone, result("small", BOTH, 0.7), result("small", SECOND, 0.82)])
    assert "LFW TAR +20.0" in lines[0]
    assert lines[0].endswith(": reached")
    assert "lfw +12.0" in lines[1]
    assert lines[1].endswith(": reached")
    assert f"{SECOND}: lfw 64% (bar 60%), cfp_ff 64% (bar 60%), cfp_fp 64%" in lines[2]
    assert lines[2].endswith(": reached")


@pytest.mark.parametrize(("both", "second"), [(0.54, 0.52)])
def test_the_bars_say_what_was_not_reached(both, second):
    teacher, alone = result(None, "teacher", 1.0), result("small", ALONE, 0.5)
    lines = bars([teacher, alone, result("small", BOTH, both), result("small", SECOND, second)])
    assert all(line.endswith(": not reached") for line in lines)


def test_the_bars_have_a_control_which_is_no_recipe():
    teacher, alone = result(None, "teacher", 1.0), result("small", ALONE, 0.5)
    lines = bars([teacher, alone, result("small", BOTH, 0.8), result("small", CONTROL, 0.9)])
    assert f"closed by the best recipe, {BOTH}: lfw 60%" in lines[1]
    assert f"gap from {CONTROL} to the teacher" in lines[2]


def test_every_title_that_the_bars_ask_for_is_a_row():
    assert {ALONE, BOTH, SECOND, CONTROL} <= {row.title for row in ROWS}


def test_the_plot_marks_the_seeds_after_each_generation():
    results = [result(None, "teacher", 1.0), result(STUDENTS[0].name, BOTH, 0.5, 0.7)]
    results += [result(STUDENTS[0].name, SECOND, 0.8), result("another", SECOND, 0.1)]
    epochs = STUDENTS[0].epochs
    found = ends(results, ["both", "four-generations"], STUDENTS[0])
    assert np.allclose(found, [(epochs, 0.6, 0.1), (2 * epochs, 0.8, 0.0)])


def test_a_curve_counts_epochs_over_all_stages_and_jobs(tmp_path):
    lines = [
        {"step": "generation 1", "epoch": 1.9, "loss_total": 3.0},
        {"step": "generation 1", "epoch": 2.0, "loss_total": 2.0},
        {"step": "generation 1", "iteration": 20, "score": 0.7},
        {"step": "generation 2", "epoch": 1.0, "loss_total": 1.0},
        {"step": "generation 2", "iteration": 10, "score": 0.8},
    ]
    jobs = [tmp_path / "shorter.jsonl", tmp_path / "longer.jsonl", tmp_path / "not begun.jsonl"]
    for path, own in zip(jobs, (lines[:3], lines[3:]), strict=False):
        path.write_text("".join(json.dumps(line) + "\n" for line in own))
    assert _curve(jobs) == [(2.0, 0.7), (3.0, 0.8)]


def test_a_generation_counts_when_its_last_stage_is_done(tmp_path):
    steps = [
        {"name": "generation 1 stage 1", "kind": "distil", "state": "done", "path": "a"},
        {"name": "generation 1 stage 2", "kind": "distil", "state": "reused", "path": "b"},
        {"name": "generation 2 stage 1", "kind": "distil", "state": "done", "path": "c"},
        {"name": "generation 2 stage 2", "kind": "distil", "state": "running", "path": "d"},
    ]
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    assert {g: path.name for g, path in _last_stages(tmp_path).items()} == {1: "b"}


def test_what_is_not_trained_yet_has_no_row(tmp_path):
    scorer = Scorer(Workspace(tmp_path), [])
    assert not any(scorer.curves(STUDENTS[0]).values())
