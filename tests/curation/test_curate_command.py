"""The command as the user sees it: a process with arguments, two streams and an exit status."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from curation.pairs import write_pairs
from curation.records.layout_writer import write_layout

COUNTS = {0: 60, 1: 4, 2: 5, 3: 20, 4: 1}


@pytest.fixture
def curate(tmp_path):
    def run(*arguments, **variables):
        kept = {name: value for name, value in os.environ.items() if name != "MS1M_SOURCE"}
        return subprocess.run(
            [sys.executable, "-m", "distill.cli.curate", *map(str, arguments)],
            cwd=tmp_path,
            env=kept | {"DISTILL_WORKSPACE": str(tmp_path / "ws")} | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def refusal(finished):
    """The one-line error message."""
    assert (finished.returncode, finished.stdout) == (1, "")
    lines = finished.stderr.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in finished.stderr
    return lines[-1]


def test_inspect_shows_what_convert_would_take(curate, tmp_path, noise_images):
    (tmp_path / "0.jpg").write_bytes(noise_images[0])
    (tmp_path / "list.csv").write_text("filename,who\n0.jpg,anna\n")
    option = ("list.csv", "--label-key", "who", "--json")
    usual = json.loads(curate("inspect", "list.csv", "--json").stdout)
    chosen = json.loads(curate("inspect", *option).stdout)
    assert [usual["identities"], chosen["identities"]] == [0, 1]
    assert "another one: who" in usual["warnings"][0]


def test_convert_inspect_and_view(curate, write_source, tmp_path):
    source = write_source(COUNTS)
    made = curate("convert", source, "train.lmdb", "--json")
    assert json.loads(made.stdout)["images"] == 90

    again = curate("convert", source, "train.lmdb")
    assert again.returncode == 0
    assert "nothing to do" in again.stderr

    store = json.loads(curate("inspect", "train.lmdb", "--json").stdout)
    assert (store["kind"], store["complete"]) == ("store", True)
    assert (store["images"], store["identities"], store["image_size"]) == (90, 5, [24, 20])
    assert store["images_per_identity"] == {
        "least": 1,
        "25%": 4,
        "median": 5,
        "75%": 20,
        "95%": 60,
        "most": 60,
    }

    assert curate("view", "long-tail-cut", "train.lmdb", "big.view", "--minimum", 5).returncode == 0
    view = json.loads(curate("inspect", "big.view", "--json").stdout)
    assert (view["kind"], view["images"], view["identities"]) == ("view", 85, 3)
    assert view["history"][0]["parameters"] == {"minimum": 5}

    people = curate("inspect", "big.view").stdout
    assert "images " in people
    assert "85" in people


def test_convert_tells_where_a_set_of_jobs_belongs(curate, write_source, tmp_path):
    source = write_source(COUNTS)
    said = curate("convert", source, "faces/all").stderr
    assert f"the store's place is the path {tmp_path}/faces/all;" in said
    assert "for jobs to find it as SET/NAME" in said
    assert "SET/NAME" not in curate("convert", source, "train.lmdb").stderr


def test_a_recipe_prints_a_table_with_paths(curate, write_source, noise_images):
    source = write_source(COUNTS)
    write_pairs(source / "lfw.bin", noise_images[:4], [True, False])
    table = curate("recipe", "ms1m", "--source", source, "--dataset", "faces")
    assert "train.lmdb" in table.stdout
    assert "7/7 report" in table.stderr
    made = json.loads(curate("recipe", "ms1m", "--json", MS1M_SOURCE=str(source)).stdout)
    kinds = ["store", "pairs", "skipped", "skipped", "view", "view", "report"]
    assert [entry["kind"] for entry in made] == kinds

    assert json.loads(curate("inspect", "faces/retina-s", "--json").stdout)["images"] == 30
    assert json.loads(curate("inspect", "faces/lfw", "--json").stdout)["pairs"] == 2
    made = curate("view", "retina-s", "faces/train", "faces/most", "--maximum", 10)
    assert made.returncode == 0
    assert json.loads(curate("inspect", "faces/most", "--json").stdout)["identities"] == 3


def test_record_files_are_inspected(curate, write_source):
    found = json.loads(curate("inspect", write_source(COUNTS), "--json").stdout)
    assert (found["kind"], found["images"], found["identities"]) == ("records", 90, 5)


def test_recipes_are_listed(curate):
    assert {"ms1m", "sample"} <= {
        entry["name"] for entry in json.loads(curate("recipes", "--json").stdout)
    }
    assert "long-tail-cut" in curate("recipes").stdout


def test_an_unfinished_conversion_is_reported_as_such(curate, tmp_path):
    (tmp_path / "train.lmdb.partial").mkdir()
    found = json.loads(curate("inspect", "train.lmdb", "--json").stdout)
    assert (found["complete"], found["images"]) == (False, 0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["convert", "nowhere", "a.lmdb"], "nowhere: it does not exist"),
        (["convert", ".", "a.lmdb"], "no train.rec and no images in it"),
        (["inspect", "nowhere"], "'nowhere' is not in the workspace"),
        (["inspect", "nowhere.lmdb"], "nowhere.lmdb is not a store: it does not exist"),
        (["inspect", "../../etc/passwd"], "outside the workspace"),
        (["recipe", "ms1m"], "needs a training set"),
        (["recipe", "cake"], "no recipe 'cake'; there are: drawn-faces, ms1m, sample"),
        (["view", "retina-s", "a/b", "c/d"], "'a/b' is not in the workspace"),
    ],
)
def test_mistakes_are_one_line_and_status_1(curate, arguments, complaint):
    assert complaint in refusal(curate(*arguments))


def test_an_interrupted_conversion_exits_with_130_and_resumes(curate, write_source, tmp_path):
    source = write_source(dict.fromkeys(range(200), 90))
    command = [sys.executable, "-m", "distill.cli.curate", "convert", str(source), "train.lmdb"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "train.lmdb.partial").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in messages
    assert json.loads(curate("convert", source, "train.lmdb", "--json").stdout)["images"] == 18000


@pytest.mark.parametrize(
    "command", [[], ["convert"], ["inspect"], ["recipe"], ["recipes"], ["view"]]
)
def test_help_shows_examples(curate, command):
    shown = curate(*command, "--help").stdout
    assert "Example" in shown or not command
    assert "curate" in shown


def test_importing_the_package_imports_no_torch():
    modules = "curation.recipes.run, curation.inspection, curation.views, distill.cli.curate"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_bad_images_are_listed_and_dropped_by_the_list(curate, tmp_path, noise_images):
    files = [file[:-90] if i % 2 else file for i, file in enumerate(noise_images * 2)]
    write_layout(tmp_path / "source", [(file, i // 8) for i, file in enumerate(files)], (24, 20))
    curate("convert", "source", "train.lmdb")
    found = curate("verify", "train.lmdb", "--decode", "--list", "bad.txt")
    assert found.returncode == 1
    assert "image 1, key 2: the image is damaged: it ends early" in found.stdout
    assert "and 20 more; --list FILE writes all" in found.stdout
    assert found.stdout.count("it ends early") == 20
    error = found.stderr.strip().splitlines()[-1]
    assert error.startswith("error: 40 of 80 images of train.lmdb are bad; `curate view drop ")

    told = curate("verify", "train.lmdb", "--decode", "--json")
    assert told.returncode == 1
    assert len(json.loads(told.stdout)["bad_images"]) == 40
    curate("view", "drop", "train.lmdb", "whole.view", "bad.txt", "--by", "key")
    whole = json.loads(curate("verify", "whole.view", "--decode", "--json").stdout)
    assert (whole["sound"], whole["images"], whole["bad_images"]) == (True, 40, [])
