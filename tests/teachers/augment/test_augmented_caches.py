"""The cache of a view holds the teacher's embeddings of exactly the pixels of that view."""

import json

import numpy as np
import pytest

from curation.errors import UserError
from curation.images import decode
from teachers.augment.augmentation import Augmentation, NumberedView
from teachers.augment.strengths import CropMotion, Strengths
from teachers.embeddings import (
    PLAIN,
    Answers,
    cache_digest,
    cache_embeddings,
    check_room,
    missing_bytes,
    missing_pictures,
)
from teachers.ensemble import Ensemble
from tests.teachers.small_teacher import make_teacher, some_rows


def view_of(images, number=3, **strengths):
    return NumberedView(Augmentation(Strengths(**strengths), images), number)


@pytest.mark.parametrize("mix", [0.0, 0.5])
def test_it_holds_the_answers_to_the_pixels_of_the_view(drawn_store, tmp_path, mix):
    teacher, view = make_teacher(), view_of(drawn_store, mix=mix)
    cache = cache_embeddings(teacher, drawn_store, tmp_path, answers=Answers(view))
    assert cache.unit.shape == (len(drawn_store), 1, 16)
    rows = np.array([0, 17, 47])
    for row, change in zip(rows.tolist(), view.changes(rows), strict=True):
        pixels = view.augmentation.view(decode(drawn_store.read(row)), change)
        raw = teacher.embed(pixels[None])[0]
        expected = raw / np.linalg.norm(raw)
        assert np.abs(cache.vectors(np.array([row]), 0)[0] - expected).max() < 1e-3


def test_the_answers_differ_by_view_and_from_the_plain_ones(drawn_store, tmp_path):
    teacher = make_teacher()
    plain = cache_embeddings(teacher, drawn_store, tmp_path)
    views = [
        cache_embeddings(teacher, drawn_store, tmp_path, answers=Answers(view_of(drawn_store, k)))
        for k in range(2)
    ]
    assert len({cache.folder for cache in (plain, *views)}) == 3
    assert (views[0].unit != views[1].unit).any(axis=2).all()


def test_the_plain_cache_is_the_same_file_as_before_views(drawn_store, tmp_path):
    teacher = make_teacher()
    cache = cache_embeddings(teacher, drawn_store, tmp_path)
    about = json.loads((cache.folder / "cache.json").read_text())
    assert set(about) == {
        "format_version",
        "teacher",
        "preprocessing",
        "store",
        "images",
        "embedding",
        "claim",
    }
    assert cache.digest == cache_digest(teacher, drawn_store)


def test_int8_is_another_cache_of_half_the_size(drawn_store, tmp_path):
    teacher, view = make_teacher(), view_of(drawn_store)
    for asked in (None, view):
        full, small = Answers(asked), Answers(asked, "int8")
        exact = cache_embeddings(teacher, drawn_store, tmp_path, answers=full)
        rounded = cache_embeddings(teacher, drawn_store, tmp_path, answers=small)
        assert rounded.unit.nbytes == exact.unit.nbytes // 2
        rows = np.arange(len(drawn_store))
        cosines = exact.vectors(rows, 0).astype(float) * rounded.vectors(rows, 0)
        assert cosines.sum(axis=1).min() > 0.999
        again = cache_embeddings(teacher, drawn_store, tmp_path, answers=small)
        assert again.folder == rounded.folder


@pytest.mark.parametrize("value", [0, -128])
def test_int8_values_that_cannot_be_are_damage(drawn_store, tmp_path, value):
    small = Answers(view_of(drawn_store), "int8")
    cache = cache_embeddings(make_teacher(), drawn_store, tmp_path, answers=small)
    unit = np.lib.format.open_memmap(cache.folder / "unit.npy", mode="r+")
    unit[4, 0] = value
    unit.flush()
    with pytest.raises(UserError, match="row 4 has changed"):
        cache_embeddings(make_teacher(), drawn_store, tmp_path, answers=small)


def test_a_data_set_fills_its_rows_of_a_view_and_shares_them(drawn_store, tmp_path):
    part = some_rows(drawn_store, tmp_path / "some.view", [3, 20, 41])
    teacher, root = make_teacher(), tmp_path / "cache"
    first = cache_embeddings(teacher, part, root, answers=Answers(view_of(part)))
    assert np.flatnonzero(first.table.entries).tolist() == [3, 20, 41]
    before = first.unit[[3, 20, 41]].copy()
    whole = cache_embeddings(teacher, drawn_store, root, answers=Answers(view_of(drawn_store)))
    assert whole.folder == first.folder
    assert np.array_equal(whole.unit[[3, 20, 41]], before)


def test_images_are_mixed_with_those_of_the_data_set_alone(drawn_store, tmp_path):
    part = some_rows(drawn_store, tmp_path / "some.view", [3, 20, 41])
    mixing = view_of(part, mix=1.0)
    seen = []
    read, part.read_many = part.read_many, lambda rows: (seen.extend(rows.tolist()), read(rows))[1]
    root = tmp_path / "cache"
    cache = cache_embeddings(make_teacher(), part, root, answers=Answers(mixing))
    partners = [change.partner for change in mixing.changes(part.rows)]
    assert sorted(seen) == sorted(partners)
    other = cache_embeddings(
        make_teacher(), drawn_store, root, answers=Answers(view_of(drawn_store, mix=1.0))
    )
    assert other.folder != cache.folder


def test_an_ensemble_embeds_the_same_view(drawn_store, tmp_path):
    members = [make_teacher(0), make_teacher(1, (48, 48))]
    ensemble = Ensemble(members, "concatenate")
    asked = Answers(view_of(drawn_store))
    cache = cache_embeddings(ensemble, drawn_store, tmp_path, answers=asked)
    change = asked.view.changes(np.array([9]))[0]
    pixels = asked.view.augmentation.view(decode(drawn_store.read(9)), change)
    raw = ensemble.embed(pixels[None])[0]
    expected = raw / np.linalg.norm(raw)
    assert np.abs(cache.vectors(np.array([9]), 0)[0] - expected).max() < 2e-3


def test_strengths_of_another_kind_are_another_cache(drawn_store):
    teacher = make_teacher()
    digests = {
        cache_digest(teacher, drawn_store, Answers(view))
        for view in (
            view_of(drawn_store),
            view_of(drawn_store, 4),
            view_of(drawn_store, seed=1),
            view_of(drawn_store, crop=CropMotion(shift=0.1)),
        )
    }
    assert len(digests | {cache_digest(teacher, drawn_store)}) == 5


def test_size_and_images_are_known_before_and_get_less(drawn_store, tmp_path):
    teacher = make_teacher()
    asked = [PLAIN, Answers(view_of(drawn_store, 0)), Answers(view_of(drawn_store, 1))]
    images = len(drawn_store)
    expected = images * ((2 + 1 + 1) * (16 * 2 + 4) + 3 * 4)
    assert missing_bytes(teacher, drawn_store, tmp_path, asked) == expected
    assert missing_pictures(teacher, drawn_store, tmp_path, asked) == 4 * images
    part = some_rows(drawn_store, tmp_path / "some.view", [3, 20, 41])
    cache_embeddings(teacher, part, tmp_path, answers=Answers(view_of(part, 0)))
    assert missing_pictures(teacher, drawn_store, tmp_path, asked) == 4 * images - 3
    cache_embeddings(teacher, drawn_store, tmp_path)
    assert missing_pictures(teacher, drawn_store, tmp_path, asked) == 2 * images - 3
    assert missing_bytes(teacher, drawn_store, tmp_path, asked) == images * (16 * 2 + 4 + 4)


def test_a_disk_without_room_for_all_views_is_reported(drawn_store, tmp_path, monkeypatch):
    free = 2 * missing_bytes(make_teacher(), drawn_store, tmp_path, [PLAIN])
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    check_room(make_teacher(), drawn_store, tmp_path)
    views = [Answers(view_of(drawn_store, number)) for number in range(8)]
    with pytest.raises(UserError, match="MiB are free; free some space"):
        check_room(make_teacher(), drawn_store, tmp_path, [PLAIN, *views])
