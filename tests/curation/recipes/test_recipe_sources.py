"""Where a recipe finds its source, which labels it takes, and bad records."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

from curation.conversion import build
from curation.errors import UserError
from curation.recipes.run import run_recipe
from curation.sources.label_choice import LabelChoice
from tests.curation.recipes.recipe_runs import counts


def test_the_source_may_be_named_by_the_variable(workspace, source, monkeypatch):
    monkeypatch.setenv("MS1M_SOURCE", str(source))
    assert run_recipe("ms1m", workspace)[0].images == 90


def test_the_source_may_be_in_the_workspace(workspace, source):
    workspace.sources.mkdir(parents=True)
    source.rename(workspace.sources / "ms1m")
    assert run_recipe("ms1m", workspace)[0].images == 90


def test_another_data_set_has_its_own_place(workspace, source, monkeypatch):
    monkeypatch.setenv("MS1M_SOURCE", "/nowhere")
    workspace.sources.mkdir(parents=True)
    source.rename(workspace.sources / "real-faces")
    run_recipe("ms1m", workspace, dataset="real-faces")
    assert "real-faces/train" in workspace.image_sets()


def test_missing_files_are_one_message_with_place_and_fix(workspace):
    with pytest.raises(UserError) as refusal:
        run_recipe("ms1m", workspace)
    message = str(refusal.value)
    for wanted in ("train.rec", str(workspace.sources / "ms1m"), "--source", "$MS1M_SOURCE"):
        assert wanted in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["../up", "", "Name", "a/b", "-a", "a" * 65])
def test_a_data_set_name_cannot_leave_the_workspace(workspace, source, name):
    with pytest.raises(UserError, match="allowed: up to 64 of a-z"):
        run_recipe("ms1m", workspace, source, name)


def test_another_source_under_the_same_name_is_refused(workspace, source, write_source):
    run_recipe("ms1m", workspace, source)
    with pytest.raises(UserError, match="made from another source"):
        run_recipe("ms1m", workspace, write_source({0: 9}, "other"))


class TestLabelsInAnotherPlace:
    @pytest.fixture
    def splits(self, tmp_path, noise_images):
        names = [f"{split}/{who}/{n}.jpg" for split in "ab" for who in "xy" for n in range(3)]
        for name, image in zip(names, noise_images, strict=False):
            (tmp_path / "splits" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "splits" / name).write_bytes(image)
        return tmp_path / "splits"

    def test_they_are_converted_and_the_step_is_not_repeated(self, workspace, splits):
        chosen = LabelChoice(folder=1)
        made = run_recipe("ms1m", workspace, splits, labels=chosen)
        assert counts(made)["train.lmdb"] == ("store", 12, 2, False)
        again = run_recipe("ms1m", workspace, splits, labels=chosen)
        assert counts(again)["train.lmdb"] == ("store", 12, 2, True)

    @pytest.mark.parametrize("first", [1, 0], ids=["chosen-first", "usual-first"])
    def test_another_choice_later_is_refused(self, workspace, splits, first):
        run_recipe("ms1m", workspace, splits, labels=LabelChoice(folder=first))
        with pytest.raises(UserError, match=r"give the same .*--identity-folder as before"):
            run_recipe("ms1m", workspace, splits, labels=LabelChoice(folder=1 - first))

    @pytest.mark.parametrize("first", [1, 0], ids=["chosen-first", "usual-first"])
    def test_another_choice_does_not_resume(self, workspace, splits, monkeypatch, first):
        monkeypatch.setattr(build, "COMMIT_BYTES", 1)

        @contextmanager
        def stopping(title, unit):
            def stop(done, total):
                if done > 6:
                    raise KeyboardInterrupt

            yield stop

        def run(level, watch=None):
            return run_recipe("ms1m", workspace, splits, watch=watch, labels=LabelChoice("", level))

        with pytest.raises(KeyboardInterrupt):
            run(first, stopping)
        assert (workspace.datasets / "ms1m" / "train.lmdb.partial").is_dir()
        with pytest.raises(UserError, match=r"to continue, give the same .* as before"):
            run(1 - first)
        assert run(first)[0].images == 12

    def test_a_warning_names_an_option_of_the_recipe(self, workspace, splits):
        (store, *_) = run_recipe("ms1m", workspace, splits)
        assert "use `--identity-folder 1`" in store.note

    def test_a_drawn_source_has_its_own(self, workspace):
        with pytest.raises(UserError, match="leave --label-key and --identity-folder out"):
            run_recipe("sample", workspace, labels=LabelChoice(folder=1))
        assert not (workspace.sources / "sample").exists()

    @pytest.mark.parametrize("command", ["convert", "recipe"])
    def test_the_commands_take_one_of_the_options(self, tmp_path, splits, command):
        recipe = ["ms1m", "--workspace", "ws", "--source", splits]
        source = [splits, "a.lmdb"] if command == "convert" else recipe

        def run(*options):
            words = [sys.executable, "-m", "distill.cli.curate", command, *source, *options]
            return subprocess.run(
                list(map(str, words)), cwd=tmp_path, capture_output=True, text=True, timeout=300
            )

        made = run("--identity-folder", "1", "--json")
        report = json.loads(made.stdout)
        assert (report if command == "convert" else report[0])["identities"] == 2
        made = run("--identity-folder", "1", "--label-key", "a")
        assert "give only one of" in made.stderr


class TestBadRecords:
    @pytest.fixture
    def damaged(self, write_source, noise_images):
        folder = write_source({0: 8, 1: 8})
        records = (folder / "train.rec").read_bytes()
        jpeg = records.index(noise_images[3])
        changed = records[:jpeg] + b"RIFF" + records[jpeg + 4 :]
        (folder / "train.rec").write_bytes(changed)
        return folder

    def test_they_stop_the_recipe_and_the_message_helps(self, workspace, damaged):
        with pytest.raises(UserError, match="--skip-bad"):
            run_recipe("ms1m", workspace, damaged)

    def test_they_are_skipped_and_listed_on_request(self, workspace, damaged):
        store = run_recipe("ms1m", workspace, damaged, skip_bad=True)[0]
        assert store.images == 15
        assert "bad records left out: 1" in store.note
        assert "quarantine.tsv" in store.note
        again = run_recipe("ms1m", workspace, damaged, skip_bad=True)[0]
        assert (again.images, again.reused) == (15, True)


def test_the_sample_recipe_takes_no_source(workspace, source):
    with pytest.raises(UserError, match="draws its own source"):
        run_recipe("sample", workspace, source)
