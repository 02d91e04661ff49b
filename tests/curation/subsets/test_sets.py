"""Union, intersection and difference of two views of one store."""

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.subsets import (
    match_identities,
    write_difference,
    write_intersection,
    write_long_tail_cut,
    write_merge,
    write_retina_s,
    write_split,
    write_union,
)
from curation.view_writing import write_subset
from curation.views import View

# The store's identities 0 to 4 have the rows 0-3, 4, 5-10, 11-12 and 13-15.


@pytest.fixture
def subset(tmp_path):
    """A view of the given images of a parent."""

    def write(name, parent, *indices):
        keep = np.isin(np.arange(len(parent)), indices)
        return write_subset(tmp_path / f"{name}.view", parent, keep, "chosen", {})

    return write


def grouped(images):
    """The rows of each identity."""
    return [images.rows[images.labels == k].tolist() for k in range(images.identities)]


def united(tmp_path, first, second):
    return grouped(write_union(tmp_path / "union.view", first, second))


class TestPlainViews:
    """Views that keep the store's identities unchanged."""

    def test_a_union_has_the_images_of_either(self, store, subset, tmp_path):
        first, second = subset("a", store, 2, 3, 5, 12), subset("b", store, 0, 3, 4, 11)
        assert united(tmp_path, first, second) == [[0, 2, 3], [4], [5], [11, 12]]
        assert united(tmp_path / "turned", second, first) == [[0, 2, 3], [4], [5], [11, 12]]

    def test_an_intersection_has_the_images_of_both(self, store, subset, tmp_path):
        first, second = subset("a", store, 1, 2, 4, 12), subset("b", store, 2, 5, 11, 12)
        assert grouped(write_intersection(tmp_path / "c.view", first, second)) == [[2], [12]]

    def test_a_difference_has_the_images_the_second_lacks(self, store, subset, tmp_path):
        first, second = subset("a", store, 1, 2, 4, 12), subset("b", store, 2, 5, 11, 12)
        assert grouped(write_difference(tmp_path / "c.view", first, second)) == [[1], [4]]
        assert grouped(write_difference(tmp_path / "d.view", store, first))[-1] == [13, 14, 15]

    def test_a_set_and_its_complement_make_the_whole(self, store, tmp_path):
        few = write_retina_s(tmp_path / "few.view", store, 3)
        many = write_difference(tmp_path / "many.view", store, few)
        whole = write_union(tmp_path / "whole.view", few, many)
        assert whole.rows.tolist() == store.rows.tolist()
        assert whole.labels.tolist() == store.labels.tolist()

    @pytest.mark.parametrize("write", [write_intersection, write_difference])
    def test_an_empty_result_is_refused(self, store, subset, tmp_path, write):
        first = subset("a", store, 1)
        second = store if write is write_difference else subset("b", store, 2)
        with pytest.raises(UserError, match="would have no images"):
            write(tmp_path / "c.view", first, second)

    def test_two_stores_have_no_images_in_common(self, store, write_source, tmp_path):
        other = convert(write_source({0: 2}, "other"), tmp_path / "other.lmdb")
        for write in (write_intersection, write_difference):
            with pytest.raises(UserError, match=r"belong to two stores, .*train\.lmdb and .*other"):
                write(tmp_path / "c.view", store, other)


class TestHistory:
    @pytest.mark.parametrize(
        ("write", "name", "images"),
        [
            (write_union, "union", 15),
            (write_intersection, "intersection", 9),
            (write_difference, "difference", 4),
        ],
    )
    def test_both_parents_are_recorded(self, store, tmp_path, write, name, images):
        first = write_long_tail_cut(tmp_path / "first.view", store, 3)
        both = write_long_tail_cut(tmp_path / "both.view", store, 2)
        second = write_subset(
            tmp_path / "second.view", both, ~np.isin(both.labels, [0]), "chosen", {"by": "hand"}
        )
        made = View(write(tmp_path / "set.view", first, second).path)
        step = made.history[-1]
        assert (step.name, step.images_before, step.images_after) == (name, 13, images)
        assert [step.name for step in made.history] == ["long-tail-cut", name]
        assert made.meta.parent == "../first.view"
        assert (step.other.path, step.other.digest) == ("../second.view", second.digest)
        assert (step.other.images, step.other.identities) == (11, 3)
        assert [step.name for step in step.other.history] == ["long-tail-cut", "chosen"]

    def test_it_continues_in_views_of_the_set(self, store, subset, tmp_path):
        union = write_union(tmp_path / "u.view", subset("a", store, 1), subset("b", store, 2, 5))
        view = write_long_tail_cut(tmp_path / "v.view", union, 2)
        assert [step.name for step in view.history] == ["chosen", "union", "long-tail-cut"]
        assert View(view.path).history[1].other.path == "../b.view"


class TestRegroupedViews:
    @pytest.fixture
    def regrouped(self, store, tmp_path):
        """0 and 4 are merged, 2 is split into the rows 5-7 and 8-10."""
        merged = write_merge(tmp_path / "merged.view", store, [[0, 4]], {})
        parts = (merged.rows >= 8) & (merged.rows <= 10)
        return write_split(tmp_path / "regrouped.view", merged, parts.astype(int), {})

    def rows(self, view, *rows):
        return np.flatnonzero(np.isin(view.rows, rows))

    def test_a_part_and_its_whole_make_the_whole(self, regrouped, subset, tmp_path):
        part = subset("part", regrouped, *self.rows(regrouped, 0, 8, 13))
        for name, pair in {"a": (part, regrouped), "b": (regrouped, part)}.items():
            found = united(tmp_path / name, *pair)
            assert sorted(map(sorted, found)) == sorted(map(sorted, grouped(regrouped)))

    def test_merged_people_are_matched_without_a_common_image(self, regrouped, subset, tmp_path):
        first = subset("a", regrouped, *self.rows(regrouped, 0, 13))
        second = subset("b", regrouped, *self.rows(regrouped, 1, 4, 14))
        assert united(tmp_path, first, second) == [[0, 1, 13, 14], [4]]

    def test_parts_of_one_person_are_matched_by_common_images(self, regrouped, subset, tmp_path):
        first = subset("a", regrouped, *self.rows(regrouped, 5, 6, 8, 9))
        second = subset("b", regrouped, *self.rows(regrouped, 6, 7, 9, 10))
        assert united(tmp_path, first, second) == [[5, 6, 7], [8, 9, 10]]

    def test_parts_without_a_common_image_are_refused(self, regrouped, subset, tmp_path):
        first = subset("a", regrouped, *self.rows(regrouped, 5, 8))
        second = subset("b", regrouped, *self.rows(regrouped, 6, 9))
        with pytest.raises(UserError, match=r"identities do not match: 0, 1 of .*a\.view and 0, 1"):
            write_union(tmp_path / "c.view", first, second)

    def test_sets_merged_differently_are_refused(self, store, regrouped, subset, tmp_path):
        merged = subset("a", regrouped, *self.rows(regrouped, 0, 13))
        plain = subset("b", store, 1, 14)
        with pytest.raises(UserError, match="only one of the two merged or split them"):
            write_union(tmp_path / "c.view", merged, plain)

    def test_an_intersection_with_other_groups_is_refused(self, store, regrouped, tmp_path):
        with pytest.raises(UserError, match="identities do not match"):
            write_intersection(tmp_path / "c.view", store, regrouped)

    def test_a_difference_depends_only_on_images(self, store, regrouped, subset, tmp_path):
        some = subset("a", store, 0, 8)
        left = write_difference(tmp_path / "c.view", regrouped, some)
        assert grouped(left) == [[1, 2, 3, 13, 14, 15], [4], [5, 6, 7], [9, 10], [11, 12]]

    def test_the_other_identities_get_new_numbers(self, store, subset):
        first, second = subset("a", store, 4, 11), subset("b", store, 0, 12, 13)
        assert match_identities(first, second).tolist() == [2, 1, 3]
