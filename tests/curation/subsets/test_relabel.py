"""Identities that a list states for images."""

import time

import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.subsets import By, write_keep, write_relabel

NAMES = ["m.01/a.jpg", "m.01/b b.jpg", "m.02/a.jpg", "m.02/c.jpg", "m.03/d.jpg"]


@pytest.fixture
def named(tmp_path, noise_images):
    """Three people's folders: rows 0 and 1, 2 and 3, and 4."""
    for name, image in zip(NAMES, noise_images, strict=False):
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / name).write_bytes(image)
    return convert(tmp_path / "faces", tmp_path / "faces.lmdb")


def identities(view) -> list[set[int]]:
    """The rows of each identity."""
    pairs = list(zip(view.labels.tolist(), view.rows.tolist(), strict=True))
    return [{row for label, row in pairs if label == one} for one in range(view.identities)]


@pytest.mark.parametrize(
    ("by", "text", "wanted"),
    [
        (By.NAME, "m.02 m.01/a.jpg\n", [{1}, {0, 2, 3}, {4}]),
        (By.NAME, "m.01/b b.jpg\tm.03\r\n./m.02/a.jpg,m.03\n", [{0}, {3}, {1, 2, 4}]),
        (By.NAME, "m.07 m.01/a.jpg\nm.08 m.02/a.jpg\nm.07 m.03/d.jpg\n", [{1}, {3}, {0, 4}, {2}]),
        (By.NAME, "m.03/d.jpg 0\nm.01/a.jpg 0\n", [{1}, {2, 3}, {0, 4}]),
        (By.NAME, "m.01 m.02/a.jpg\nm.01 m.02/c.jpg\n", [{0, 1, 2, 3}, {4}]),
        (By.NAME, "image,who\nm.01\\a.jpg,0\nm.02\\c.jpg,0\n", [{1}, {2}, {4}, {0, 3}]),
        (By.NAME, "# cleaned\nd.jpg m.02\nm.01/b b,m.03\n", [{0}, {2, 3, 4}, {1}]),
        (By.KEY, "0 1\n4\tanna\n", [{1}, {0, 2, 3}, {4}]),
        (By.INDEX, "\ufeff4;0\n", [{0, 1, 4}, {2, 3}]),
    ],
)
def test_listed_images_get_the_stated_identity(named, tmp_path, by, text, wanted):
    (tmp_path / "list.txt").write_text(text)
    view = write_relabel(tmp_path / "a.view", named, tmp_path / "list.txt", by)
    assert identities(view) == wanted
    assert view.history[-1].name == "relabel"
    assert view.history[-1].parameters["by"] == by


def test_images_without_a_label_get_one(tmp_path, noise_images):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(noise_images[number])
    store = convert(tmp_path, tmp_path.parent / "unlabelled.lmdb")
    (tmp_path / "list.txt").write_text("anna 2.jpg\nanna 0.jpg\n")
    view = write_relabel(tmp_path.parent / "b.view", store, tmp_path / "list.txt", By.NAME)
    assert (view.rows.tolist(), view.labels.tolist()) == ([0, 2, 1], [0, 0, -1])


@pytest.mark.parametrize(
    ("by", "text", "complaint"),
    [
        (By.NAME, "m.02 m.09/a.jpg\n", r"line 1: .*no image 'm\.02 m\.09/a\.jpg'"),
        (
            By.NAME,
            "m.01/a.jpg\n",
            "line 1: .* expected IMAGE IDENTITY, with IMAGE like 'm.01/a.jpg'",
        ),
        (
            By.NAME,
            "m.02 m.01/a.jpg\nm.03 m.01/a.jpg\n",
            "line 2: an earlier line gives the image to another identity",
        ),
        (By.NAME, "m.01 m.01/a.jpg\n", "changes nothing"),
        (By.NAME, "\n", "changes nothing"),
        (By.KEY, "17 1\n", "line 1: .*no image '17 1' \\(--by key\\)"),
        (By.LABEL, "0 1\n", "relabelled by name, key or index, not by label"),
        (By.NAME, "m.01/a.jpg" + " " * 1_000_000 + "x y\n", "line 1: .*no image"),
    ],
    ids=["unknown", "one-word", "twice", "same", "empty", "key", "label", "blanks"],
)
def test_mistakes_of_a_list_name_their_line(named, tmp_path, by, text, complaint):
    (tmp_path / "list.txt").write_text(text)
    begin = time.process_time()
    with pytest.raises(UserError, match=complaint):
        write_relabel(tmp_path / "a.view", named, tmp_path / "list.txt", by)
    assert time.process_time() - begin < 5


def test_lines_that_name_no_image_can_be_skipped(named, tmp_path):
    (tmp_path / "list.txt").write_text("m.02 m.09/a.jpg\nm.02 m.01/a.jpg\n")
    view = write_relabel(tmp_path / "a.view", named, tmp_path / "list.txt", By.NAME, True)
    assert identities(view) == [{1}, {0, 2, 3}, {4}]
    assert view.history[-1].parameters["missing"] == 1


def test_a_word_for_several_identities_is_refused(named, tmp_path):
    (tmp_path / "list.txt").write_text("new m.01/a.jpg\n")
    split = write_relabel(tmp_path / "a.view", named, tmp_path / "list.txt", By.NAME)
    (tmp_path / "list.txt").write_text("m.01 m.02/a.jpg\n")
    with pytest.raises(UserError, match=r"line 1: 'm\.01' is the name of several identities"):
        write_relabel(tmp_path / "b.view", split, tmp_path / "list.txt", By.NAME)


def test_the_images_of_a_view_alone_can_be_named(named, tmp_path):
    (tmp_path / "list.txt").write_text("m.01\nm.02\n")
    kept = write_keep(tmp_path / "a.view", named, tmp_path / "list.txt", By.NAME)
    (tmp_path / "list.txt").write_text("m.01 m.02/a.jpg\n")
    view = write_relabel(tmp_path / "b.view", kept, tmp_path / "list.txt", By.NAME)
    assert identities(view) == [{0, 1, 2}, {3}]
    (tmp_path / "list.txt").write_text("m.01 m.03/d.jpg\n")
    with pytest.raises(UserError, match="no image"):
        write_relabel(tmp_path / "c.view", kept, tmp_path / "list.txt", By.NAME)


def test_records_are_relabelled_by_key(store, tmp_path):
    (tmp_path / "list.txt").write_text(f"{store.source_keys[0]} nobody\n")
    view = write_relabel(tmp_path / "a.view", store, tmp_path / "list.txt", By.KEY)
    assert view.rows[-1] == 0
    with pytest.raises(UserError, match="made from records, whose images have no file names"):
        write_relabel(tmp_path / "b.view", store, tmp_path / "list.txt", By.NAME)
