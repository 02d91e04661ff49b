"""``curate check`` and ``curate clean`` as the user sees them, with a small ONNX teacher."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from curation.noise.check import all_checks
from curation.noise.decisions import DECISIONS_FILE, Decision, read_decisions, write_decisions
from curation.store import Store
from curation.views import View

Curate = Callable[..., subprocess.CompletedProcess]
NONE = ("--colour", "RGB", "--mean", "0", "--std", "1", "--size", "48")
TEACHER = ("--colour", "RGB", "--mean", "127.5", "--std", "127.5", "--size", "48")


def write_teacher(path: Path) -> Path:
    """Averages 4x4 pixels: images with the same stripes and colours embed alike."""
    nodes = [
        helper.make_node(
            "AveragePool", ["data"], ["small"], kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("Flatten", ["small"], ["embedding"], axis=1),
    ]  # fmt: skip
    images = helper.make_tensor_value_info("data", TensorProto.FLOAT, ("N", 3, 48, 48))
    vectors = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ("N", 432))
    graph = helper.make_graph(nodes, "teacher", [images], [vectors])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def place(drawn_store: Store, drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the drawn store, its verification set, a teacher, and findings by it."""
    folder = tmp_path_factory.mktemp("check")
    shutil.copytree(drawn_store.path, folder / "train.lmdb")
    shutil.copy(drawn_folder / "pairs.bin", folder / "pairs.bin")
    write_teacher(folder / "teacher.onnx")
    finished = run_curate(
        folder, "check", "train.lmdb", "--teacher", "teacher.onnx", *TEACHER, "--json"
    )
    assert finished.returncode == 0, finished.stderr
    (folder / "first.json").write_text(finished.stdout)
    return folder


def run_curate(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "distill.cli.curate", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"DISTILL_WORKSPACE": str(folder / "ws")},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def curate(place: Path) -> Curate:
    return lambda *arguments: run_curate(place, *arguments)


def refusal(finished: subprocess.CompletedProcess) -> str:
    """The one-line error message."""
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "Traceback" not in finished.stderr
    (line,) = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_check_prints_the_findings_as_json(place: Path) -> None:
    told = json.loads((place / "first.json").read_text())
    assert Path(told["path"]).resolve() == (place / "train.findings").resolve()
    assert [one["check"] for one in told["checks"]] == list(all_checks())
    assert (told["images"], told["identities"], told["images_name"]) == (48, 6, "train")
    assert list(told["evaluation"]) == ["pairs"]  # found beside the store
    assert all(one["flagged"] <= one["scored"] for one in told["checks"])


def test_a_second_check_reuses_everything_and_prints_a_table(curate: Curate, place: Path) -> None:
    files = {p: p.stat().st_mtime_ns for p in (place / "train.findings").iterdir()}
    again = curate("check", "train.lmdb", "--teacher", "teacher.onnx", *TEACHER)
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in (place / "train.findings").iterdir()} == files
    for name in all_checks():
        assert name in again.stdout
    assert "train.findings" in again.stderr
    assert "exact" in again.stderr


def test_only_some_checks_and_no_evaluation_sets_of_a_view(curate: Curate, place: Path) -> None:
    view = ("view", "cap", "train.lmdb", "few.view", "--each", "4")
    assert curate(*view).returncode == 0
    made = curate(
        "check", "few.view", "--teacher", "teacher.onnx", *TEACHER,
        "--only", "mixed", "--only", "misplaced", "--evaluate", "pairs.bin", "--json",
    )  # fmt: skip
    told = json.loads(made.stdout)
    assert [one["check"] for one in told["checks"]] == ["misplaced", "mixed"]
    assert (told["images"], told["identities"]) == (24, 6)
    # The store's embeddings serve the view: there is only one cache.
    caches = [p for p in (place / "ws" / "cache").iterdir() if (p / "unit.npy").exists()]
    assert len(caches) == 1


def test_clean_applies_the_table(curate: Curate, place: Path) -> None:
    store = Store(place / "train.lmdb")
    table = place / "mine.tsv"
    decisions = [Decision("drop", 0, 1), Decision("move", 1, 9, 0), Decision("merge", 3, into=2)]
    write_decisions(table, store.digest, decisions)
    made = curate("clean", "train.lmdb", "mine.view", "--decisions", "mine.tsv", "--json")
    told = json.loads(made.stdout)
    assert (told["images"], told["identities"], told["name"]) == (47, 5, "clean")
    view = View(place / "mine.view")
    assert np.bincount(view.labels).tolist() == [8, 7, 16, 8, 8]
    inspected = curate("inspect", "mine.view")
    assert "clean" in inspected.stdout


def test_clean_takes_the_proposed_table_and_an_override(curate: Curate, place: Path) -> None:
    store = Store(place / "train.lmdb")
    proposed = read_decisions(place / "train.findings" / DECISIONS_FILE, store.digest)
    refused = [replace(one, apply=False) for one in proposed]
    write_decisions(
        place / "override.tsv", store.digest, [*refused, Decision("drop-identity", 5)]
    )  # fmt: skip
    made = curate("clean", "train.lmdb", "own.view", "--override", "override.tsv", "--json")
    told = json.loads(made.stdout)
    assert (told["images"], told["identities"]) == (40, 5)
    assert curate("clean", "train.lmdb", "proposed.view").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "train.lmdb", "--teacher", "none.onnx"], "there is no network 'none.onnx'"),
        (["check", "train.lmdb", "--teacher", "nobody"], "there is no network 'nobody'"),
        (["check", "none.lmdb", "--teacher", "teacher.onnx"], "none.lmdb"),
        (
            ["check", "train.lmdb", "--teacher", "teacher.onnx", *TEACHER, "--only", "blurred"],
            "there is no check 'blurred'; there are: misplaced",
        ),
        (
            ["check", "train.lmdb", "--teacher", "teacher.onnx", *TEACHER[:6]],
            "the preprocessing gives",
        ),
        (["check", "train.lmdb", "--teacher", "teacher.onnx"], "give the network's preprocessing"),
        (["check", "train.lmdb", "--teacher", "teacher.onnx", *TEACHER, "--std", "0"], "--std"),
        (["check", "train.lmdb", "--teacher", "teacher.onnx", "--colour", "CMYK"], "--colour"),
        (
            ["check", "train.lmdb", "--teacher", "teacher.onnx", *TEACHER, "--evaluate", "no.bin"],
            "no.bin",
        ),
        (["clean", "train.lmdb", "c.view", "--decisions", "none.tsv"], "none.tsv does not exist"),
        (["clean", "train.lmdb", "c.view", "--override", "none.tsv"], "none.tsv does not exist"),
    ],
)
def test_mistakes_are_one_line(curate: Curate, arguments: list[str], message: str) -> None:
    assert message in refusal(curate(*arguments))


def test_all_overrides_count_and_contradictions_are_refused(curate: Curate, place: Path) -> None:
    store = Store(place / "train.lmdb")
    write_decisions(place / "a.tsv", store.digest, [Decision("drop-identity", 5)])
    write_decisions(place / "b.tsv", store.digest, [Decision("drop-identity", 4)])
    write_decisions(place / "c.tsv", store.digest, [Decision("drop-identity", 5, apply=False)])
    write_decisions(place / "empty.tsv", store.digest, [])
    clean = ("clean", "train.lmdb", "both.view", "--decisions", "empty.tsv", "--override", "a.tsv")
    told = curate(*clean, "--override", "b.tsv", "--override", "c.tsv")
    assert "these lines contradict each other" in refusal(told)
    assert "  identity 5: a.tsv line 3 (yes drop-identity), c.tsv line 3 (no drop" in told.stderr
    assert not (place / "both.view").exists()
    made = json.loads(curate(*clean, "--override", "b.tsv", "--json").stdout)
    assert (made["images"], made["identities"]) == (32, 4)


def test_another_teacher_keeps_findings_and_decisions(curate: Curate, place: Path) -> None:
    curate("view", "cap", "train.lmdb", "six.view", "--each", "6")
    check = ("check", "six.view", "--teacher", "teacher.onnx", "--only", "misplaced")
    assert curate(*check, *TEACHER).returncode == 0
    table = place / "six.findings" / DECISIONS_FILE
    with table.open("a") as file:
        file.write("yes\tdrop\t0\t0\n")
    edited = table.read_text()
    other = curate(*check, *NONE)
    assert other.returncode == 0, other.stderr
    (aside,) = place.glob("six.findings.*")
    assert f"kept, with its decisions, as {aside}" in other.stderr
    assert (aside / DECISIONS_FILE).read_text() == edited
    carried_out = curate("clean", "six.view", "old.view", "--decisions", aside / DECISIONS_FILE)
    assert carried_out.returncode == 0, carried_out.stderr


def test_a_table_for_other_images_is_refused_and_no_view_is_left(
    curate: Curate, place: Path
) -> None:
    write_decisions(place / "other.tsv", "0" * 64, [])
    told = refusal(curate("clean", "train.lmdb", "wrong.view", "--decisions", "other.tsv"))
    assert "is about other images" in told
    assert not (place / "wrong.view").exists()


def test_a_view_is_not_overwritten(curate: Curate, place: Path) -> None:
    write_decisions(place / "none.tsv.ok", Store(place / "train.lmdb").digest, [])
    arguments = ("clean", "train.lmdb", "twice.view", "--decisions", "none.tsv.ok")
    assert curate(*arguments).returncode == 0
    assert "exists; remove it" in refusal(curate(*arguments))
