"""Merging and splitting identities, directly and by lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UserError
from curation.subsets import (
    By,
    merge_identities,
    split_identities,
    write_long_tail_cut,
    write_merge,
    write_merge_list,
    write_split,
    write_split_list,
)


@given(st.lists(st.integers(0, 6), min_size=1), st.lists(st.integers(0, 3), min_size=7, max_size=7))
def test_merging_equals_looking_up_one_by_one(labels, group_of):
    groups = [[label for label in range(7) if group_of[label] == group] for group in range(1, 4)]
    groups = [group for group in groups if group]
    merged = merge_identities(np.array(labels), groups)
    smallest = {label: min(group) for group in groups for label in group}
    assert merged.tolist() == [smallest.get(label, label) for label in labels]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1))
def test_splitting_groups_by_label_and_part(pairs):
    labels, parts = (np.array(column) for column in zip(*pairs, strict=True))
    new = split_identities(labels, parts).tolist()
    numbers = {pair: number for number, pair in enumerate(sorted(set(pairs)))}
    assert new == [numbers[pair] for pair in pairs]


def test_a_label_in_two_groups_is_an_error():
    with pytest.raises(ValueError, match="two groups"):
        merge_identities(np.arange(4), [[0, 1], [1, 2]])


class TestMerge:
    def test_a_merged_identity_takes_the_place_of_its_first(self, store, tmp_path):
        view = write_merge(tmp_path / "a.view", store, [[3, 1], [0, 4]], {"by": "hand"})
        assert view.identities == 3
        assert view.rows.tolist() == [0, 1, 2, 3, 13, 14, 15, 4, 11, 12, 5, 6, 7, 8, 9, 10]
        assert view.labels.tolist() == [0] * 7 + [1] * 3 + [2] * 6
        (step,) = view.history
        assert (step.name, step.parameters) == ("merge", {"by": "hand"})
        assert (step.identities_before, step.identities_after) == (5, 3)
        assert (step.images_before, step.images_after) == (16, 16)

    @pytest.mark.parametrize(
        ("groups", "complaint"),
        [
            ([[0]], "nothing to merge"),
            ([[2, 2]], "nothing to merge"),
            ([[0, 1], [1, 2]], "identity 1 would be merged into two"),
            ([[0, 5]], "has no identity 5; allowed: 0 to 4"),
        ],
    )
    def test_invalid_groups_are_refused(self, store, tmp_path, groups, complaint):
        with pytest.raises(UserError, match=complaint):
            write_merge(tmp_path / "a.view", store, groups, {})

    @pytest.mark.parametrize(
        ("by", "text"), [(By.LABEL, "7 3\n2,11"), (By.IDENTITY, "3 1\n0 4"), (By.KEY, "5 12\n1 15")]
    )
    def test_a_list_has_a_group_on_each_line(self, store, tmp_path, listed, by, text):
        view = write_merge_list(tmp_path / "a.view", store, listed(text), by)
        by_hand = write_merge(tmp_path / "b.view", store, [[3, 1], [0, 4]], {})
        assert view.digest == by_hand.digest
        assert view.history[0].parameters["by"] == by

    def test_a_split_label_is_ambiguous(self, store, tmp_path, listed):
        view = write_split(tmp_path / "a.view", store, np.arange(16) % 2, {})
        with pytest.raises(UserError, match=r"label 2 is in several identities.*list by identity"):
            write_merge_list(tmp_path / "b.view", view, listed("2 3"), By.LABEL)


class TestSplit:
    def test_images_that_are_listed_leave_their_identity(self, store, tmp_path, listed):
        text = "0 1\n2 1\n3 2\n15 1 # alone"
        view = write_split_list(tmp_path / "a.view", store, listed(text), By.INDEX)
        assert view.identities == 8
        assert view.rows[:4].tolist() == [1, 0, 2, 3]
        assert view.labels[:5].tolist() == [0, 1, 1, 2, 3]
        assert view.labels[-3:].tolist() == [6, 6, 7]
        assert view.history[0].name == "split"

    def test_a_split_undoes_a_merge(self, store, tmp_path, listed):
        merged = write_merge(tmp_path / "a.view", store, [[0, 4]], {})
        again = write_split_list(tmp_path / "b.view", merged, listed("11 1"), By.LABEL)
        grouped = {tuple(again.rows[again.labels == k].tolist()) for k in range(5)}
        assert grouped == {tuple(np.flatnonzero(store.labels == k).tolist()) for k in range(5)}

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("1", "line 1: expected an image, listed once, and a part"),
            ("1 1\n1 2", "line 2: expected an image, listed once"),
            ("1 1\n77 2", "line 2: .* has no image with the key 77"),
            ("5 3", "nothing in .* would be split"),
        ],
    )
    def test_invalid_lists_are_refused(self, store, tmp_path, listed, text, complaint):
        with pytest.raises(UserError, match=complaint):
            write_split_list(tmp_path / "a.view", store, listed(text), By.KEY)


def test_a_regrouped_view_can_be_cut_further(store, tmp_path):
    merged = write_merge(tmp_path / "a.view", store, [[1, 3]], {})
    cut = write_long_tail_cut(tmp_path / "b.view", merged, 3)
    assert cut.identities == 4
    assert [step.name for step in cut.history] == ["merge", "long-tail-cut"]
