"""The images that each subset keeps, against counting one by one."""

import gzip
import os
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.subsets import (
    By,
    cap,
    load_values,
    long_tail_cut,
    random_identities,
    retina_s,
    within_limits,
    write_cap,
    write_drop,
    write_keep,
    write_long_tail_cut,
    write_quality,
    write_random_identities,
    write_retina_s,
)

# Identity 0 has 4 images, 1 one, 2 six, 3 two, 4 three.
LABELS = np.repeat(np.arange(5), [4, 1, 6, 2, 3])


@pytest.mark.parametrize(
    ("minimum", "kept"), [(1, {0, 1, 2, 3, 4}), (2, {0, 2, 3, 4}), (4, {0, 2}), (7, set())]
)
def test_the_long_tail_cut_drops_identities_with_few_images(minimum, kept):
    assert set(LABELS[long_tail_cut(LABELS, minimum)]) == kept


@pytest.mark.parametrize(("maximum", "kept"), [(6, {0, 1, 2, 3, 4}), (3, {1, 3, 4}), (1, {1})])
def test_retina_s_drops_identities_with_many_images(maximum, kept):
    assert set(LABELS[retina_s(LABELS, maximum)]) == kept


def test_retina_s_keeps_fifty_images_and_drops_fifty_one():
    labels = np.repeat([0, 1], [50, 51])
    assert set(labels[retina_s(labels)]) == {0}


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_both_equal_counting_one_by_one(labels, limit):
    counts = Counter(labels)
    array = np.array(labels, dtype=np.int32)
    assert long_tail_cut(array, limit).tolist() == [counts[label] >= limit for label in labels]
    assert retina_s(array, limit).tolist() == [counts[label] <= limit for label in labels]


def splitmix64(state):
    """The first number of the generator seeded with ``state``."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return state ^ state >> 31


def test_the_reference_is_the_published_generator():
    assert splitmix64(0) == 0xE220A8397B1DCDAF


class TestCap:
    @given(st.lists(st.integers(0, 5)), st.integers(1, 6), st.integers(0, 99))
    def test_each_identity_keeps_up_to_the_maximum(self, labels, maximum, seed):
        array = np.array(labels, dtype=np.int32)
        kept = Counter(array[cap(array, maximum, np.arange(len(array)), seed)].tolist())
        assert kept == {label: min(count, maximum) for label, count in Counter(labels).items()}

    def test_a_smaller_maximum_keeps_a_subset(self):
        keeps = [cap(LABELS, maximum, np.arange(16)) for maximum in range(1, 7)]
        for less, more in pairwise(keeps):
            assert not (less & ~more).any()

    @pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
    def test_the_images_with_the_smallest_hashes_are_kept(self, seed):
        lots = [splitmix64((number + splitmix64(seed)) % 2**64) for number in range(12)]
        wanted = [lot in sorted(lots)[:4] for lot in lots]
        assert cap(np.zeros(12, np.int32), 4, np.arange(12), seed).tolist() == wanted

    def test_other_identities_do_not_change_the_choice(self):
        alone = cap(LABELS[5:11], 2, np.arange(5, 11))
        assert cap(LABELS, 2, np.arange(16))[5:11].tolist() == alone.tolist()

    def test_every_image_has_the_same_chance(self):
        labels, numbers = np.zeros(10, np.int32), np.arange(10)
        chosen = sum(cap(labels, 3, numbers, seed).astype(int) for seed in range(2000))
        # 600 expected, with a standard deviation of 20.5.
        assert np.abs(chosen - 600).max() < 5 * 20.5


class TestRandomIdentities:
    @pytest.mark.parametrize("count", [1, 3, 5])
    def test_the_given_number_is_kept_with_all_images(self, count):
        keep = random_identities(LABELS, count, np.arange(5))
        chosen = set(LABELS[keep].tolist())
        assert len(chosen) == count
        assert keep.tolist() == [label in chosen for label in LABELS.tolist()]

    def test_a_smaller_number_keeps_a_subset(self):
        kept = [set(LABELS[random_identities(LABELS, n, np.arange(5))]) for n in range(1, 6)]
        assert all(less < more for less, more in pairwise(kept))

    def test_another_seed_chooses_other_identities(self):
        choices = {tuple(random_identities(LABELS, 2, np.arange(5), seed)) for seed in range(50)}
        assert len(choices) == 10


class TestQuality:
    @pytest.mark.parametrize(
        ("limits", "kept"),
        [
            ({"at_least": 2.0}, [2.0, 3.0]),
            ({"at_most": 2.0}, [1.0, 2.0]),
            ({"at_least": 1.5, "at_most": 2.5}, [2.0]),
        ],
    )
    def test_limits_are_inclusive(self, limits, kept):
        values = np.array([1.0, 2.0, 3.0])
        assert values[within_limits(values, **limits)].tolist() == kept

    def test_the_history_names_the_measure(self, store, tmp_path):
        view = write_quality(tmp_path / "a.view", store, np.arange(16.0), "norm", at_least=4)
        (step,) = view.history
        assert (step.name, step.parameters) == ("quality", {"measure": "norm", "at_least": 4.0})
        assert view.rows.tolist() == list(range(4, 16))

    def test_a_limit_is_required(self, store, tmp_path):
        with pytest.raises(UserError, match="no limit is given"):
            write_quality(tmp_path / "a.view", store, np.arange(16.0), "norm")

    def test_values_belong_to_the_view_or_to_the_store(self, store, tmp_path):
        view = write_long_tail_cut(tmp_path / "a.view", store, 6)
        np.save(tmp_path / "store.npy", np.arange(16, dtype=np.float32))
        np.save(tmp_path / "view.npy", np.arange(5, 11))
        both = np.stack([np.arange(16.0) - 1, np.arange(16.0) + 1], axis=1)
        np.save(tmp_path / "mirrored.npy", both.astype(np.float16))
        for name in ("store", "view", "mirrored"):
            assert load_values(tmp_path / f"{name}.npy", view).tolist() == [5, 6, 7, 8, 9, 10]

    @pytest.mark.parametrize(
        ("array", "complaint"),
        [
            (np.zeros(15), r"holds float64 \[15\]; expected numbers, one for each of the 16"),
            (np.zeros((16, 2, 2)), "holds float64"),
            (np.zeros((16, 512), np.float16), r"holds float16 \[16, 512\]; expected"),
            (np.zeros(16, complex), "it holds '<c16'; numbers are expected"),
            (np.full((16, 2), 1.5e308), "no finite number for image 0"),
            (np.array(["a"] * 16), "holds <U1"),
            (np.array([0.0] * 3 + [np.nan] * 13), "no finite number for image 3"),
            (np.array([{}] * 16, object), "not a readable .npy file"),
        ],
    )
    def test_invalid_values_are_refused(self, store, tmp_path, array, complaint):
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        with pytest.raises(UserError, match=complaint):
            load_values(tmp_path / "a.npy", store)


class TestLists:
    # The store's source labels are 2, 3, 5, 7 and 11, its record keys 1 to 16.
    @pytest.mark.parametrize(
        ("by", "text", "rows"),
        [
            (By.LABEL, "3\n11 # my favourite\n\n", [4, 13, 14, 15]),
            (By.IDENTITY, "1, 4", [4, 13, 14, 15]),
            (By.KEY, "5\t1\n# none\n16", [0, 4, 15]),
            (By.INDEX, "5 1\n15", [1, 5, 15]),
        ],
    )
    def test_listed_images_are_kept_or_dropped(self, store, tmp_path, listed, by, text, rows):
        kept = write_keep(tmp_path / "kept.view", store, listed(text), by)
        assert kept.rows.tolist() == rows
        dropped = write_drop(tmp_path / "dropped.view", store, listed(text), by)
        assert sorted([*kept.rows, *dropped.rows]) == list(range(16))
        assert kept.history[-1].parameters["by"] == by
        assert len(kept.history[-1].parameters["list_digest"]) == 64

    def test_numbers_are_those_of_the_parent(self, store, tmp_path, listed):
        view = write_long_tail_cut(tmp_path / "a.view", store, 6)
        for by, text in [(By.INDEX, "0"), (By.KEY, "6")]:
            kept = write_keep(tmp_path / f"{by}.view", view, listed(text), by)
            assert kept.rows.tolist() == [5]

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("3\n4", r"line 2: .* has no image with the label 4; the list is read --by label"),
            ("3\n\nnobody", "line 3: 'nobody' is not a whole number"),
            ("-3", "line 1: '-3' is not a whole number"),
            ("9" * 30, "is not a whole number"),
            ("# nothing\n", "is empty"),
        ],
    )
    def test_a_wrong_line_is_named(self, store, tmp_path, listed, text, complaint):
        with pytest.raises(UserError, match=complaint):
            write_keep(tmp_path / "a.view", store, listed(text), By.LABEL)

    def test_a_binary_file_is_refused(self, store, tmp_path):
        (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
        (tmp_path / "list.gz").write_bytes(gzip.compress(b"1 2 3"))
        os.mkfifo(tmp_path / "pipe")
        for name in ("list.txt", "none.txt", "list.gz", "pipe", "."):
            with pytest.raises(UserError, match=rf"{tmp_path / name}(:| is) "):
                write_keep(tmp_path / "a.view", store, tmp_path / name, By.KEY)

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_additions_of_editors_are_ignored(self, store, tmp_path, encoding, end):
        text = end.join(["3", "", "5\t7", "", ""])
        (tmp_path / "list.txt").write_bytes(text.encode(encoding))
        kept = write_keep(tmp_path / "a.view", store, tmp_path / "list.txt", By.LABEL)
        assert kept.source_labels.tolist() == [3, 5, 7]


class TestNames:
    @pytest.fixture
    def named(self, tmp_path, noise_images):
        """Three people's folders; the store has the rows anna 0, 1, bo 2, 3, 4 and bo/old 5."""
        names = ["anna/1.jpg", "anna/2 #b.jpg", "bo/1.jpg", "bo/2.jpg", "bo/10.jpg", "bo/old/1.jpg"]
        for name, image in zip(names, noise_images, strict=False):
            (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "faces" / name).write_bytes(image)
        return convert(tmp_path / "faces", tmp_path / "faces.lmdb")

    @pytest.mark.parametrize(
        ("text", "rows"),
        [
            ("bo/2.jpg\nanna/1.jpg\n", [0, 3]),
            ("\ufeffanna/2 #b.jpg\r\n\r\n", [1]),
            ("./bo/old/1.jpg\nbo\\1.jpg\n", [2, 5]),
            ("anna\n", [0, 1]),
            ("bo/\n", [2, 3, 4, 5]),
            ("bo/old\nbo/10.jpg\nbo/10.jpg\n", [4, 5]),
            ("anna/1.jpg 0\nbo\\2.jpg 17\n", [0, 3]),  # as in CASIA and MS-Celeb-1M
            ("anna/2 #b.jpg 3\n", [1]),
            ("7\t0\tbo/1.jpg\n8\t0\tbo/old/1.jpg\n", [2, 5]),  # MXNet's .lst
            ("anna\tanna/1.jpg\n", [0]),  # C-MS-Celeb's format: the identity, and its image
            ("bo/10.jpg,4,0.93,m\n", [4]),
            ("bo 1\n", [2, 3, 4, 5]),
            ("anna,nm01,anna/1.jpg,1 2 3 4,https://example.org/1/2.jpg\n", [0]),  # IMDb-Face's
            ("# left out\n\n2.jpg\n10.jpg\n", [3, 4]),  # file names, as FaceScrub's
            ('NAME_ID,X,Y,W,H\n"bo/1",1,2,3,4\n"bo/old/1",1,2,3,4\n', [2, 5]),  # VGGFace2's
        ],
    )
    def test_an_image_is_named_by_its_path_or_a_folder(self, named, tmp_path, text, rows):
        (tmp_path / "names.txt").write_bytes(text.encode())
        kept = write_keep(tmp_path / "kept.view", named, tmp_path / "names.txt", By.NAME)
        assert kept.rows.tolist() == rows
        dropped = write_drop(tmp_path / "dropped.view", named, tmp_path / "names.txt", By.NAME)
        assert sorted([*kept.rows, *dropped.rows]) == list(range(6))
        assert kept.history[-1].parameters["by"] == "name"

    def test_the_folder_of_all_images_may_be_missing(self, tmp_path, noise_images):
        inside = tmp_path / "set" / "img_celeba"
        inside.mkdir(parents=True)
        for number in range(3):
            (inside / f"{number}.jpg").write_bytes(noise_images[number])
        (inside / "anna").mkdir()
        (inside / "anna" / "1.jpg").write_bytes(noise_images[3])
        store = convert(tmp_path / "set", tmp_path / "b.lmdb")
        (tmp_path / "list.txt").write_text("0.jpg 7\n2 5\nanna\n")
        kept = write_keep(tmp_path / "a.view", store, tmp_path / "list.txt", By.NAME)
        assert kept.rows.tolist() == [0, 2, 3]

    def test_a_view_knows_the_names_of_its_own_images(self, named, tmp_path):
        (tmp_path / "names.txt").write_text("anna")
        view = write_drop(tmp_path / "a.view", named, tmp_path / "names.txt", By.NAME)
        (tmp_path / "names.txt").write_text("bo/old")
        kept = write_keep(tmp_path / "b.view", view, tmp_path / "names.txt", By.NAME)
        assert kept.rows.tolist() == [5]
        (tmp_path / "names.txt").write_text("bo/old\n\nanna\n")
        with pytest.raises(UserError, match=r"line 3: .*a\.view has no image and no folder 'anna'"):
            write_keep(tmp_path / "c.view", view, tmp_path / "names.txt", By.NAME)

    @pytest.mark.parametrize("name", ["faces/anna/1.jpg", "1.jpg", "1", "ann", "anna/1.JPG"])
    def test_a_name_must_not_be_ambiguous_or_of_another_file(self, named, tmp_path, name):
        (tmp_path / "names.txt").write_text(name)
        with pytest.raises(UserError, match=r"line 1.*; its images are named like 'anna/1\.jpg'"):
            write_keep(tmp_path / "a.view", named, tmp_path / "names.txt", By.NAME)

    @pytest.mark.parametrize(
        ("by", "text", "rows"),
        [
            (By.NAME, "anna/1.jpg 0\nanna/9.jpg 0\n\nanna\tanna/8.jpg\n", [0]),
            (By.KEY, "1\n77\n78", [1]),
        ],
    )
    def test_missing_names_can_be_skipped(self, named, tmp_path, by, text, rows):
        (tmp_path / "names.txt").write_text(text)
        with pytest.raises(UserError, match=r"line 2: .*has no image"):
            write_keep(tmp_path / "a.view", named, tmp_path / "names.txt", by)
        view = write_keep(tmp_path / "a.view", named, tmp_path / "names.txt", by, skip_missing=True)
        assert view.rows.tolist() == rows
        assert view.history[-1].parameters["missing"] == 2
        (tmp_path / "names.txt").write_text("99\n")
        with pytest.raises(UserError, match=r"line 1: .*has no image"):
            write_keep(tmp_path / "b.view", named, tmp_path / "names.txt", by, skip_missing=True)

    def test_a_line_of_a_million_spaces_takes_no_time(self, named, tmp_path):
        (tmp_path / "names.txt").write_text("anna/1.jpg" + " " * 1_000_000 + "x")
        begin = time.process_time()
        kept = write_keep(tmp_path / "a.view", named, tmp_path / "names.txt", By.NAME)
        assert kept.rows.tolist() == [0]
        assert time.process_time() - begin < 5

    def test_images_from_records_have_no_names(self, store, tmp_path):
        (tmp_path / "names.txt").write_text("anna")
        with pytest.raises(UserError, match="made from records, whose images have no file names"):
            write_keep(tmp_path / "a.view", store, tmp_path / "names.txt", By.NAME)


class TestViews:
    @pytest.mark.parametrize(
        ("write", "parameters", "name", "recorded", "images"),
        [
            (write_long_tail_cut, {"minimum": 3}, "long-tail-cut", {"minimum": 3}, 13),
            (write_retina_s, {"maximum": 3}, "retina-s", {"maximum": 3}, 6),
            (write_retina_s, {}, "retina-s", {"maximum": 50}, 16),
            (write_cap, {"maximum": 2}, "cap", {"maximum": 2, "seed": 0}, 9),
            (
                write_random_identities,
                {"identities": 5, "seed": 3},
                "random",
                {"identities": 5, "seed": 3},
                16,
            ),
        ],
    )
    def test_their_views_record_the_limit(
        self, store, tmp_path, write, parameters, name, recorded, images
    ):
        view = write(tmp_path / "subset.view", store, **parameters)
        assert len(view) == images
        (step,) = view.history
        assert (step.name, step.parameters) == (name, recorded)

    @pytest.mark.parametrize(("fraction", "identities"), [(0.4, 2), (0.001, 1), (1.0, 5)])
    def test_a_fraction_of_the_identities(self, store, tmp_path, fraction, identities):
        view = write_random_identities(tmp_path / "a.view", store, fraction=fraction)
        assert view.identities == identities
        assert view.history[-1].parameters == {"fraction": fraction, "seed": 0}

    def test_random_choices_are_equal_in_view_and_store(self, store, tmp_path):
        view = write_long_tail_cut(tmp_path / "a.view", store, 4)
        of_store = write_cap(tmp_path / "b.view", store, 3)
        of_view = write_cap(tmp_path / "c.view", view, 3)
        assert of_view.rows.tolist() == [row for row in of_store.rows.tolist() if row in view.rows]

    @pytest.mark.parametrize(
        ("write", "parameters", "complaint"),
        [
            (write_cap, {"maximum": 0}, "per identity is 0; allowed: 1 or more"),
            (write_cap, {"maximum": 1, "seed": -1}, "the seed is -1"),
            (write_random_identities, {}, "either a number of identities or a fraction"),
            (write_random_identities, {"identities": 6}, "has 5; allowed: 1 to 5"),
            (write_random_identities, {"fraction": 1.5}, "is 1.5; allowed: above 0, to 1"),
            (write_random_identities, {"fraction": float("nan")}, "is nan; allowed"),
        ],
    )
    def test_invalid_parameters_are_refused(self, store, tmp_path, write, parameters, complaint):
        with pytest.raises(UserError, match=complaint):
            write(tmp_path / "a.view", store, **parameters)
