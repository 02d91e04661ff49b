"""A teacher without an embedding for some view is blamed by name, wherever it is asked."""

import numpy as np
import pytest

from curation.bad_images import read_pixels
from curation.errors import UserError
from distill.pipeline.teacher_answers import required_answers, share_below_online
from distill.pipeline.view_sheet import make_sheet
from distill.training.answers import OnlineAnswers
from distill.training.augment import AugmentSettings
from distill.training.data import BatchLoader
from distill.training.shuffles import FullShuffle
from distill.training.views import StudentViews, ViewChoice
from teachers.augment.augmentation import Augmentation
from teachers.embeddings import cache_embeddings
from teachers.preprocessing import Preprocessing

STUDENT = Preprocessing.ours((48, 48))
VIEWS = AugmentSettings(views=4, plain=0.0)


class Teacher:
    """Knows the plain images of a set, and has no embedding for any other pixels."""

    digest, embedding, on_gpu = "0" * 64, 3, False
    preprocessing = STUDENT

    def __init__(self, images):
        everything = range(len(images))
        plain = [read_pixels(images, index) for index in everything]
        self.known = {each.tobytes() for picture in plain for each in (picture, picture[:, ::-1])}

    def embed(self, images):
        known = np.array([image.tobytes() in self.known for image in images])
        return np.where(known[:, None], [1.0, 2.0, 3.0], np.nan).astype(np.float32)


def fill_a_cache(teacher, images, folder):
    for answers in required_answers(images, VIEWS, "float16"):
        cache_embeddings(teacher, images, folder, answers=answers)


def train_online(teacher, images, folder):
    views = StudentViews(Augmentation(VIEWS.strengths, images), ViewChoice(VIEWS, 0))
    plan = FullShuffle(len(images), 16, 0)
    with BatchLoader(images, STUDENT, plan, OnlineAnswers(teacher), views=views) as loader:
        list(loader.batches(0, 1))


def count_rejected(teacher, images, folder):
    share_below_online(teacher, images, VIEWS)


def draw_a_sheet(teacher, images, folder):
    make_sheet(VIEWS, images, STUDENT, teacher, [0], 4)


@pytest.mark.parametrize("ask", [fill_a_cache, train_online, count_rejected, draw_a_sheet])
def test_a_view_without_an_embedding_is_named(drawn_store, tmp_path, ask):
    teacher = Teacher(drawn_store)
    cache_embeddings(teacher, drawn_store, tmp_path)  # the plain images have one
    with pytest.raises(
        UserError, match=r"image \d+ \(key \d+\): .* augmented view \d is zero or not finite"
    ):
        ask(teacher, drawn_store, tmp_path)
