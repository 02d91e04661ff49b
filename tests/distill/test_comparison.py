"""Results side by side: which is best, and which cannot be compared."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli.main import app
from distill.comparison import Subject, compare, figures_of, intervals_of
from distill.daemon.opening import open_queue
from distill.daemon.runfolder import freeze_spec


def subject(name: str, digest: str = "d", sizes: dict | None = None, **figures: float) -> Subject:
    return Subject(name=name, figures={"lfw": figures}, digests={"lfw": digest}, sizes=sizes or {})


def test_the_best_score_is_highest_and_the_best_size_lowest() -> None:
    a = subject("a", accuracy=0.99, std=0.01, sizes={"model.onnx": 500})
    b = subject("b", accuracy=0.995, std=0.02, sizes={"model.onnx": 900})
    accuracy, size = compare([a, b])
    assert (accuracy.measure, accuracy.values) == ("lfw: accuracy", [0.99, 0.995])
    assert (accuracy.deviations, accuracy.best) == ([0.01, 0.02], [1])
    assert (size.measure, size.values, size.best) == ("model.onnx: bytes", [500, 900], [0])


def test_all_that_are_best_are_marked_unless_all_are_the_same() -> None:
    three = [subject("a", accuracy=0.9), subject("b", accuracy=0.9), subject("c", accuracy=0.8)]
    assert compare(three)[0].best == [0, 1]
    assert compare(three[:2])[0].best == []
    assert compare([three[0], Subject(name="none")])[0].best == []


def test_scores_on_other_sets_of_that_name_are_not_compared() -> None:
    (row,) = compare([subject("a", "one", accuracy=0.9), subject("b", "other", accuracy=0.8)])
    assert (row.comparable, row.best) == (False, [])


def test_measures_have_an_order_and_missing_ones_are_none() -> None:
    a = Subject(name="a", figures={"lfw": {"FAR 1e-3": 0.5, "accuracy": 0.9}})
    b = Subject(name="b", figures={"lfw": {"FAR 1e-2": 0.7}, "cfp": {"accuracy": 0.8}})
    rows = {row.measure: row.values for row in compare([a, b])}
    assert rows == {
        "lfw: accuracy": [0.9, None], "lfw: TAR at FAR 1e-2": [None, 0.7],
        "lfw: TAR at FAR 1e-3": [0.5, None], "cfp: accuracy": [None, 0.8],
    }  # fmt: skip
    assert next(iter(rows)) == "lfw: accuracy"


@pytest.mark.parametrize(
    "report",
    [None, [], "x", {}, {"accuracy": "0.9"}, {"accuracy": None, "tar_at_far": 3},
     {"tar_at_far": {"1e-3": None, "1e-2": {"tar": "x"}}}, {"accuracy": True},
     {"accuracy": 1e308, "std": -0.5}],
)  # fmt: skip
def test_a_report_of_another_form_has_no_figures(report: object) -> None:
    assert figures_of(report) == {}


def evaluation(accuracy: float, digest: str = "1") -> dict:
    rates = {"1e-3": {"tar": accuracy - 0.1, "cosine_threshold": 0.5}}
    report = {"accuracy": accuracy, "std": 0.01, "digest": digest, "tar_at_far": rates}
    return {"sets": {"lfw": report}}


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspace")
    for name, accuracy, seed in (("a", 0.91, 1), ("b", 0.93, 2)):
        freeze_spec(made.runs / name, f"name = '{name}'\n[train]\nseed = {seed}\nbatch_size = 8\n")
        (made.runs / name / "evaluation.json").write_text(json.dumps(evaluation(accuracy)))
        (made.runs / name / "bundle").mkdir()
        (made.runs / name / "bundle" / "model.onnx").write_bytes(b"x" * seed)
        (made.runs / name / "bundle" / "README.md").write_text("x")
    with open_queue(made) as queue:
        queue.submit("waits", "name = 'waits'\n[train]\nseed = 3\nbatch_size = 8\n", 1.0)
    return made


def run(place: Workspace, *arguments: str):
    environment = {"DISTILL_WORKSPACE": str(place.root), "COLUMNS": "120"}
    return CliRunner().invoke(app, ["compare", *arguments], env=environment)


def test_jobs_are_shown_side_by_side(place: Workspace) -> None:
    ran = run(place, "a", "b", "waits")
    assert ran.exit_code == 0
    rows = [line.split("  ") for line in ran.stdout.splitlines()]
    cells = {row[0]: [cell.strip() for cell in row[1:] if cell] for row in rows}
    assert cells["measure"] == ["a", "b", "waits"]
    assert cells["lfw: accuracy"] == ["0.9100 ± 0.0100", "0.9300 ± 0.0100 *", "-"]
    assert cells["lfw: TAR at FAR 1e-3"] == ["0.8100", "0.8300 *", "-"]
    assert cells["model.onnx: bytes"] == ["1 *", "2", "-"]
    assert cells["train.seed"] == ["1", "2", "3"]
    assert "train.batch_size" not in ran.stdout
    assert "waits: queued; no results yet" in ran.stderr


def test_programs_get_it_as_json(place: Workspace) -> None:
    told = json.loads(run(place, "a", "b", "waits", "--json").stdout)
    assert told["compared"][2] == {"name": "waits", "state": "queued", "results": False}
    accuracy = told["results"][0]
    assert accuracy["values"] == {"a": 0.91, "b": 0.93, "waits": None}
    assert (accuracy["best"], accuracy["comparable"]) == (["b"], True)
    assert told["differences"] == [{"key": "train.seed", "values": {"a": 1, "b": 2, "waits": 3}}]


def test_a_bundle_is_compared_with_a_job(place: Workspace, small_bundle: Path) -> None:
    shutil.copytree(small_bundle, place.bundles / "pulled")
    for name in ("pulled", str(small_bundle)):
        told = json.loads(run(place, "a", name, "--json").stdout)
        values = {row["measure"]: row["values"][name] for row in told["results"]}
        assert values["easy: accuracy"] == 0.875
        assert values["lfw: accuracy"] is None
        assert values["model.safetensors: bytes"] > 1000
        assert told["compared"][1]["state"] == "bundle"


def test_sets_that_differ_are_reported(place: Workspace) -> None:
    (place.runs / "b" / "evaluation.json").write_text(json.dumps(evaluation(0.99, "2")))
    ran = run(place, "a", "b")
    assert "lfw: accuracy: not compared: the sets of this name differ" in ran.stderr
    assert "0.9900 ± 0.0100\n" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a",), "give 2 to 100"),
        (("a", "a"), "give 2 to 100"),
        (("a", "nobody"), "there is no job 'nobody'"),
        (("a", "../nobody/here"), "is not a job name"),
        (("a", "/tmp"), "not a bundle"),
    ],
)
def test_incomparable_models_are_refused(
    place: Workspace, arguments: tuple[str, ...], words: str
) -> None:
    ran = run(place, *arguments)
    assert ran.exit_code == 1
    assert isinstance(ran.exception, UserError)
    assert words in str(ran.exception)


def test_intervals_go_with_the_figures_that_have_them() -> None:
    rates = {"1e-3": {"tar": 0.5, "interval": [0.4, 0.6]}, "1e-4": {"tar": 0.3, "interval": "x"}}
    report = {"accuracy": 0.9, "accuracy_interval": [0.88, 0.92], "tar_at_far": rates}
    assert intervals_of(report) == {"accuracy": [0.88, 0.92], "FAR 1e-3": [0.4, 0.6]}
    assert intervals_of({"tar_at_far": [], "accuracy_interval": [1.0]}) == {}
    a = Subject(
        name="a", figures={"lfw": figures_of(report)}, intervals={"lfw": intervals_of(report)}
    )
    rows = {row.measure: row.intervals for row in compare([a, subject("b", accuracy=0.8)])}
    assert rows["lfw: accuracy"] == [[0.88, 0.92], None]
    assert rows["lfw: TAR at FAR 1e-4"] == [None, None]
