"""``curate view`` as the user sees it: every kind of subset, and one-line errors."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation.views import View
from distill.cli.curate.view import COMMANDS


@pytest.fixture
def curate(store, tmp_path):
    """Run ``curate view`` beside train.lmdb: identities with 4, 1, 6, 2 and 3 images."""
    (tmp_path / "list.txt").write_text("3\n11\n")
    (tmp_path / "parts.txt").write_text("1 1\n2 1\n")
    (tmp_path / "groups.txt").write_text("2 3\n")
    np.save(tmp_path / "norm.npy", np.arange(16.0))
    (tmp_path / "there.view").mkdir()

    def run(*arguments):
        command = [sys.executable, "-m", "distill.cli.curate", "view", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize(
    ("arguments", "images", "identities"),
    [
        (["long-tail-cut", "--minimum", "3"], 13, 3),
        (["retina-s", "--maximum", "3"], 6, 3),
        (["retina-s"], 16, 5),
        (["cap", "--each", "2"], 9, 5),
        (["random", "--identities", "5"], 16, 5),
        (["random", "--fraction", "1"], 16, 5),
        (["quality", "--values", "norm.npy", "--at-least", "3", "--at-most", "5"], 3, 3),
        (["quality", "--measure", "brightness", "--at-most", "255"], 16, 5),
        (["keep", "list.txt"], 4, 2),
        (["drop", "list.txt", "--by", "key"], 14, 5),
        (["merge", "groups.txt"], 16, 4),
        (["split", "parts.txt"], 16, 6),
    ],
)
def test_every_kind_makes_its_view(curate, tmp_path, arguments, images, identities):
    kind, *options = arguments
    made = curate(kind, "train.lmdb", "made.view", *options, "--json")
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert (found["name"], found["images"], found["identities"]) == (kind, images, identities)
    assert (found["images_before"], found["identities_before"]) == (16, 5)
    assert len(View(tmp_path / "made.view")) == images


def test_a_new_view_states_what_it_keeps_of_its_parent(curate):
    made = curate("cap", "train.lmdb", "made.view", "--each", "2")
    lines = [line.split(maxsplit=1) for line in made.stdout.splitlines()]
    assert lines == [
        ["path", "made.view"],
        ["images", "9 of 16"],
        ["identities", "5 of 5"],
        ["step", "cap"],
        ["maximum", "2"],
        ["seed", "0"],
    ]


@pytest.mark.parametrize(
    ("kind", "images"), [("union", 16), ("intersection", 3), ("difference", 10)]
)
def test_sets_take_two_views(curate, kind, images):
    assert curate("long-tail-cut", "train.lmdb", "a.view", "--minimum", "3").returncode == 0
    assert curate("retina-s", "train.lmdb", "b.view", "--maximum", "3").returncode == 0
    made = curate(kind, "a.view", "b.view", "made.view", "--json")
    found = json.loads(made.stdout)
    assert found["images"] == images
    assert found["other"]["path"] == "../b.view"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["random", "train.lmdb", "a.view"], "either a number of identities or a fraction"),
        (["quality", "train.lmdb", "a.view"], "give either --measure NAME or --values FILE.npy"),
        (["quality", "train.lmdb", "a.view", "--measure", "beauty"], "allowed: sharpness, bright"),
        (["quality", "train.lmdb", "a.view", "--values", "norm.npy"], "no limit is given"),
        (["quality", "train.lmdb", "a.view", "--values", "list.txt"], "not a readable .npy file"),
        (["keep", "train.lmdb", "a.view", "none.txt"], "none.txt: cannot read it: No such file"),
        (["keep", "train.lmdb", "a.view", "list.txt", "--by", "face"], "allowed: label, key"),
        (["keep", "train.lmdb", "a.view", "list.txt", "--by", "name"], "have no file names"),
        (["merge", "train.lmdb", "a.view", "list.txt", "--by", "name"], "keep` and `curate view"),
        (["cap", "train.lmdb", "list.txt/a.view", "--each", "99"], "cannot write"),
        (["union", "train.lmdb", "nowhere.lmdb", "a.view"], "nowhere.lmdb is not a store"),
        (
            ["relabel", "train.lmdb", "list.txt", "a.view"],
            "list.txt is a file: give the view before the list, PARENT a.view list.txt",
        ),
        (["drop", "train.lmdb", "list.txt", "mine/a"], "PARENT mine/a list.txt"),
        (["cap", "train.lmdb", "list.txt", "--each", "2"], "list.txt cannot be the name of a view"),
        (["cap", "train.lmdb", "a.lmdb", "--each", "2"], "a.lmdb cannot be the name of a view"),
        (
            ["prune", "train.lmdb", "there.view", "--teacher", "none", "--share", "0.5"],
            "there.view exists; remove it or choose another name",
        ),
    ],
)
def test_mistakes_are_one_line(curate, tmp_path, arguments, complaint):
    made = curate(*arguments)
    assert (made.returncode, made.stdout) == (1, "")
    assert complaint in made.stderr.strip().splitlines()[-1]
    assert "Traceback" not in made.stderr
    assert not (tmp_path / "a.view").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_kind_has_an_example_and_is_documented(command):
    name = f"curate view {command.__name__.replace('_', '-')}"
    assert f"`{name} " in command.__doc__
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    assert f"`{command.__name__.replace('_', '-')}`" in page


def test_the_command_has_its_own_help(curate):
    assert "--each" in curate("cap", "--help").stdout


def test_a_full_disk_is_one_line_and_leaves_nothing(store, tmp_path):
    limited = "import resource, sys; from distill.cli.curate import main\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150)); main()"
    command = [sys.executable, "-c", limited, "view", "retina-s", "train.lmdb", "a.view"]
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode == 1
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: cannot write {tmp_path / 'a.view'}: ")
    assert "MB free; free some space and run the same command again" in last
    assert "Traceback" not in failed.stderr
    assert [path.name for path in tmp_path.glob("a.view*")] == []
