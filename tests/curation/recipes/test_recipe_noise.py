"""Checks, cleaning and rounds in a recipe, with a teacher."""

import shutil

import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.noise.embedded import TeacherChoice
from curation.recipes.noise_steps import EARLIER
from curation.recipes.run import run_recipe
from curation.subsets import write_retina_s
from curation.views import open_images
from tests.curation.recipes.recipe_runs import LabelEmbedder, by_hand, counts, stats


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

    @pytest.mark.parametrize("left", ["clean.view.new", ".clean.view.replaced"])
    def test_leftovers_of_a_killed_recipe_do_no_harm(self, run, workspace, left):
        run()
        folder = workspace.datasets / "ms1m"
        (folder / "clean.view").rename(folder / left)
        made = {entry.path.name: entry for entry in run()}
        assert made["clean.view"].images
        assert not (folder / left).exists()
