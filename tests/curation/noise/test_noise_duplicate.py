"""Duplicates found by their pixels: real JPEG files, saved and rotated again."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from simulated_people import embedded, people

from curation.conversion.convert import convert
from curation.images import encode_jpeg
from curation.neighbours import normalised
from curation.noise.checks import duplicate
from curation.noise.checks.duplicate import (
    SAME_CORRELATION,
    DuplicatePair,
    candidates,
    find_duplicates,
    likeness,
    reduced,
)
from curation.noise.label_errors import estimate_label_errors
from curation.records.layout_writer import write_layout

SIDE = 112


def photograph(person: int, shot: int) -> np.ndarray:
    """Soft shapes that a person has in every image, and detail of this image alone."""
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    random = np.random.default_rng(person)
    shape = 60 * np.exp(-2 * (rows**2 + columns**2)) + 15 * np.sin(
        4 * columns + random.uniform(0, 6)
    )
    own = np.random.default_rng([person, shot]).normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    grey = 100 + shape + 60 * cv2.GaussianBlur(own, (0, 0), 2.0) / 0.14 * 0.2
    return np.repeat(grey[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def shifted(picture: np.ndarray, right: float, down: float) -> np.ndarray:
    move = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return cv2.warpAffine(picture, move, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)


def turned(picture: np.ndarray, degrees: float, scale: float) -> np.ndarray:
    move = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, scale)
    return cv2.warpAffine(picture, move, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)


AGAIN = {
    "the same bytes": lambda picture: picture,
    "shifted": lambda picture: shifted(picture, 2, -1),
    "turned and enlarged": lambda picture: turned(picture, 2, 1.03),
    "mirrored": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
    "brighter": lambda picture: np.clip(picture * 0.8 + 40.0, 0, 255).astype(np.uint8),
    "smaller": lambda picture: cv2.resize(cv2.resize(picture, (80, 80)), (SIDE, SIDE)),
}


@pytest.mark.parametrize("quality", [95, 60])
@pytest.mark.parametrize("change", AGAIN.values(), ids=AGAIN.keys())
def test_an_altered_copy_is_recognised(change, quality: int) -> None:
    for person in range(3):
        once = reduced(encode_jpeg(photograph(person, 0)))
        again = reduced(encode_jpeg(change(photograph(person, 0)), quality))
        assert likeness(once, again) >= SAME_CORRELATION
        assert likeness(again, once) >= SAME_CORRELATION


def test_two_photographs_of_one_person_are_not_duplicates() -> None:
    pictures = [reduced(encode_jpeg(photograph(1, shot))) for shot in range(5)]
    for i, first in enumerate(pictures):
        assert max(likeness(first, second) for second in pictures[i + 1 :] or [-first]) < 0.9


def test_flat_images_of_one_colour_are_duplicates() -> None:
    dark, as_dark, light = (np.full((64, 64), value, np.float32) for value in (30, 31, 90))
    assert likeness(dark, as_dark) >= SAME_CORRELATION
    assert likeness(dark, light) < SAME_CORRELATION
    assert likeness(dark, reduced(encode_jpeg(photograph(0, 0)))) < SAME_CORRELATION


def test_a_correlation_is_at_most_one() -> None:
    picture = reduced(encode_jpeg(photograph(2, 0)))
    assert likeness(picture, picture) == pytest.approx(1, abs=1e-4)
    assert picture.shape == (64, 64)


def repetitions(
    folder: Path,
    pictures: list[np.ndarray],
    labels: list[int],
    lengths: list[float],
    strayed: Mapping[int, int] | None = None,
) -> list[DuplicatePair]:
    """The duplicates among images that embed nearly alike within their identity; ``strayed`` ones
    embed like another identity.
    """
    files = [(encode_jpeg(one), label) for one, label in zip(pictures, labels, strict=True)]
    write_layout(folder / "source", files, (SIDE, SIDE))
    store = convert(folder / "source", folder / "train.lmdb")
    vectors, _ = people(np.bincount(labels).tolist(), spread=0.1)
    for image, other in (strayed or {}).items():
        vectors[image] = vectors[other]
    images = embedded(vectors, labels, np.array(lengths, np.float32))
    return find_duplicates(store, images, estimate_label_errors(images))


def test_the_image_with_the_longest_embedding_stays(tmp_path: Path) -> None:
    first, other, third = photograph(0, 0), photograph(0, 1), photograph(1, 0)
    pictures = [first, other, AGAIN["mirrored"](first), AGAIN["brighter"](first), third, third]
    found = repetitions(tmp_path, pictures, [0, 0, 0, 0, 1, 1], [1, 9, 3, 2, 5, 5])
    assert [(one.image, one.original) for one in found] == [(0, 2), (3, 2), (5, 4)]
    assert all(one.cosine > 0.85 for one in found)
    assert all(SAME_CORRELATION <= one.correlation <= 1.001 for one in found)


def test_few_images_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = photograph(0, 0)
    pictures = [one, photograph(0, 1), photograph(0, 2), AGAIN["mirrored"](one)]
    (tmp_path / "few").mkdir()
    monkeypatch.setattr(duplicate, "_KEPT", 2)
    found = repetitions(tmp_path / "few", pictures, [0] * 4, [2, 1, 1, 1])
    assert [(each.image, each.original) for each in found] == [(3, 0)]


def test_a_misplaced_image_is_never_the_original(tmp_path: Path) -> None:
    """It will be dropped or moved; its correctly labelled copy must not go with it."""
    labels = np.repeat(np.arange(12), 5).tolist()
    pictures = [photograph(label, shot) for shot, label in enumerate(labels)]
    pictures[59] = AGAIN["mirrored"](pictures[0])
    lengths = [1.0] * 59 + [9.0]
    found = repetitions(tmp_path, pictures, labels, lengths, {59: 0})
    assert [(one.image, one.original) for one in found] == [(59, 0)]


def test_different_images_have_no_duplicates(tmp_path: Path) -> None:
    pictures = [photograph(0, 0), photograph(0, 1), photograph(1, 0)]
    assert repetitions(tmp_path, pictures, [0, 0, 1], [1, 1, 1]) == []


def test_candidates_embed_alike_within_one_identity() -> None:
    vectors, person = people([30, 30], spread=0.35)
    images = embedded(vectors, person)
    found = {(i, j) for i, j, _ in candidates(images, estimate_label_errors(images))}
    slow = {
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if person[i] == person[j] and vectors[i] @ vectors[j] > 0.85
    }
    assert 0 < len(slow) < 870
    assert found == slow


def test_a_label_error_is_compared_with_its_relabel_candidate() -> None:
    vectors, person = people([10] * 30)
    vectors[-1] = normalised(vectors[0] + 0.05)
    images = embedded(vectors, person)
    found = [(i, j) for i, j, _ in candidates(images, estimate_label_errors(images))]
    assert (0, 299) in found
    assert all(i < j for i, j in found)
