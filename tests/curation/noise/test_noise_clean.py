"""Applying decisions, against applying them one by one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from curation.noise.clean import apply_decisions, write_clean
from curation.noise.decisions import Decision
from curation.store import Store
from curation.views import View, open_images

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4])


def slow_apply(labels: Sequence[int], decisions: Sequence[Decision]) -> list[tuple | None]:
    """The identity of each image: ("identity", k), ("part", k, p), or None if dropped.

    Moves and splits set the identity of an image, merges rename identities, drops win.
    """
    who: list[tuple | None] = [("identity", int(label)) for label in labels]
    chosen = [one for one in decisions if one.apply]
    for one in chosen:
        if one.action == "move":
            who[one.image] = ("identity", one.into)
        elif one.action == "split":
            who[one.image] = ("part", one.identity, one.into)
    merges = {one.identity: one.into for one in chosen if one.action == "merge"}
    for i, person in enumerate(who):
        while person is not None and person[0] == "identity" and person[1] in merges:
            person = ("identity", merges[person[1]])
        who[i] = person
    for one in chosen:
        if one.action == "drop":
            who[one.image] = None
        elif one.action == "drop-identity":
            who = [
                None if label == one.identity else w for label, w in zip(labels, who, strict=True)
            ]
    return who


@st.composite
def some_decisions(draw: st.DrawFn) -> list[Decision]:
    """Any compatible decisions: merges lead to smaller identities."""
    images = st.integers(0, len(LABELS) - 1)
    of_images = draw(
        st.lists(
            st.tuples(st.sampled_from(["drop", "move", "split"]), images, st.integers(1, 4)),
            max_size=6,
            unique_by=lambda entry: entry[1],
        )
    )
    of_identities = draw(
        st.lists(
            st.tuples(st.sampled_from(["merge", "drop-identity"]), st.integers(1, 4)),
            max_size=3,
            unique_by=lambda entry: entry[1],
        )
    )
    made = [
        Decision(action, int(LABELS[image]), image, None if action == "drop" else into)
        for action, image, into in of_images
    ]
    for action, identity in of_identities:
        into = draw(st.integers(0, identity - 1)) if action == "merge" else None
        made.append(Decision(action, identity, into=into))
    applied = draw(st.lists(st.booleans(), min_size=len(made), max_size=len(made)))
    made = [replace(d, apply=on) for d, on in zip(made, applied, strict=True)]
    return draw(st.permutations(made))


@given(some_decisions())
@settings(max_examples=200, deadline=None)
def test_decisions_together_act_like_one_by_one(decisions: list[Decision]) -> None:
    found = apply_decisions(LABELS, decisions).tolist()
    who = slow_apply(LABELS.tolist(), decisions)
    assert [label == -1 for label in found] == [person is None for person in who]
    pairs = {(label, person) for label, person in zip(found, who, strict=True) if label >= 0}
    assert len(pairs) == len({label for label, _ in pairs}) == len({person for _, person in pairs})


def test_no_decisions_change_nothing() -> None:
    np.testing.assert_array_equal(apply_decisions(LABELS, []), LABELS)
    refused = [Decision("drop", 0, 0, apply=False), Decision("drop", 99, apply=False)]
    np.testing.assert_array_equal(apply_decisions(LABELS, refused), LABELS)


def test_chained_merges_take_moved_images_along() -> None:
    chain = [
        Decision("merge", 4, into=3),
        Decision("merge", 3, into=1),
        Decision("move", 0, 2, 4),
    ]
    expected = [0, 0, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1]
    assert apply_decisions(LABELS, chain).tolist() == expected


def test_long_chains_and_many_drops_take_linear_time() -> None:
    labels = np.arange(30_000)
    merges = [Decision("merge", one, into=one + 1) for one in range(29_999)]
    assert not (apply_decisions(labels, merges) - 29_999).any()
    drops = [Decision("drop-identity", one) for one in range(29_999)]
    assert np.count_nonzero(apply_decisions(labels, drops) == -1) == 29_999


@pytest.mark.parametrize("merges", [[(0, 0)], [(0, 1), (1, 0)], [(0, 1), (1, 2), (2, 1)]])
def test_cyclic_merges_are_refused(merges: list[tuple[int, int]]) -> None:
    decisions = [Decision("merge", first, into=second) for first, second in merges]
    with pytest.raises(UserError, match="form a cycle"):
        apply_decisions(LABELS, decisions)


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision("drop", 0, 12), "decision 'drop': there is no image 12; there are 12"),
        (Decision("drop", 5, 0), "decision 'drop': there is no identity 5; there are 5"),
        (Decision("drop", 1, 0), "decision 'drop': image 0 is of identity 0, not 1"),
        (Decision("move", 0, 0, 5), "decision 'move': there is no identity 5; there are 5"),
        (Decision("merge", 0, into=7), "decision 'merge': there is no identity 7; there are 5"),
        (Decision("split", 4, 0, 1), "decision 'split': image 0 is of identity 0, not 4"),
        (Decision("drop-identity", 9), "decision 'drop-identity': there is no identity 9"),
    ],
)
def test_decisions_on_missing_subjects_are_refused(decision: Decision, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        apply_decisions(LABELS, [decision])


def test_the_view_has_moved_images_and_a_step_in_its_history(store: Store, tmp_path: Path) -> None:
    """Identities with 4, 1, 6, 2 and 3 images; the rest is numbered without gaps."""
    decisions = [
        Decision("drop", 0, 0),
        Decision("drop-identity", 1),
        Decision("move", 2, 5, 4),
        Decision("split", 2, 6, 1),
        Decision("split", 2, 7, 1),
        Decision("merge", 3, into=0),
        Decision("drop", 4, 13, apply=False),
    ]
    made = write_clean(tmp_path / "clean.view", store, decisions)
    assert isinstance(open_images(made.path), View)
    assert made.rows.tolist() == [1, 2, 3, 11, 12, 8, 9, 10, 5, 13, 14, 15, 6, 7]
    assert made.labels.tolist() == [0] * 5 + [1] * 3 + [2] * 4 + [3] * 2
    step = made.history[-1]
    assert (step.name, step.images_before, step.images_after) == ("clean", 16, 14)
    assert (step.identities_before, step.identities_after) == (5, 4)
    counts = {"drop": 1, "drop-identity": 1, "merge": 1, "move": 1, "split": 2}
    assert {name: step.parameters[name] for name in counts} == counts


def test_the_history_distinguishes_decisions(store: Store, tmp_path: Path) -> None:
    def digest(name: str, *decisions: Decision) -> object:
        return write_clean(tmp_path / name, store, decisions).history[-1].parameters["decisions"]

    first = digest("a.view", Decision("drop", 0, 0))
    assert digest("b.view", Decision("drop", 0, 1)) != first
    assert digest("c.view", Decision("drop", 0, 0), Decision("drop", 0, 1, apply=False)) == first


def test_dropping_everything_is_refused(store: Store, tmp_path: Path) -> None:
    decisions = [Decision("drop-identity", k) for k in range(5)]
    with pytest.raises(UserError, match="would have no images"):
        write_clean(tmp_path / "none.view", store, decisions)
    assert not (tmp_path / "none.view").exists()
