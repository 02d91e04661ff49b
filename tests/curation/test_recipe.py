import hashlib
import shutil

import numpy as np
import pytest

from curation.errors import UserError
from curation.neighbours import normalised
from curation.noise.embedded import EmbeddedImages
from curation.noise.eyes import TeacherChoice
from curation.pairs import write_pairs
from curation.recipes.file import load_recipe, parse_recipe, recipe_names
from curation.recipes.run import run_recipe
from curation.subsets import write_long_tail_cut
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
    """Of everything but the report, which is written anew each time, and its folder."""
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files if path.suffix != ".html"}


def test_the_ms1m_recipe_makes_a_store_two_views_and_the_evaluation_sets(workspace, source):
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


def test_what_is_refused_says_why(workspace, source):
    made = run_recipe("ms1m", workspace, source)
    (refused,) = (entry for entry in made if entry.kind == "refused")
    assert "broken.bin is no verification set" in refused.note


def test_finished_steps_are_not_done_again(workspace, source):
    run_recipe("ms1m", workspace, source)
    page = (workspace.datasets / "ms1m" / "train.report.html").read_bytes()
    before = stats(workspace)
    made = run_recipe("ms1m", workspace, source)
    assert all(entry.reused for entry in made if entry.kind not in ("refused", "skipped", "report"))
    assert stats(workspace) == before
    assert (workspace.datasets / "ms1m" / "train.report.html").read_bytes() == page


@pytest.mark.parametrize("lost", ["train.lmdb", "long-tail-cut.view", "retina-s.view"])
def test_a_step_whose_output_is_gone_is_done_again(workspace, source, lost):
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


def test_the_source_may_lie_in_the_workspace(workspace, source):
    workspace.sources.mkdir(parents=True)
    source.rename(workspace.sources / "ms1m")
    assert run_recipe("ms1m", workspace)[0].images == 90


def test_another_data_set_has_its_own_place(workspace, source, monkeypatch):
    monkeypatch.setenv("MS1M_SOURCE", "/nowhere")
    workspace.sources.mkdir(parents=True)
    source.rename(workspace.sources / "real-faces")
    run_recipe("ms1m", workspace, dataset="real-faces")
    assert "real-faces/train" in workspace.image_sets()


def test_missing_files_are_one_message_with_place_and_remedy(workspace):
    with pytest.raises(UserError) as refusal:
        run_recipe("ms1m", workspace)
    message = str(refusal.value)
    for wanted in ("train.rec", str(workspace.sources / "ms1m"), "--source", "$MS1M_SOURCE"):
        assert wanted in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["../up", "", "Name", "a/b", "-a", "a" * 65])
def test_a_data_set_name_cannot_leave_the_workspace(workspace, source, name):
    with pytest.raises(UserError, match="a name is small letters"):
        run_recipe("ms1m", workspace, source, name)


def test_another_source_under_the_same_name_is_refused(workspace, source, write_source):
    run_recipe("ms1m", workspace, source)
    with pytest.raises(UserError, match="made from another source"):
        run_recipe("ms1m", workspace, write_source({0: 9}, "other"))


def test_a_view_made_with_another_limit_is_left_alone(workspace, source):
    run_recipe("ms1m", workspace, source)
    folder = workspace.datasets / "ms1m"
    shutil.rmtree(folder / "long-tail-cut.view")
    write_long_tail_cut(folder / "long-tail-cut.view", open_images(folder / "train.lmdb"), 2)
    with pytest.raises(UserError, match=r"with \{'minimum': 2\}, the recipe says .*'minimum': 5"):
        run_recipe("ms1m", workspace, source)


def test_another_evaluation_set_of_that_name_is_left_alone(workspace, source, noise_images):
    run_recipe("ms1m", workspace, source)
    write_pairs(workspace.datasets / "ms1m" / "lfw.bin", noise_images[4:8], [True, False])
    digest = hashlib.sha256((workspace.datasets / "ms1m" / "lfw.bin").read_bytes()).digest()
    with pytest.raises(UserError, match=r"lfw\.bin is not the lfw\.bin of"):
        run_recipe("ms1m", workspace, source)
    kept = hashlib.sha256((workspace.datasets / "ms1m" / "lfw.bin").read_bytes()).digest()
    assert kept == digest


def test_the_sample_recipe_takes_no_source(workspace, source):
    with pytest.raises(UserError, match="draws its own source"):
        run_recipe("sample", workspace, source)


class LabelEyes:
    """A teacher who sees the person of each image; image 3 shows the person of identity 3."""

    def see(self, images, progress):
        random = np.random.default_rng(0)
        people = normalised(random.normal(size=(9, 32)))
        shown = images.store.labels.copy()
        shown[3] = 3
        vectors = normalised(people[shown] + 0.1 * random.normal(size=(len(shown), 32)))
        return EmbeddedImages(images.labels, vectors, np.ones(len(shown)), images.rows), "eyes"

    def see_evaluation(self, paths, progress):
        return []


class TestNoise:
    @pytest.fixture
    def run(self, workspace, source):
        def run(teacher="eyes"):
            choice = TeacherChoice(name=teacher)
            return run_recipe(
                "ms1m", workspace, source, open_eyes=lambda _: LabelEyes(), teacher=choice
            )

        return run

    def test_with_a_teacher_the_subsets_are_made_of_the_clean_view(self, run, workspace):
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

    def test_all_of_it_is_found_again(self, run, workspace):
        run()
        before = stats(workspace)
        made = run()
        assert all(entry.reused for entry in made if entry.kind not in ("refused", "report"))
        assert stats(workspace) == before

    def test_edited_decisions_do_not_leave_an_older_view_in_place(self, run, workspace):
        run()
        table = workspace.datasets / "ms1m" / "train.findings" / "decisions.tsv"
        table.write_text(table.read_text().replace("yes\t", "no\t"))
        with pytest.raises(UserError, match=r"clean\.view was made after other decisions"):
            run()

    def test_views_of_the_raw_store_are_not_taken_for_views_of_the_clean_one(
        self, run, workspace, source
    ):
        run_recipe("ms1m", workspace, source)
        with pytest.raises(UserError, match=r"made of something else than clean\.view"):
            run()


class TestFiles:
    @pytest.mark.parametrize("name", recipe_names())
    def test_every_recipe_can_be_read(self, name):
        assert load_recipe(name).description

    def test_an_unknown_recipe_is_refused_with_those_there_are(self):
        with pytest.raises(
            UserError, match=r"no recipe '\.\./x'; there are: drawn-faces, ms1m, sample"
        ):
            load_recipe("../x")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("x = ", "Invalid value"),
            ("", "description"),
            ('dataset = "A"', "dataset|description"),
            ('[[step]]\ndo = "shell"', "step.0"),
            ('[[step]]\ndo = "convert"\nto = "../train"', "step.0.convert.to"),
            ('[[step]]\ndo = "convert"\nto = "train"\nthreads = 3', "step.0.convert.threads"),
            (
                '[[step]]\ndo = "retina-s"\nof = "a"\nto = "b"\nmaximum = "5"',
                "step.0.retina-s.maximum",
            ),
        ],
    )
    def test_a_wrong_file_names_the_key(self, text, complaint):
        whole = f'description = "d"\ndataset = "d"\n{text}' if "step" in text else text
        with pytest.raises(UserError, match=f"recipe x: .*{complaint}"):
            parse_recipe(whole, "recipe x")
