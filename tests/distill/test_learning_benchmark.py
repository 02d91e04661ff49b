"""The benchmark of the recipes: its jobs are valid, and its tables show what was measured."""

import json
import tomllib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from learning import chosen, tasks
from learning_degraded import DEGRADATIONS, SHIFT, degraded
from learning_page import BARS, COLUMNS, MISSING, adds_views, bars, losses, tables
from learning_recipes import RECIPES, STUDENTS, epochs_of, job_name, passes, spec
from learning_results import (
    TEACHER,
    Result,
    merged,
    over_seeds,
    read_results,
    write_results,
)
from learning_rows import SECTIONS
from learning_scores import (
    DEGRADED_SETS,
    PAIRS,
    SETS,
    Scorer,
    compared,
    curve_of,
    last_stages,
)

from curation.images import decode
from curation.pairs import VerificationPairs
from curation.workspace import Workspace
from distill.backbones import lookup
from distill.losses import parse_losses
from distill.spec_text import parse_spec

SMALL = STUDENTS[0]
ROWS = [row for section in SECTIONS for row in section.rows]
JOBS = [(student, recipe) for student in STUDENTS for recipe in student.recipes]


@pytest.mark.parametrize(("student", "recipe"), JOBS, ids=lambda each: getattr(each, "name", each))
def test_every_job_is_a_spec_that_the_product_takes(student, recipe):
    job = parse_spec(spec(student, recipe, 0, "sface.onnx", 593), "job")
    begins = RECIPES[recipe].begins
    if begins:
        assert job.student.source == job_name(student, begins, 0)
    else:
        lookup(job.student.backbone)
    for stage in job.stage:
        parse_losses(stage.losses, "stage.losses")
    trained = [stage.epochs for stage in job.stage if stage.freeze is None]
    assert sum(trained) == epochs_of(student, recipe)


@pytest.mark.parametrize("epochs", [3, 4, 9])
def test_the_progressive_stages_share_the_epochs(epochs):
    text = spec(replace(SMALL, epochs=epochs), "progressive", 0, "sface.onnx", 593)
    stages = [stage.epochs for stage in parse_spec(text, "job").stage]
    assert sum(stages) == epochs
    assert stages[0] >= stages[1] == stages[2] > 0


def test_recipes_that_share_steps_are_trained_in_turn():
    trained = tasks(STUDENTS, [0, 1])
    jobs = [(student.name, seed, recipe) for student, seed, names in trained for recipe in names]
    assert sorted(jobs) == sorted(
        (student.name, seed, recipe)
        for student in STUDENTS
        for seed in (0, 1)
        for recipe in student.recipes
    )
    assert (SMALL, 0, ["arcface", "arcface-generations"]) in trained
    assert (STUDENTS[2], 0, ["fresh-half-plain", "continued"]) in trained


def test_a_second_schedule_counts_the_epochs_of_the_first():
    full = STUDENTS[2]
    assert passes(full, "continued", 1) == passes(full, "fresh-half-plain", 1) + 12


def test_rows_can_be_chosen():
    assert chosen([]) == STUDENTS
    assert chosen(["seesaw"]) == [STUDENTS[1]]
    some = chosen(["mobilefacenet/mirror", "mobilefacenet/views-16", "full-size"])
    assert [(student.name, student.recipes) for student in some] == [
        ("mobilefacenet", ("mirror", "views-16")),
        ("full-size", STUDENTS[2].recipes),
    ]
    assert chosen(["full-size/continued"])[0].recipes == ("fresh-half-plain", "continued")


def test_a_student_is_trained_alike_but_for_the_recipe():
    for student in STUDENTS:
        fresh = [recipe for recipe in student.recipes if not RECIPES[recipe].begins]
        given = [tomllib.loads(spec(student, recipe, 0, "t.onnx", 9)) for recipe in fresh]
        for job in given:
            job["train"].pop("evaluate_every")
            job["student"].pop("dropout", None)
        assert all(job["train"] == given[0]["train"] for job in given)
        assert all(job["student"] == given[0]["student"] for job in given)


def test_every_row_is_trained_and_every_recipe_has_a_row():
    assert all(1 <= row.generation <= RECIPES[row.recipe].generations for row in ROWS)
    assert {row.recipe for row in ROWS} == set(RECIPES)


def test_generations_have_a_schedule_of_the_same_length():
    one_schedule = {recipe for recipe in RECIPES.values() if recipe.generations == 1}
    for row in (row for row in ROWS if row.generation > 1):
        recipe = RECIPES[row.recipe]
        control = replace(recipe, generations=1, times=recipe.times * row.generation)
        assert control in one_schedule


def test_the_control_of_a_row_with_views_lacks_only_them():
    controls = {row.recipe: row.against for row in ROWS if adds_views(row)}
    assert controls["fresh-half-plain-long"] == "mirror-long"
    assert controls["views-16"] == "mirror"
    assert "views-dropout" not in controls
    assert "mirror-dropout" not in controls


def result(student, recipe, value, generation=1, degraded=None):
    """Scores that are all equal, except those of degraded pairs."""
    scores = {each: {score: (value, 0.0) for _, name, score in COLUMNS if name == each}
              for each in SETS}  # fmt: skip
    for each in DEGRADED_SETS if degraded is not None else ():
        scores[each] = {"accuracy": (degraded, 0.0)}
        scores["angular"] = {"train": (0.3, 0.0), "test": (0.7, 0.0)}
    return Result(student, recipe, generation, 1, scores)


def test_a_table_has_mean_and_deviation_and_says_what_is_missing():
    seeds = [{"lfw": {"accuracy": value}} for value in (0.5, 0.7)]
    small = over_seeds(SMALL.name, "arcface", 1, seeds, [])
    lines = tables([result(TEACHER, "t.onnx", 0.9), small]).splitlines()
    assert lines[4] == "| teacher | t.onnx |  |" + " 0.900 |" * len(COLUMNS)
    assert lines[5] == "| mobilefacenet | ArcFace alone | 4 | 0.600 ± 0.100 |" + "  |" * 5
    assert f"{MISSING}: `mobilefacenet/both` (ArcFace + angular (Eq. 5, α = 7), 4); " in lines[7]


def test_a_row_and_its_control_are_trained_equally_long():
    for row in (row for row in ROWS if row.against):
        students = [each for each in STUDENTS if {row.recipe, row.against} <= {*each.recipes}]
        assert students
        for student in students:
            epochs = passes(student, row.recipe, row.generation)
            assert epochs == passes(student, row.against, 1)


@pytest.mark.parametrize(
    ("spread", "verdict"), [(0.001, "more than noise"), (0.1, "noise")], ids=["small", "large"]
)
def test_a_row_is_compared_with_its_control_by_the_bootstrap(spread, verdict):
    control, row = result(SMALL.name, "mirror", 0.90), result(SMALL.name, "views-16", 0.92)
    chance = np.random.default_rng(0).normal(0, spread, 1000)
    draws = {control.key: np.full(1000, 0.90), row.key: 0.92 + chance}
    [_, found] = compared([control, row], draws)
    gain, low, high = found.differences["mirror"]
    assert gain == pytest.approx(0.02)
    assert low < gain < high
    [line] = [line for line in tables([control, found]).splitlines() if "| 16 views |" in line]
    assert line.endswith(f"| `mirror`: +0.020 ({low:+.3f} to {high:+.3f}), {verdict} |")


def test_the_table_of_degraded_pairs_says_what_they_cost():
    text = tables([result(SMALL.name, "mirror", 0.9, degraded=0.85)])
    assert "| mobilefacenet | mirror only | 16 | 0.900 |" + " 0.850 (-5.0) |" * 6 in text
    assert " (-5.0) | 0.300 | 0.700 |" in text


def test_the_bars_say_what_was_reached_and_what_was_not():
    control = BARS[SMALL.name, "48 epochs"][0]
    for value, word in ((0.97, "reached"), (0.95, "not reached")):
        [line] = [line for line in bars([result(SMALL.name, control, value)]) if control in line]
        assert line.endswith(f": {word}")
    assert any("not trained yet" in line for line in bars([result(SMALL.name, "mirror", 0.99)]))


def test_views_are_held_against_what_their_control_loses():
    control = result(SMALL.name, "mirror", 0.95, degraded=0.85)
    for value, word in ((0.93, "reached"), (0.88, "not reached")):
        views = result(SMALL.name, "views-16", 0.96, degraded=value)
        assert bars([control, views])[-1].endswith(f": {word}")
        assert losses(views)["dark"] == pytest.approx(0.96 - value)


def test_more_seeds_are_not_replaced_by_fewer(tmp_path):
    three = replace(result("small", "mirror", 0.5), seeds=3)
    one, other = result("small", "mirror", 0.7), result("small", "mirror", 0.8, generation=2)
    found = merged([three], [one, other])
    assert found == [three, other]
    assert merged([one], [three]) == [three]
    write_results(found, tmp_path / "kept.json")
    kept = read_results(tmp_path / "kept.json")
    assert [each.key for each in kept] == [each.key for each in found]
    assert kept[0].mean("lfw") == 0.5


def test_recorded_results_belong_to_rows():
    students = {student.name: student for student in STUDENTS}
    rows = {(row.recipe, row.generation) for row in ROWS}
    for each in read_results():
        if each.student != TEACHER:
            assert each.recipe in students[each.student].recipes
            assert (each.recipe, each.generation) in rows


def test_a_curve_counts_a_generation_over_its_stages(tmp_path):
    lines = [
        {"step": "generation 1", "epoch": 2.0, "loss_total": 2.0},
        {"step": "generation 1", "iteration": 20, "score": 0.7},
        {"step": "generation 2 stage 1", "epoch": 1.0, "loss_total": 1.0},
        {"step": "generation 2 stage 1", "iteration": 10, "score": 0.8},
        {"step": "generation 2 stage 2", "epoch": 0.5, "loss_total": 1.0},
        {"step": "generation 2 stage 2", "iteration": 5, "score": 0.9},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert curve_of(path, 1) == [(2.0, 0.7)]
    assert curve_of(path, 2) == [(1.0, 0.8), (1.5, 0.9)]
    assert curve_of(tmp_path / "not begun.jsonl", 1) == []


def test_a_generation_counts_when_its_last_stage_is_done(tmp_path):
    steps = [
        {"name": "generation 1 stage 1", "kind": "distil", "state": "done", "path": "a"},
        {"name": "generation 1 stage 2", "kind": "distil", "state": "reused", "path": "b"},
        {"name": "generation 2 stage 1", "kind": "distil", "state": "done", "path": "c"},
        {"name": "generation 2 stage 2", "kind": "distil", "state": "running", "path": "d"},
    ]
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    assert {g: path.name for g, path in last_stages(tmp_path).items()} == {1: "b"}


def test_an_untrained_network_has_no_result(tmp_path):
    assert Scorer(Workspace(tmp_path), "t.onnx").results(STUDENTS, [0, 1]) == []


@pytest.fixture(scope="module")
def pairs():
    """Two pairs of smooth images."""
    generator = np.random.default_rng(0)
    images = []
    for _ in range(4):
        small = generator.integers(0, 256, (8, 8, 3), np.uint8)
        picture = cv2.resize(small, (112, 112), interpolation=cv2.INTER_CUBIC)
        images.append(cv2.imencode(".png", picture)[1].tobytes())
    return VerificationPairs(images, np.array([True, False]), "0" * 64, "drawn")


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_degraded_pairs_differ_and_are_deterministic(pairs, name):
    worse = degraded(pairs, name)
    assert worse.images == degraded(pairs, name).images
    assert worse.name == f"drawn, {name}"
    assert worse.same is pairs.same
    for before, after in zip(pairs.images, worse.images, strict=True):
        assert decode(after).shape == (112, 112, 3)
        assert not np.array_equal(decode(after), decode(before))


def test_images_are_shifted_each_in_another_direction(pairs):
    before = [decode(image) for image in pairs.images]
    after = [decode(image) for image in degraded(pairs, "shifted").images]
    assert np.array_equal(after[0][:, SHIFT:], before[0][:, :-SHIFT])
    assert np.array_equal(after[1][SHIFT:], before[1][:-SHIFT])
    assert np.array_equal(after[2][:, :-SHIFT], before[2][:, SHIFT:])
    assert np.array_equal(after[3][:-SHIFT], before[3][SHIFT:])


def test_every_set_of_pairs_is_degraded_in_every_way():
    assert len(DEGRADED_SETS) == len(PAIRS) * len(DEGRADATIONS)
