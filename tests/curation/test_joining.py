"""Two stores combined: their union, and people in both merged into one identity."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from simulated_people import people
from typer.testing import CliRunner

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.inspection import inspect_path
from curation.joining import bring_together, same_by_embeddings, same_by_name, write_join
from curation.noise.decisions import Decision, read_decisions
from curation.noise.embedded import EmbeddedImages
from curation.subsets import By, write_difference, write_intersection, write_keep, write_union
from curation.verify import verify
from curation.view_writing import write_subset
from curation.views import View, open_images
from distill.cli.curate import app

BOTH, OURS, THEIRS = 30, 10, 8
"""Numbers of people in both sets, and in one only"""
EACH = 5


def tree(folder, names):
    """A folder of images per person."""
    for who, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for image in range(EACH):
            pixels = np.random.default_rng([who, image]).integers(0, 256, (8, 8, 3), np.uint8)
            (folder / name / f"{image}.jpg").write_bytes(encode_jpeg(pixels))
    return folder


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """People are named by number; those in both stores come last in one and first in the other."""
    folder = tmp_path_factory.mktemp("stores")
    ours = [f"Person_{who:03}" for who in range(OURS + BOTH)]
    theirs = [f"person {who:03}" for who in range(OURS, OURS + BOTH + THEIRS)]
    return (
        convert(tree(folder / "ours", ours), folder / "a" / "ours.lmdb"),
        convert(tree(folder / "theirs", theirs), folder / "b" / "theirs.lmdb"),
    )


class Teacher:
    """Knows the person in every image of both stores."""

    def __init__(self, stores):
        vectors, _ = people([2 * EACH] * (OURS + BOTH + THEIRS))
        by_person = vectors.reshape(OURS + BOTH + THEIRS, 2, EACH, -1)
        self.vectors = {
            stores[0].digest: by_person[: OURS + BOTH, 0].reshape(-1, vectors.shape[1]),
            stores[1].digest: by_person[OURS:, 1].reshape(-1, vectors.shape[1]),
        }

    def embed(self, images, progress):
        unit = np.concatenate([self.vectors[store.digest] for store in images.store.stores])
        norm = np.ones(len(unit), np.float32)
        return EmbeddedImages(images.labels, unit, norm, images.rows), "digest"


class TestUnion:
    def test_a_union_of_two_stores_has_the_images_of_both(self, stores, tmp_path):
        ours, theirs = stores
        union = write_union(tmp_path / "union.view", ours, theirs)
        assert (len(union), union.identities) == (len(ours) + len(theirs), 40 + 38)
        assert union.read(0) == ours.read(0)
        assert union.read(len(union) - 1) == theirs.read(len(theirs) - 1)
        assert union.history[-1].other.digest == theirs.digest
        described = inspect_path(union.path)
        assert described["store_digest"] == ours.digest
        assert [each["digest"] for each in described["other_stores"]] == [theirs.digest]

    def test_sets_of_both_stores_combine_with_those_of_one(self, stores, tmp_path):
        ours, theirs = stores
        union = write_union(tmp_path / "union.view", ours, theirs)
        part = write_subset(tmp_path / "part.view", theirs, theirs.labels < 3, "some", {})
        both = write_union(tmp_path / "again.view", part, union)
        assert (len(both), both.identities) == (len(union), union.identities)
        assert sorted(both.read_many(np.arange(len(both)))) == sorted(
            union.read_many(np.arange(len(union)))
        )
        assert len(write_intersection(tmp_path / "i.view", union, part)) == len(part)
        without = write_difference(tmp_path / "d.view", union, theirs)
        assert (len(without), without.identities) == (len(ours), ours.identities)
        cut = write_subset(tmp_path / "cut.view", union, union.labels > 38, "some", {})
        assert cut.store.digest == union.store.digest
        assert View(cut.path).read(0) == ours.read(39 * EACH)

    def test_sets_without_a_store_in_common_have_nothing_in_common(self, stores, tmp_path):
        for write in (write_intersection, write_difference):
            with pytest.raises(UserError, match="have no common image"):
                write(tmp_path / "no.view", *stores)

    def test_a_view_of_two_stores_moves_with_them(self, stores, tmp_path):
        for store, name in zip(stores, "ab", strict=True):
            shutil.copytree(store.path.parent, tmp_path / "place" / name)
        place = tmp_path / "place"
        first, second = place / "a" / "ours.lmdb", place / "b" / "theirs.lmdb"
        union = write_union(place / "a" / "u.view", open_images(first), open_images(second))
        moved = tmp_path / "moved"
        place.rename(moved)
        assert View(moved / "a" / "u.view").digest == union.digest
        assert verify(moved / "a" / "u.view", decoding=True)["sound"]
        shutil.rmtree(moved / "b" / "theirs.lmdb")
        with pytest.raises(UserError, match=r"is a view of a store that cannot be read: .*theirs"):
            View(moved / "a" / "u.view")

    @pytest.mark.parametrize(
        ("key", "value"), [("path", "../../nowhere"), ("digest", "0" * 64), ("twice", None)]
    )
    def test_a_view_with_another_second_store_is_refused(self, stores, tmp_path, key, value):
        union = write_union(tmp_path / "u.view", *stores)
        file = union.path / "view.json"
        meta = json.loads(file.read_text())
        other = meta["other_stores"][0]
        if key == "twice":
            other |= {"path": meta["store"], "digest": meta["store_digest"]}
        else:
            other[key] = value
        file.write_text(json.dumps(meta))
        with pytest.raises(UserError, match=r"u\.view"):
            View(union.path)

    def test_lists_by_key_are_ambiguous_for_two_stores(self, stores, tmp_path):
        union = write_union(tmp_path / "u.view", *stores)
        listed = tmp_path / "list.txt"
        listed.write_text("1\n")
        for by in (By.KEY, By.LABEL):
            with pytest.raises(UserError, match=r"is of 2 stores.*list by index, identity"):
                write_keep(tmp_path / "k.view", union, listed, by)
        assert len(write_keep(tmp_path / "k.view", union, listed, By.IDENTITY)) == EACH


def of_one_person(both, decisions):
    """Whether each pair is one person, by the names of the folders."""
    names = both.images.store.source_names
    firsts = both.images.rows[both.images.offsets[:-1]]

    def number(identity):
        return names[firsts[identity]].split("/")[-2][-3:]

    return [number(each.identity) == number(each.into) for each in decisions]


def test_people_in_both_are_found_by_their_faces(stores):
    both = bring_together(*stores)
    found = same_by_embeddings(both, Teacher(stores))
    right = of_one_person(both, found)
    assert all(right)
    assert len(right) >= 0.9 * BOTH
    assert all(0.5 < each.score <= 1 and "cosine" in each.note for each in found)


def test_people_in_both_are_found_by_their_names(stores):
    both = bring_together(*stores)
    found = same_by_name(both)
    assert len(found) == BOTH
    assert all(of_one_person(both, found))


def test_a_set_is_not_combined_with_itself(stores, tmp_path):
    ours, _ = stores
    for combine in (lambda: write_union(tmp_path / "a.view", ours, ours), lambda: both_of(ours)):
        with pytest.raises(UserError, match="are the same set, so there is nothing to combine"):
            combine()
    assert not list(tmp_path.glob("a.view*"))


def both_of(images):
    return bring_together(images, images)


def test_people_without_labels_are_not_matched(stores, tmp_path):
    ours, theirs = stores
    nobody = convert(theirs.path.parent.with_name("theirs"), tmp_path / "n.lmdb", unlabelled=True)
    for both in (bring_together(ours, nobody), bring_together(nobody, ours)):
        with pytest.raises(UserError, match=r"n\.lmdb has no labelled .* `curate cluster .*--into"):
            same_by_name(both)


def test_records_have_no_names(drawn_store, tmp_path):
    some = write_subset(tmp_path / "a.view", drawn_store, drawn_store.labels < 2, "keep", {})
    with pytest.raises(UserError, match="in which people have no names"):
        same_by_name(bring_together(drawn_store, some))


def test_people_in_both_become_one_identity(stores, tmp_path):
    both = bring_together(*stores)
    found = same_by_name(both)
    made = write_join(tmp_path / "joined.view", both, found, "name")
    assert made.identities == OURS + BOTH + THEIRS
    assert len(made) == (OURS + BOTH + BOTH + THEIRS) * EACH
    sizes = np.diff(made.offsets).tolist()
    assert sizes == [EACH] * OURS + [2 * EACH] * BOTH + [EACH] * THEIRS
    step = made.history[-1]
    assert (step.name, step.parameters["by"], step.parameters["merge"]) == ("join", "name", BOTH)
    assert step.other.digest == stores[1].digest
    kept = write_join(tmp_path / "kept.view", both, [], "decisions")
    assert kept.digest == write_union(tmp_path / "u.view", *stores).digest


def test_a_person_is_merged_at_most_once(stores):
    both = bring_together(*stores)
    pairs = np.array([[0, 50], [0, 51], [1, 50], [2, 52]])
    found = both.propose(pairs, np.array([0.7, 0.9, 0.8, 0.6]), ["", "", "", ""])
    assert [(each.into, each.identity) for each in found] == [(0, 51), (1, 50), (2, 52)]


class TestCommand:
    def run(self, *arguments):
        done = CliRunner().invoke(app, ["join", *map(str, arguments)])
        return done.exit_code, done.output, done.exception

    def test_proposals_are_shown_and_edits_are_applied(self, stores, tmp_path):
        sets = [store.path for store in stores]
        made = tmp_path / "all.view"
        code, output, _ = self.run(*sets, made, "--by", "name", "--dry-run", "--json")
        told = json.loads(output)
        assert (code, told["people_in_both"], len(told["people"])) == (0, BOTH, BOTH)
        assert not made.exists()
        table = Path(told["table"])
        assert table == tmp_path / "all.join.tsv"
        edited = tmp_path / "edited.tsv"
        edited.write_text(table.read_text().replace("yes\t", "no\t", 4))
        code, output, _ = self.run(*sets, made, "--decisions", edited, "--json")
        assert code == 0
        assert json.loads(output)["identities"] == OURS + BOTH + THEIRS + 4
        digest = bring_together(*stores).images.digest
        assert [each.apply for each in read_decisions(edited, digest)].count(False) == 4

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ([], "choose how people are matched: --teacher FILE"),
            (["--by", "name", "--teacher", "x"], "choose how people are matched: --teacher FILE"),
            (["--by", "key"], "--by is 'key'; allowed: name"),
            (["--decisions", "nowhere.tsv"], "nowhere.tsv does not exist"),
        ],
    )
    def test_invalid_options_are_reported(self, stores, tmp_path, options, said):
        sets = [store.path for store in stores]
        code, _, error = self.run(*sets, tmp_path / "all.view", *options)
        assert code != 0
        assert said in str(error)

    def test_no_file_is_overwritten(self, stores, tmp_path):
        sets = [store.path for store in stores]
        arguments = (*sets, tmp_path / "all.view", "--by", "name")
        assert self.run(*arguments)[0] == 0
        assert "all.view exists" in str(self.run(*arguments)[2])
        shutil.rmtree(tmp_path / "all.view")
        assert "all.join.tsv exists" in str(self.run(*arguments)[2])


def test_decisions_on_other_sets_are_refused(stores, tmp_path):
    both = bring_together(*stores)
    with pytest.raises(UserError, match="there is no identity 900"):
        write_join(tmp_path / "no.view", both, [Decision("merge", 900, None, 0)], "decisions")
