"""Recipes leave the files of a user alone, and follow changes of verification sets."""

import shutil

import pytest

from curation.errors import UserError
from curation.pairs import write_pairs
from curation.recipes.run import run_recipe
from curation.subsets import write_retina_s
from curation.views import open_images
from tests.curation.recipes.recipe_runs import by_hand


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
