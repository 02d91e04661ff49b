import json
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from curation.conversion import build
from curation.conversion.convert import convert
from curation.errors import UserError
from curation.locks import locked
from curation.neighbours import normalised
from curation.noise.embedded import EmbeddedImages, TeacherChoice
from curation.pairs import write_pairs
from curation.recipes.file import ScoreStep, load_recipe, parse_recipe, recipe_names
from curation.recipes.noise_steps import EARLIER
from curation.recipes.run import run_recipe
from curation.sources.label_choice import LabelChoice
from curation.subsets import write_long_tail_cut, write_retina_s
from curation.views import open_images
from curation.workspace import Workspace

COUNTS = {0: 60, 1: 4, 2: 5, 3: 20, 4: 1}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.delenv("MS1M_SOURCE", raising=False)
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def source(write_source, noise_images):
    folder = write_source(COUNTS)
    write_pairs(folder / "lfw.bin", noise_images[:4], [True, False])
    (folder / "broken.bin").write_bytes(b"no pickle")
    return folder


def counts(made):
    return {
        entry.path.name: (entry.kind, entry.images, entry.identities, entry.reused)
        for entry in made
    }


def stats(workspace):
    """Modification times of all files except the report, which is always rewritten."""
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files if path.suffix != ".html"}


def test_the_ms1m_recipe_makes_a_store_views_and_pair_sets(workspace, source):
    made = run_recipe("ms1m", workspace, source)
    assert counts(made) == {
        "train.lmdb": ("store", 90, 5, False),
        "long-tail-cut.view": ("view", 85, 3, False),
        "retina-s.view": ("view", 30, 4, False),
        "lfw.bin": ("pairs", 4, None, False),
        "broken.bin": ("refused", None, None, False),
        "train.findings": ("skipped", None, None, False),
        "clean.view": ("skipped", None, None, False),
        "train.report.html": ("report", None, None, False),
    }
    assert workspace.image_sets() == ["ms1m/long-tail-cut", "ms1m/retina-s", "ms1m/train"]
    copied = (workspace.datasets / "ms1m" / "lfw.bin").read_bytes()
    assert copied == (source / "lfw.bin").read_bytes()


def test_refused_sets_have_a_reason(workspace, source):
    made = run_recipe("ms1m", workspace, source)
    (refused,) = (entry for entry in made if entry.kind == "refused")
    assert "broken.bin is a text file, not a verification set" in refused.note


def test_finished_steps_are_not_repeated(workspace, source):
    run_recipe("ms1m", workspace, source)
    page = (workspace.datasets / "ms1m" / "train.report.html").read_bytes()
    before = stats(workspace)
    made = run_recipe("ms1m", workspace, source)
    assert all(entry.reused for entry in made if entry.kind not in ("refused", "skipped", "report"))
    assert stats(workspace) == before
    assert (workspace.datasets / "ms1m" / "train.report.html").read_bytes() == page


@pytest.mark.parametrize("lost", ["train.lmdb", "long-tail-cut.view", "retina-s.view"])
def test_a_step_with_missing_output_is_repeated(workspace, source, lost):
    run_recipe("ms1m", workspace, source)
    shutil.rmtree(workspace.datasets / "ms1m" / lost)
    made = run_recipe("ms1m", workspace, source)
    done_again = {entry.path.name for entry in made if not entry.reused}
    unasked = {"broken.bin", "train.findings", "clean.view", "train.report.html"}
    assert done_again == {lost} | unasked
    assert len(open_images(workspace.image_set("ms1m/long-tail-cut"))) == 85


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
        with pytest.raises(UserError, match=r"give the same .*--identity-folder as then"):
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
        with pytest.raises(UserError, match=r"to continue, give the same .* as then"):
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


def by_hand(path, minimum, parent="train.lmdb"):
    """A user's own view at the path of a recipe's."""
    shutil.rmtree(path, ignore_errors=True)
    return write_long_tail_cut(path, open_images(path.parent / parent), minimum)


class TestWhatAPersonMade:
    """Files of the user stay, and conflicts are reported before the first step."""

    def test_a_view_with_another_limit(self, workspace, source):
        run_recipe("ms1m", workspace, source)
        path = workspace.datasets / "ms1m" / "long-tail-cut.view"
        digest = by_hand(path, 2).digest
        shutil.rmtree(workspace.datasets / "ms1m" / "retina-s.view")
        with pytest.raises(UserError) as refusal:
            run_recipe("ms1m", workspace, source)
        message = str(refusal.value)
        assert "long-tail-cut.view was not made by a recipe" in message
        assert (
            "long-tail-cut with minimum 2, the recipe expects long-tail-cut with minimum 5"
            in message
        )
        assert "rename it" in message
        assert open_images(path).digest == digest
        assert not (workspace.datasets / "ms1m" / "retina-s.view").exists()

    def test_an_equal_view_is_used_and_never_replaced(self, workspace, source):
        folder = workspace.datasets / "ms1m"
        run_recipe("ms1m", workspace, source)
        digest = by_hand(folder / "long-tail-cut.view", 5).digest
        made = {entry.path.name: entry for entry in run_recipe("ms1m", workspace, source)}
        assert made["long-tail-cut.view"].reused
        changed = write_retina_s(folder / "clean.view", open_images(folder / "train.lmdb"), 50)
        assert len(changed)
        with pytest.raises(UserError, match=r"clean\.view was not made by a recipe"):
            run_recipe("ms1m", workspace, source)
        assert open_images(folder / "long-tail-cut.view").digest == digest

    def test_a_recipes_view_that_was_changed_by_hand(self, workspace, source):
        run_recipe("ms1m", workspace, source)
        path = workspace.datasets / "ms1m" / "retina-s.view" / "view.json"
        path.write_text(path.read_text().replace('"maximum": 50', '"maximum": 40'))
        edited = path.read_bytes()
        with pytest.raises(UserError, match=r"retina-s\.view was not made by a recipe"):
            run_recipe("ms1m", workspace, source)
        assert path.read_bytes() == edited

    def test_a_recipes_view_under_another_views_name(self, workspace, source):
        run_recipe("ms1m", workspace, source)
        folder = workspace.datasets / "ms1m"
        shutil.rmtree(folder / "retina-s.view")
        (folder / "long-tail-cut.view").rename(folder / "retina-s.view")
        with pytest.raises(UserError, match=r"retina-s\.view was not made by a recipe"):
            run_recipe("ms1m", workspace, source)

    def test_a_renamed_view_stays_and_is_made_again(self, workspace, source):
        run_recipe("ms1m", workspace, source)
        folder = workspace.datasets / "ms1m"
        (folder / "retina-s.view").rename(folder / "mine.view")
        made = {entry.path.name: entry for entry in run_recipe("ms1m", workspace, source)}
        assert not made["retina-s.view"].reused
        assert (
            open_images(folder / "mine.view").digest == open_images(folder / "retina-s.view").digest
        )

    def test_an_evaluation_set_of_that_name(self, workspace, source, noise_images):
        run_recipe("ms1m", workspace, source)
        mine = workspace.datasets / "ms1m" / "lfw.bin"
        write_pairs(mine, noise_images[4:8], [True, False])
        content = mine.read_bytes()
        with pytest.raises(UserError, match=r"lfw\.bin differs from .* no recipe copied"):
            run_recipe("ms1m", workspace, source)
        assert mine.read_bytes() == content

    def test_an_unreadable_record_is_kept_and_reported(self, workspace, source, noise_images):
        run_recipe("ms1m", workspace, source)
        folder = workspace.datasets / "ms1m"
        (folder / "recipe.json").write_text('{"made": {"clean.view": 1}}')
        (folder / "lfw.bin").unlink()
        said = []
        run_recipe("ms1m", workspace, source, say=said.append)
        assert "recipe.json is damaged: made.clean.view: must be a string" in said[0]
        assert (folder / "recipe.json.damaged").read_text() == '{"made": {"clean.view": 1}}'
        assert "lfw.bin" in (folder / "recipe.json").read_text()

    def test_an_unreadable_record_makes_every_file_the_users(self, workspace, source):
        run_recipe("ms1m", workspace, source)
        (workspace.datasets / "ms1m" / "recipe.json").write_text("{")
        assert all(
            entry.reused
            for entry in run_recipe("ms1m", workspace, source)
            if entry.kind in ("view", "pairs", "store")
        )


class TestVerificationSets:
    def sets(self, made):
        return {e.path.name: (e.kind, e.reused, e.note) for e in made if e.path.suffix == ".bin"}

    def test_a_copy_follows_its_source(self, workspace, source, noise_images):
        run_recipe("ms1m", workspace, source)
        write_pairs(source / "lfw.bin", noise_images[4:8], [True, False])
        sets = self.sets(run_recipe("ms1m", workspace, source))
        assert sets["lfw.bin"] == ("pairs", False, "2 pairs; copied again: the source's is new")
        copy = workspace.datasets / "ms1m" / "lfw.bin"
        assert copy.read_bytes() == (source / "lfw.bin").read_bytes()
        assert self.sets(run_recipe("ms1m", workspace, source))["lfw.bin"][1]

    def test_a_set_removed_from_the_source_stays_and_is_named(self, workspace, source):
        run_recipe("ms1m", workspace, source)
        (source / "lfw.bin").unlink()
        kind, reused, note = self.sets(run_recipe("ms1m", workspace, source))["lfw.bin"]
        assert (kind, reused) == ("pairs", True)
        assert note.startswith(f"not in {source}; kept")

    def test_a_set_damaged_since_leaves_the_copy(self, workspace, source):
        run_recipe("ms1m", workspace, source)
        (source / "lfw.bin").write_bytes(b"half")
        said = []
        sets = self.sets(run_recipe("ms1m", workspace, source, say=said.append))
        assert sets["lfw.bin"][0] == "refused"
        assert sets["lfw.bin"][2].endswith("(the earlier copy is kept, and checked)")
        assert any("left out: " in line and "lfw.bin" in line for line in said)

    def test_a_damaged_copy_is_made_again(self, workspace, source):
        run_recipe("ms1m", workspace, source)
        copy = workspace.datasets / "ms1m" / "lfw.bin"
        copy.write_bytes(b"half")
        sets = self.sets(run_recipe("ms1m", workspace, source))
        assert sets["lfw.bin"] == ("pairs", False, "2 pairs; copied again: it was damaged")
        assert copy.read_bytes() == (source / "lfw.bin").read_bytes()


def test_a_pack_without_a_head_or_tail_still_gets_its_report(workspace, write_source):
    made = {e.path.name: e for e in run_recipe("ms1m", workspace, write_source({0: 2, 1: 3}))}
    assert (made["long-tail-cut.view"].kind, made["long-tail-cut.view"].note) == (
        "skipped",
        "long-tail-cut with minimum 5 leaves nothing of train.lmdb",
    )
    assert made["retina-s.view"].images == 5
    assert made["train.report.html"].path.exists()
    assert not (workspace.datasets / "ms1m" / "long-tail-cut.view").exists()


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


def test_a_reconverted_store_has_everything_made_again(workspace, source, write_source):
    run_recipe("ms1m", workspace, source)
    folder = workspace.datasets / "ms1m"
    write_long_tail_cut(folder / "mine.view", open_images(folder / "train.lmdb"), 2)
    shutil.rmtree(folder / "train.lmdb")
    made = {
        entry.path.name: entry
        for entry in run_recipe("ms1m", workspace, write_source({0: 7, 1: 9}, "other"))
    }
    assert made["long-tail-cut.view"].images == 16
    assert "made again: it cannot be read" in made["long-tail-cut.view"].note
    assert made["mine.view"].kind == "kept"
    assert "mine.view was made from another store" in made["mine.view"].note


def test_two_processes_do_not_make_the_same_data_set(workspace, source):
    run_recipe("ms1m", workspace, source)
    with (
        locked(workspace.datasets / "ms1m"),
        pytest.raises(UserError, match=r"another process is writing .*ms1m"),
    ):
        run_recipe("ms1m", workspace, source)


class TestFirst:
    """Errors that would end it after hours are reported before the first step."""

    def refused(self, workspace, source, message, **options):
        with pytest.raises(UserError, match=message):
            run_recipe("ms1m", workspace, source, **options)
        assert not list(workspace.root.rglob("*.lmdb*"))

    def test_a_teacher_that_cannot_be_opened(self, workspace, source):
        def missing(choice):
            raise UserError(f"there is no teacher {choice.name}")

        teacher = TeacherChoice(name="none.onnx")
        self.refused(workspace, source, "no teacher none", open_embedder=missing, teacher=teacher)

    def test_a_teacher_for_a_recipe_without_checks(self, workspace):
        with pytest.raises(UserError, match="drawn-faces has no noise checks; leave --teacher out"):
            run_recipe("drawn-faces", workspace, teacher=TeacherChoice(name="x"))

    @pytest.mark.parametrize("part", ["workspace", "workspace/datasets", "workspace/datasets/ms1m"])
    def test_a_workspace_that_cannot_be_written(self, workspace, source, tmp_path, part):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).write_text("a file")
        self.refused(workspace, source, r"cannot write to .*--workspace")

    def test_a_teacher_is_opened_once(self, workspace, source):
        opened = []

        def open_embedder(choice):
            opened.append(choice)
            return LabelEmbedder()

        run_recipe(
            "ms1m",
            workspace,
            source,
            open_embedder=open_embedder,
            teacher=TeacherChoice(name="labels"),
        )
        assert len(opened) == 1


def test_the_sample_recipe_takes_no_source(workspace, source):
    with pytest.raises(UserError, match="draws its own source"):
        run_recipe("sample", workspace, source)


class LabelEmbedder:
    """A teacher that knows the person of each image; image 3 shows the person of identity 3."""

    def embed(self, images, progress):
        random = np.random.default_rng(0)
        people = normalised(random.normal(size=(9, 32)))
        shown = images.store.labels.copy()
        shown[3] = 3
        vectors = normalised(people[shown] + 0.1 * random.normal(size=(len(shown), 32)))
        return EmbeddedImages(images.labels, vectors, np.ones(len(shown)), images.rows), "labels"

    def embed_evaluation(self, paths, progress):
        return []


class TestNoise:
    @pytest.fixture
    def run(self, workspace, source):
        def run(teacher="labels", **options):
            choice = None if teacher is None else TeacherChoice(name=teacher)
            given = {"teacher": choice, **options}
            return run_recipe(
                "ms1m", workspace, source, open_embedder=lambda _: LabelEmbedder(), **given
            )

        return run

    def test_with_a_teacher_subsets_are_made_from_the_clean_view(self, run, workspace):
        made = {entry.path.name: entry for entry in run()}
        assert made["train.findings"].kind == "findings"
        assert "1 misplaced" in made["train.findings"].note
        clean = open_images(workspace.image_set("ms1m/clean"))
        at = dict(zip(clean.rows.tolist(), clean.labels.tolist(), strict=True))
        moved, first_of_3 = at.get(3), at[int(clean.store.offsets[3])]
        assert moved in (None, first_of_3)
        assert made["clean.view"].images == len(clean)
        cut = open_images(workspace.image_set("ms1m/long-tail-cut"))
        assert [step.name for step in cut.history] == ["clean", "long-tail-cut"]

    def test_all_output_is_reused(self, run, workspace):
        run()
        before = stats(workspace)
        made = run()
        assert all(entry.reused for entry in made if entry.kind not in ("refused", "report"))
        assert stats(workspace) == before

    def test_edited_decisions_update_the_views(self, run, workspace):
        run()
        folder = workspace.datasets / "ms1m"
        own = write_retina_s(folder / "mine.view", open_images(folder / "clean.view"), 50)
        other = write_retina_s(folder / "other.view", open_images(folder / "train.lmdb"), 50)
        table = folder / "train.findings" / "decisions.tsv"
        table.write_text(table.read_text().replace("yes\t", "no\t"))
        made = {entry.path.name: entry for entry in run()}
        assert made["clean.view"].images == 90
        assert "made again: the decisions have changed" in made["clean.view"].note
        assert (
            "mine.view was made from the earlier clean.view and is kept" in made["clean.view"].note
        )
        assert "other.view" not in made["clean.view"].note
        assert "made again: clean.view has changed since" in made["retina-s.view"].note
        for kept in (own, other):
            assert open_images(kept.path).digest == kept.digest
        assert all(entry.reused for entry in run() if entry.kind not in ("refused", "report"))

    def test_rounds_end_when_little_changes(self, run, workspace):
        once = {entry.path.name: entry for entry in run()}
        made = {entry.path.name: entry for entry in run(rounds=5)}
        assert made["clean-1.view"].images == once["clean.view"].images
        assert made["clean-1.findings"].kind == "findings"
        assert "clean-2.view" not in made
        assert "round 2: 0 decisions; made again" in made["clean.view"].note
        clean = open_images(workspace.image_set("ms1m/clean"))
        assert [step.name for step in clean.history] == ["clean", "clean"]
        assert len(clean) == once["clean.view"].images
        again = run(rounds=5)
        assert all(entry.reused for entry in again if entry.kind not in ("refused", "report"))

    def test_a_later_round_applies_its_own_decisions(self, run, workspace):
        run(rounds=2)
        folder = workspace.datasets / "ms1m"
        before = open_images(folder / "clean.view")
        table = folder / "clean-1.findings" / "decisions.tsv"
        with table.open("a") as file:
            file.write("yes\tdrop\t0\t0\t\t\t\tmine\t\n")
        made = {entry.path.name: entry for entry in run(rounds=2)}
        assert made["clean-1.view"].reused
        assert "the decisions have changed" in made["clean.view"].note
        assert made["clean.view"].images == len(before) - 1

    def test_rounds_without_a_teacher_use_earlier_findings(self, run, workspace):
        assert "clean-1.view" not in counts(run(teacher="labels", rounds=1))
        run(rounds=3)
        made = {entry.path.name: entry for entry in run(rounds=3, teacher=None)}
        assert made["clean.view"].reused

    def test_rounds_of_a_recipe_without_cleaning(self, workspace):
        with pytest.raises(UserError, match="drawn-faces cleans nothing; leave --rounds out"):
            run_recipe("drawn-faces", workspace, rounds=2)

    def test_first_without_and_then_with_a_teacher(self, run, workspace, source):
        run_recipe("ms1m", workspace, source)
        made = {entry.path.name: entry for entry in run()}
        for name in ("long-tail-cut.view", "retina-s.view"):
            assert made[name].note == "made again: clean.view has changed since"
            view = open_images(workspace.datasets / "ms1m" / name)
            assert [step.name for step in view.history] == ["clean", name.removesuffix(".view")]
        again = {entry.path.name: entry for entry in run_recipe("ms1m", workspace, source)}
        assert again["train.findings"].note == EARLIER
        assert again["clean.view"].reused
        assert again["retina-s.view"].reused

    def test_a_users_raw_view_is_named_before_the_first_step(self, run, workspace, source):
        folder = workspace.datasets / "ms1m"
        convert(source, folder / "train.lmdb")
        by_hand(folder / "long-tail-cut.view", 5)
        with pytest.raises(UserError, match=r"long-tail-cut\.view was not made by .* cleaned"):
            run()
        assert not (folder / "train.findings").exists()

    def test_a_users_view_of_other_decisions_is_left_alone(self, run, workspace):
        run()
        folder = workspace.datasets / "ms1m"
        (folder / "recipe.json").unlink()
        kept = open_images(folder / "long-tail-cut.view").digest
        (folder / "clean.view").rename(folder / "my-clean.view")
        table = folder / "train.findings" / "decisions.tsv"
        table.write_text(table.read_text().replace("yes\t", "no\t"))
        made = {entry.path.name: entry for entry in run()}
        assert made["long-tail-cut.view"].kind == "kept"
        assert "is kept: clean.view has changed since" in (made["long-tail-cut.view"].note)
        assert open_images(folder / "long-tail-cut.view").digest == kept
        assert made["train.report.html"].path.exists()

    def test_decisions_that_drop_everything_leave_no_view(self, run, workspace):
        run()
        folder = workspace.datasets / "ms1m"
        table = folder / "train.findings" / "decisions.tsv"
        head = "".join(table.read_text().splitlines(keepends=True)[:2])
        table.write_text(head + "".join(f"yes\tdrop-identity\t\t{k}\n" for k in range(5)))
        made = {entry.path.name: entry for entry in run()}
        assert (made["clean.view"].kind, made["clean.view"].note) == (
            "skipped",
            "clean leaves nothing of train.lmdb",
        )
        assert not (folder / "clean.view").exists()
        assert made["long-tail-cut.view"].images == 85

    def test_findings_on_an_earlier_store_do_not_stop_it(self, run, workspace, write_source):
        run()
        folder = workspace.datasets / "ms1m"
        shutil.rmtree(folder / "train.lmdb")
        other = write_source({0: 7, 1: 9}, "other")
        made = {entry.path.name: entry for entry in run_recipe("ms1m", workspace, other)}
        assert (
            made["clean.view"].note == "train.findings was made for earlier contents of train.lmdb"
        )
        assert made["retina-s.view"].images == 16
        assert made["train.report.html"].path.exists()
        assert (folder / "train.findings" / "decisions.tsv").exists()

    @pytest.mark.parametrize("left", ["clean.view.new", "clean.view.old"])
    def test_leftovers_of_a_killed_recipe_do_no_harm(self, run, workspace, left):
        run()
        folder = workspace.datasets / "ms1m"
        (folder / "clean.view").rename(folder / left)
        made = {entry.path.name: entry for entry in run()}
        assert made["clean.view"].images
        assert not (folder / left).exists()


class TestFiles:
    @pytest.mark.parametrize("name", recipe_names())
    def test_every_recipe_can_be_read(self, name):
        assert load_recipe(name).description

    def test_an_unknown_recipe_is_refused_with_the_known_ones(self):
        with pytest.raises(
            UserError, match=r"no recipe '\.\./x'; there are: drawn-faces, ms1m, sample"
        ):
            load_recipe("../x")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("x = ", "not TOML: Invalid value"),
            ("", "description"),
            ('dataset = "A"', "dataset|description"),
            ('[[step]]\ndo = "shell"', "3:3: step 1: there is no step 'shell'"),
            ('[[step]]\ndo = "convert"\nto = "../train"', "5:6: step 1: to: does not match"),
            (
                '[[step]]\ndo = "convert"\nto = "train"\nthreads = 3',
                "6:1: step 1: unknown key",
            ),
            (
                '[[step]]\ndo = "retina-s"\nof = "a"\nto = "b"\nmaximum = "5"',
                "7:11: step 1: maximum: must",
            ),
        ],
    )
    def test_an_invalid_file_names_the_key(self, text, complaint):
        whole = f'description = "d"\ndataset = "d"\n{text}' if "step" in text else text
        with pytest.raises(UserError, match=f"recipe x.*{complaint}"):
            parse_recipe(whole, "recipe x")

    def test_an_unknown_key_is_reported_with_a_suggestion(self):
        text = (
            'description = "d"\ndataset = "d"\n[[step]]\ndo = "convert"\nto = "a"\nskip_bat = true'
        )
        with pytest.raises(UserError) as error:
            parse_recipe(text, "x.toml")
        said = "x.toml:6:1: step 1: unknown key 'skip_bat'; did you mean 'skip_bad'?"
        assert str(error.value) == said

    def test_older_recipes_may_use_mark(self):
        text = 'description = "d"\ndataset = "d"\n[[step]]\ndo = "mark"\nof = "train"'
        assert type(parse_recipe(text, "x").step[0]) is ScoreStep
