"""A teacher is tried on a few hundred pairs before it embeds everything."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from curation.errors import UserError
from curation.images import encode_jpeg
from teachers import trial
from teachers.embeddings import cache_embeddings
from teachers.ensemble import Ensemble
from teachers.preprocessing import Preprocessing
from teachers.trial import accuracy, draw_pairs, trial_size, try_teacher

PEOPLE, EACH = 60, 4


@dataclass
class Images:
    """Image set of flat images: all of one identity have one brightness, except for noise."""

    wrong: float = 0.0
    sizes: list[int] = field(default_factory=lambda: [EACH] * PEOPLE)
    full_name: str = "faces/people"

    def __post_init__(self):
        self.offsets = np.cumsum([0, *self.sizes])
        shown = np.repeat(np.arange(len(self.sizes)), self.sizes)
        generator = np.random.default_rng(1)
        changed = generator.random(len(shown)) < self.wrong
        shown[changed] = generator.integers(0, len(self.sizes), changed.sum())
        self.shown, self.rows = shown, np.arange(len(shown))
        self.asked = []

    image_size = (8, 8)
    path = "people.lmdb"

    @property
    def source_keys(self):
        return self.rows

    def found(self, i):
        return self, i

    @property
    def store(self):
        return self

    @property
    def stores(self):
        return (self,)

    @property
    def begins(self):
        return np.array([0, len(self)])

    @property
    def digest(self):
        return f"{self.wrong}{self.sizes}"

    def __len__(self):
        return len(self.shown)

    def read_many(self, rows):
        for row in rows:
            self.asked.append(row)
            yield encode_jpeg(np.full((8, 8, 3), self.shown[row] * 4, np.uint8), 100)


class Teacher:
    """Recognises people by brightness; a ``blind`` one returns random embeddings."""

    embedding, on_gpu, digest = 64, False, "teacher"

    def __init__(self, blind=False):
        self.blind, self.seen = blind, 0
        self.preprocessing = Preprocessing(colour="BGR", mean=1.0, std=2.0, size=(4, 4))

    def embed(self, images):
        self.seen += len(images)
        keys = (images.mean(axis=(1, 2, 3)) / 4).round().astype(int)
        if self.blind:
            keys = np.arange(self.seen, self.seen + len(images)) + 1000
        return np.stack([np.random.default_rng(key).normal(size=64) for key in keys])


def test_pairs_are_always_the_same_of_most_identities():
    offsets = np.arange(0, 5001, 5)
    pairs, again = draw_pairs(offsets), draw_pairs(offsets)
    assert pairs is not None
    assert again is not None
    assert np.array_equal(pairs.left, again.left)
    identity = np.stack([pairs.left, pairs.right]) // 5
    assert np.array_equal(identity[0] == identity[1], pairs.same)
    assert (pairs.left != pairs.right).all()
    assert (pairs.same.sum(), (~pairs.same).sum()) == (trial.PAIRS, trial.PAIRS)
    assert len(set(identity[0][pairs.same])) == trial.PAIRS
    assert len(np.unique([pairs.left, pairs.right])) == 2 * trial.PAIRS  # no image twice


def test_few_identities_give_several_pairs_each():
    pairs = draw_pairs(np.arange(0, 25 * 400 + 1, 400))
    assert pairs is not None
    assert pairs.same.sum() == trial.PAIRS
    assert len(np.unique([pairs.left, pairs.right])) == 2 * trial.PAIRS


@pytest.mark.parametrize(
    "sizes", [[], [1] * 1000, [50] * 19, [2] * 99, [1, 3] * 10], ids=str
)  # fmt: skip
def test_a_set_with_too_few_identities_cannot_tell(sizes, tmp_path):
    teacher = Teacher()
    told = try_teacher(teacher, Images(sizes=sizes), tmp_path)
    assert told == (
        "the teacher was not tried: that takes 100 pairs of images of one identity, from at least "
        "20 identities, and faces/people has fewer"
    )
    assert teacher.seen == trial_size(Images(sizes=sizes)) == 0


def test_a_teacher_that_separates_people_passes(tmp_path):
    teacher = Teacher()
    told = try_teacher(teacher, Images(), tmp_path)
    assert told == "the teacher classifies 1.000 of 240 drawn pairs correctly"
    assert teacher.seen == trial_size(Images()) == PEOPLE * EACH  # upright only


@pytest.mark.parametrize("wrong", [0.1, 0.3])
def test_wrong_labels_are_not_the_teachers_fault(tmp_path, wrong):
    assert "drawn pairs correctly" in try_teacher(Teacher(), Images(wrong=wrong), tmp_path)


def test_a_teacher_that_hardly_separates_people_is_refused(tmp_path):
    with pytest.raises(UserError) as caught:
        try_teacher(Teacher(blind=True), Images(), tmp_path)
    message = str(caught.value)
    assert message.startswith("the teacher hardly tells people apart: it is right about 0.")
    assert "of 240 pairs" in message
    assert "(colour BGR, mean 1.0, std 2.0)" in message
    assert "\n" not in message


@pytest.mark.parametrize("broken", [0.0, np.nan])
def test_embeddings_that_are_zero_or_no_numbers_are_refused(tmp_path, broken):
    teacher = Teacher()
    teacher.embed = lambda images: np.full((len(images), 64), broken)
    with pytest.raises(UserError, match=r"image 0 \(key 0\): .* of it is zero or not finite"):
        try_teacher(teacher, Images(), tmp_path)


def test_embeddings_that_are_all_alike_are_refused(tmp_path):
    teacher = Teacher()
    teacher.embed = lambda images: np.ones((len(images), 64))
    with pytest.raises(UserError, match="hardly tells people apart"):
        try_teacher(teacher, Images(), tmp_path)


def test_the_guard_can_be_switched_off(tmp_path):
    told = try_teacher(Teacher(blind=True), Images(), tmp_path, least_accuracy=0.0)
    assert "drawn pairs correctly" in told


def test_each_member_of_an_ensemble_is_tried(tmp_path):
    both = Ensemble([Teacher(), Teacher(blind=True)], "concatenate")
    with pytest.raises(UserError, match=r"the teacher \(number 2 of the ensemble\) hardly"):
        try_teacher(both, Images(), tmp_path)


def test_cached_rows_are_not_computed_again(tmp_path):
    images, teacher = Images(), Teacher()
    first = try_teacher(teacher, images, tmp_path)
    cache_embeddings(teacher, images, tmp_path)
    seen, images.asked = teacher.seen, []
    assert try_teacher(teacher, images, tmp_path) == first
    assert (teacher.seen, images.asked) == (seen, [])


def test_accuracy_takes_each_halfs_threshold_from_the_other():
    same = np.tile([True, True, False, False], 25)
    assert accuracy(np.where(same, 0.6, 0.4), same) == 1.0
    assert accuracy(np.where(same, 0.4, 0.6), same) == 0.5  # reversed: no threshold helps
    assert accuracy(np.zeros(100), same) == 0.5
    chance = accuracy(np.random.default_rng(0).normal(size=4000), np.arange(4000) % 4 < 2)
    assert abs(chance - 0.5) < 0.03
