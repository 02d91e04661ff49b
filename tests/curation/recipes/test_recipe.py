"""What the MS1M recipe makes and repeats, and errors before its first step."""

import shutil

import pytest

from curation.errors import UserError
from curation.locks import locked
from curation.noise.embedded import TeacherChoice
from curation.recipes.run import run_recipe
from curation.subsets import write_long_tail_cut
from curation.views import open_images
from tests.curation.recipes.recipe_runs import LabelEmbedder, counts, stats


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


def test_a_pack_without_a_head_or_tail_still_gets_its_report(workspace, write_source):
    made = {e.path.name: e for e in run_recipe("ms1m", workspace, write_source({0: 2, 1: 3}))}
    assert (made["long-tail-cut.view"].kind, made["long-tail-cut.view"].note) == (
        "skipped",
        "long-tail-cut with minimum 5 leaves nothing of train.lmdb",
    )
    assert made["retina-s.view"].images == 5
    assert made["train.report.html"].path.exists()
    assert not (workspace.datasets / "ms1m" / "long-tail-cut.view").exists()


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
