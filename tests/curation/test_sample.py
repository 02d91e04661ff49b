"""The sample data set: its files, its planted faults, and their description in truth.json."""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from curation.errors import UserError
from curation.images import decode
from curation.pairs import read_pairs
from curation.records.ms1m import find_source, stated_image_size
from curation.sample import write_sample
from curation.sample.ground_truth import TRUTH_FILE, Truth, read_truth
from curation.sample.plan import plan_training
from curation.sample.scoring import score_findings
from curation.sample.size import DEFAULT_SIZE, FOLDS, SampleSize, images_per_identity
from curation.sample.studio import PLAN, Studio
from curation.sample.verification import SHOTS
from curation.sources.records import SourceImage, read_images
from curation.store import Store

SMALL = SampleSize(
    identities=14,
    verification_people=20,
    pairs=40,
    mislabelled=4,
    mixed_identities=1,
    split_people=1,
    exact_duplicates=3,
    near_duplicates=3,
    non_faces=8,
)


class Sample(NamedTuple):
    folder: Path
    images: dict[int, SourceImage]
    truth: Truth


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, seed=3, size=SMALL)
    images = {image.key: image for image in read_images(find_source(folder))}
    return Sample(folder, images, read_truth(folder))


def test_every_image_is_an_aligned_face_crop(sample: Sample) -> None:
    assert stated_image_size(find_source(sample.folder)) == (112, 112)
    assert {decode(image.payload).shape for image in sample.images.values()} == {(112, 112, 3)}


def test_truth_names_every_record_by_key_and_label(sample: Sample) -> None:
    told = [(image.key, image.label) for image in sample.truth.images]
    assert told == [(key, image.label) for key, image in sample.images.items()]
    assert told[0] == (1, 0)
    assert (sample.truth.seed, sample.truth.generator) == (3, 1)


def test_the_requested_number_of_faults_is_planted(sample: Sample) -> None:
    truth = sample.truth
    assert len(truth.mislabelled) == SMALL.mislabelled
    assert len(truth.mixed_identities) == SMALL.mixed_identities
    assert len(truth.split_people) == SMALL.split_people
    assert len(truth.exact_duplicates) == SMALL.exact_duplicates
    assert len(truth.near_duplicates) == SMALL.near_duplicates
    assert len(truth.non_faces) == SMALL.non_faces
    assert Counter(image.fault for image in truth.images if image.fault) == {
        "mislabelled": len(truth.mislabelled),
        "second_person": sum(len(mixed.second_keys) for mixed in truth.mixed_identities),
        "exact_duplicate": len(truth.exact_duplicates),
        "near_duplicate": len(truth.near_duplicates),
        "non_face": len(truth.non_faces),
    }


def test_mislabelled_images_show_people_of_other_labels(sample: Sample) -> None:
    owners = label_owners(sample.truth)
    for key in sample.truth.mislabelled:
        image = sample.truth.images[key - 1]
        assert image.person != owners[image.label]
        assert image.person in owners.values()


def test_a_label_shows_mostly_its_own_person(sample: Sample) -> None:
    people = defaultdict(list)
    for image in sample.truth.images:
        people[image.label].append(image.person)
    for label, owner in label_owners(sample.truth).items():
        assert people[label].count(owner) > len(people[label]) / 2


def test_a_mixed_identity_shows_exactly_two_people(sample: Sample) -> None:
    for mixed in sample.truth.mixed_identities:
        images = [image for image in sample.truth.images if image.label == mixed.label]
        assert {image.person for image in images} == set(mixed.people)
        second = tuple(image.key for image in images if image.person == mixed.people[1])
        assert second == mixed.second_keys


def test_a_split_person_has_two_labels(sample: Sample) -> None:
    owners = label_owners(sample.truth)
    for split in sample.truth.split_people:
        assert split.labels[0] != split.labels[1]
        assert [owners[label] for label in split.labels] == [split.person] * 2


def test_exact_duplicates_are_the_only_equal_files(sample: Sample) -> None:
    first_key: dict[bytes, int] = {}
    for key, image in sample.images.items():
        first_key.setdefault(image.payload, key)
    repeated = {key for key, image in sample.images.items() if first_key[image.payload] != key}
    assert repeated == {pair.key for pair in sample.truth.exact_duplicates}
    for pair in sample.truth.exact_duplicates:
        assert sample.images[pair.key].payload == sample.images[pair.original].payload


def test_near_duplicates_differ_less_than_two_photographs(sample: Sample) -> None:
    near = [difference(sample, pair.key, pair.original) for pair in sample.truth.near_duplicates]
    ordinary = [image for image in sample.truth.images if image.fault is None]
    apart = [
        difference(sample, left.key, right.key)
        for left, right in pairwise(ordinary)
        if left.person == right.person
    ]
    assert min(near) > 0
    assert max(near) < np.median(apart) / 2


def test_non_faces_show_nobody(sample: Sample) -> None:
    nobody = {image.key for image in sample.truth.images if image.person is None}
    assert {non_face.key for non_face in sample.truth.non_faces} == nobody
    assert {non_face.kind for non_face in sample.truth.non_faces} == {
        "texture", "object", "blank", "noise",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["verify_easy", "verify_pose"])
def test_verification_pairs_are_balanced_folds_of_strangers(sample: Sample, name: str) -> None:
    pairs = read_pairs(sample.folder / f"{name}.bin")
    (told,) = (entry for entry in sample.truth.verification if entry.name == name)
    assert pairs.same.tolist() == [left == right for left, right in told.people]
    half = SMALL.pairs // (2 * FOLDS)
    assert pairs.same.tolist() == ([True] * half + [False] * half) * FOLDS
    assert {decode(image).shape for image in pairs.images} == {(112, 112, 3)}
    asked = {person for pair in told.people for person in pair}
    assert asked.isdisjoint(image.person for image in sample.truth.images)
    folds = np.array(told.people).reshape(FOLDS, -1)
    assert sum(len(set(fold)) for fold in folds.tolist()) == len(asked)


def test_the_same_seed_gives_the_same_bytes(sample: Sample, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    write_sample(tmp_path, 3, lambda done, total: steps.append((done, total)), SMALL)
    for file in sorted(sample.folder.iterdir()):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name
    total = len(steps)
    assert total == len(sample.images) + 2 * SHOTS * SMALL.verification_people
    assert steps == [(done, total) for done in range(1, total + 1)], "progress counts images"


def test_another_seed_gives_other_people_and_other_faults() -> None:
    first, second = Studio(0), Studio(1)
    assert first.head(0).person != second.head(0).person
    assert plan_training(SMALL, first.random(PLAN)) != plan_training(SMALL, second.random(PLAN))


def test_an_interrupted_run_leaves_no_truth(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / TRUTH_FILE).write_bytes((sample.folder / TRUTH_FILE).read_bytes())

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path, size=SMALL, progress=interrupt)
    with pytest.raises(UserError, match="does not exist"):
        read_truth(tmp_path)


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seed -1 is negative"):
        write_sample(tmp_path / "sample", seed=-1)
    assert not (tmp_path / "sample").exists()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"generator": "new"}'])
def test_a_truth_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TRUTH_FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"truth\.json is damaged") as refusal:
        read_truth(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_truth_file_for_other_images_is_one_line(sample: Sample, store: Store) -> None:
    with pytest.raises(UserError, match=r"truth.json names the images \d+ and \d+, which .* not"):
        score_findings(SimpleNamespace(checks=()), store, sample.truth)


@pytest.mark.parametrize("seed", range(5))
def test_the_default_sample_has_a_natural_long_tail(seed: int) -> None:
    counts = images_per_identity(DEFAULT_SIZE, np.random.default_rng(seed))
    assert len(counts) == DEFAULT_SIZE.identities
    assert 1_400 <= counts.sum() <= 2_000
    assert (counts < 5).mean() > 0.3, "the long-tail cut must have something to cut"
    assert 3 <= (counts > 50).sum() <= 8, "Retina-S must have something to cut"
    assert counts.min() >= 2


@pytest.mark.parametrize("seed", range(5))
def test_the_default_faults_fit_for_any_seed(seed: int) -> None:
    plan = plan_training(DEFAULT_SIZE, np.random.default_rng(seed))
    found = Counter(shot.fault for shots in plan for shot in shots)
    assert found["mislabelled"] == DEFAULT_SIZE.mislabelled
    assert found["non_face"] == DEFAULT_SIZE.non_faces


def test_more_faults_than_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        write_sample(tmp_path, size=replace(SMALL, mislabelled=1_000))


def label_owners(truth: Truth) -> dict[int, int | None]:
    """The person of each label: the first image is always correct."""
    owners: dict[int, int | None] = {}
    for image in truth.images:
        owners.setdefault(image.label, image.person)
    return owners


def difference(sample: Sample, left: int, right: int) -> float:
    """Mean absolute difference of two images, in grey levels."""
    pixels = [decode(sample.images[key].payload).astype(float) for key in (left, right)]
    return float(np.abs(pixels[0] - pixels[1]).mean())
