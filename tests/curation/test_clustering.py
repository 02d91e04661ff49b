"""Clustering unlabelled faces by their embeddings, and the resulting view."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cluster_faces import f_scores, synthetic
from simulated_people import people
from typer.testing import CliRunner

import curation.neighbours
from curation.clustering import connected, group_faces, measure_strangers
from curation.conversion.convert import convert
from curation.errors import UserError
from curation.face_groups import propose_groups, write_groups
from curation.images import encode_jpeg
from curation.joining import BothSets, bring_together
from curation.labels import each_alone
from curation.neighbours import near_each, normalised
from curation.noise.clean import decisions_digest, write_clean
from curation.noise.decisions import read_decisions, write_decisions
from curation.noise.embedded import EmbeddedImages
from curation.sample.studio import Studio
from curation.store import Store
from curation.unlabelled import with_each_alone
from curation.views import View, open_images
from distill.cli.curate import app


def test_people_are_grouped_and_strangers_stay_alone() -> None:
    vectors, labels = synthetic(4000, 128)
    groups, sureness = group_faces(vectors)
    assert f_scores(labels, groups)["BCubed, all"] > 0.98
    assert len(sureness) == groups.max() + 1
    assert ((sureness >= 0) & (sureness <= 1)).all()


def test_strangers_alone_are_not_grouped() -> None:
    vectors = normalised(np.random.default_rng(0).standard_normal((3000, 128)))
    groups, _ = group_faces(vectors)
    assert len(np.unique(groups)) > 2700


@pytest.mark.parametrize("people", [3, 8, 20])
def test_few_people_are_separated_too(people: int) -> None:
    """With so few people, many random pairs show one person."""
    random = np.random.default_rng(people)
    labels = np.repeat(np.arange(people), 12)
    centres = random.standard_normal((people, 128))
    vectors = normalised(centres[labels] + 0.7 * random.standard_normal((len(labels), 128)))
    assert f_scores(labels, group_faces(vectors)[0])["BCubed"] > 0.95


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_sets_are_handled(count: int) -> None:
    vectors = np.eye(4, dtype=np.float32)[:count]
    assert group_faces(vectors)[0].tolist() == list(range(count))


def test_the_order_of_the_images_does_not_matter() -> None:
    vectors, _ = synthetic(2000, 128)
    order = np.random.default_rng(0).permutation(len(vectors))
    one, other = group_faces(vectors)[0], group_faces(vectors[order])[0]
    assert f_scores(one[order], other)["pairwise"] > 0.995


def test_groups_are_numbered_by_their_first_image() -> None:
    groups, _ = group_faces(synthetic(500, 64)[0])
    first = np.unique(groups, return_index=True)[1]
    assert (np.diff(first) > 0).all()


def test_impostors_are_estimated_despite_many_genuine_pairs() -> None:
    vectors, _ = synthetic(3000, 128)
    assert measure_strangers(vectors).spread == pytest.approx(128**-0.5, rel=0.05)


def test_components_are_those_of_a_search() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        pairs = random.integers(0, 60, (40, 2))
        expected = list(range(60))
        for first, second in pairs.tolist():
            old, new = expected[second], expected[first]
            expected = [new if one == old else one for one in expected]
        assert f_scores(np.array(expected), connected(60, pairs))["BCubed, all"] == 1.0


def test_lists_find_nearly_all_near_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = synthetic(12_000, 64)
    exact, _ = near_each(vectors, 8)
    monkeypatch.setattr(curation.neighbours, "LARGEST_COMPARED", 1000)
    found, which = near_each(vectors, 8)
    assert which.shape == (12_000, 9)
    near = exact > 0.5
    assert (np.abs(found - exact)[near] < 0.01).mean() > 0.95


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Forty drawn faces of ten unlabelled people, and two labelled people."""
    root = tmp_path_factory.mktemp("street")
    studio = Studio(3)
    for person in range(12):
        for shot in range(4):
            name = f"{'unlabelled' if person < 10 else f'known-{person}'}/{person}-{shot}.jpg"
            (root / "files" / name).parent.mkdir(parents=True, exist_ok=True)
            conditions = studio.conditions(7, person, shot, yaw=0.0)
            (root / "files" / name).write_bytes(studio.face(person, conditions))
    return convert(root / "files", root / "street.lmdb")


def embedded(store: Store) -> tuple[EmbeddedImages, np.ndarray]:
    """Embeddings of a teacher that is nearly always right, and the person in each image."""
    names = store.source_names or ()
    who = np.array([int(name.rpartition("/")[2].split("-")[0]) for name in names])
    random = np.random.default_rng(1)
    centres = random.standard_normal((12, 64))
    unit = normalised(centres[who] + 0.5 * random.standard_normal((len(who), 64)))
    rows = np.arange(len(store))
    return EmbeddedImages(each_alone(store.labels), unit, np.ones(len(store)), rows), who


def test_groups_become_identities_of_a_view(street: Store, tmp_path: Path) -> None:
    images, who = embedded(street)
    made, table = write_groups(tmp_path / "people.view", street, images)
    assert (made.identities, made.unlabelled, len(made)) == (12, 0, 48)
    for identity in range(12):
        assert len(set(who[made.rows[made.labels == identity]])) == 1
    decisions = read_decisions(table, street.digest)
    assert len(decisions) == 30
    assert {one.action for one in decisions} == {"merge"}
    assert table.name == "people.cluster.tsv"


def test_a_line_can_be_rejected(street: Store, tmp_path: Path) -> None:
    decisions = propose_groups(street, embedded(street)[0])
    table = tmp_path / "edited.tsv"
    write_decisions(table, street.digest, decisions)
    table.write_text(table.read_text().replace("yes\tmerge", "no\tmerge", 1))
    made = write_clean(tmp_path / "x.view", street, read_decisions(table, street.digest))
    assert (made.identities, made.unlabelled) == (12, 1)


def test_a_set_with_labels_only_is_refused(street: Store, tmp_path: Path) -> None:
    from curation.subsets import write_keep
    from curation.subsets.text_lists import By

    (tmp_path / "list.txt").write_text("0\n1\n")
    labelled = write_keep(tmp_path / "l.view", street, tmp_path / "list.txt", By.IDENTITY)
    with pytest.raises(
        UserError, match="has 0 images without a label, so there is nothing to group"
    ):
        propose_groups(labelled, embedded(street)[0])


def _street_shots(who: int) -> int:
    """Of forty people: thirty are known, of whom ten are on the street with one face and ten with
    three; ten strangers have three.
    """
    return 1 if who < 10 else 0 if 20 <= who < 30 else 3


@pytest.fixture(scope="module")
def both_sets(tmp_path_factory: pytest.TempPathFactory) -> BothSets:
    """The known people with five labelled images each, and the unlabelled street."""
    root = tmp_path_factory.mktemp("into")
    for who in range(40):
        shots = [(f"known/{who:02}", shot) for shot in range(5 if who < 30 else 0)]
        shots += [(f"street/{who:02}", shot) for shot in range(5, 5 + _street_shots(who))]
        for beginning, shot in shots:
            slash = "/" if beginning.startswith("known") else "-"
            path = root / f"{beginning}{slash}{shot}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([who, shot]).integers(0, 256, (8, 8, 3), np.uint8)
            path.write_bytes(encode_jpeg(pixels))
    known = convert(root / "known", root / "known.lmdb")
    return bring_together(known, convert(root / "street", root / "street.lmdb"))


@pytest.fixture(scope="module")
def of_both(both_sets: BothSets) -> EmbeddedImages:
    vectors, _ = people([8] * 40)
    names = both_sets.images.store.source_names or ()
    places = [re.findall(r"[0-9]+", name)[:2] for name in names]
    unit = np.stack([vectors[8 * int(who) + int(shot)] for who, shot in places])
    labels = with_each_alone(both_sets.images).labels
    return EmbeddedImages(labels, unit, np.ones(len(unit), np.float32), both_sets.images.rows)


class TestInto:
    def test_faces_get_the_identities_of_known_people(
        self, both_sets: BothSets, of_both: EmbeddedImages, tmp_path: Path
    ) -> None:
        made, table = write_groups(tmp_path / "more.view", both_sets, of_both)
        names = made.store.source_names or ()
        who = np.array([int(re.findall(r"[0-9]+", names[row])[0]) for row in made.rows])
        assert made.identities == 40
        assert made.unlabelled == 0
        assert np.bincount(made.labels)[:20].tolist() == [6] * 10 + [8] * 10
        assert all(len(set(who[made.labels == identity])) == 1 for identity in range(40))
        assert made.history[-1].parameters["by"] == "cluster"
        decisions = read_decisions(table, both_sets.images.digest)
        assert len({one.into for one in decisions if (one.into or 0) < 30}) == 20

    def test_a_line_can_be_rejected_and_join_applies_the_rest(
        self, both_sets: BothSets, of_both: EmbeddedImages, tmp_path: Path
    ) -> None:
        _, table = write_groups(tmp_path / "more.view", both_sets, of_both)
        table.write_text(table.read_text().replace("yes\tmerge", "no\tmerge", 1))
        paths = [
            str(both_sets.first.path),
            str(both_sets.second.path),
            str(tmp_path / "reviewed.view"),
        ]
        command = ["join", *paths, "--decisions", str(table), "--json"]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        reviewed = open_images(tmp_path / "reviewed.view")
        assert reviewed.identities + reviewed.unlabelled == 41


def test_an_edited_table_is_not_overwritten(street: Store, tmp_path: Path) -> None:
    images, _ = embedded(street)
    table = tmp_path / "people.cluster.tsv"
    table.write_text("edited")
    with pytest.raises(UserError, match=r"people\.cluster\.tsv exists; remove it"):
        write_groups(tmp_path / "people.view", street, images)
    assert table.read_text() == "edited"
    assert not (tmp_path / "people.view").exists()


def test_of_two_at_a_time_one_writes_both_files(street: Store, tmp_path: Path) -> None:
    images, _ = embedded(street)
    others = replace(images, unit=images.unit[::-1].copy())
    view, table = tmp_path / "people.view", tmp_path / "people.cluster.tsv"

    def other_finishes_first(done: int, total: int) -> None:
        if not view.exists():
            write_groups(view, street, others)

    with pytest.raises(UserError, match="exists; remove it"):
        write_groups(view, street, images, other_finishes_first)
    applied = decisions_digest(read_decisions(table, street.digest))
    assert View(view).history[-1].parameters["decisions"] == applied


def test_the_command_makes_the_view(street: Store, tmp_path: Path) -> None:
    arguments = ["cluster", str(street.path), str(tmp_path / "p.view"), "--teacher", "drawn-faces"]
    line = [sys.executable, "-m", "distill.cli.curate", *arguments]
    line += ["--workspace", str(tmp_path), "--json"]
    done = subprocess.run(line, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert told["images"] == 48
    assert told["grouped"] + told["unlabelled"] == 40
    assert told["identities"] >= 9
    assert Path(told["decisions"]).name == "p.cluster.tsv"
    again = subprocess.run(line, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "exists; remove it or choose another name" in again.stderr
