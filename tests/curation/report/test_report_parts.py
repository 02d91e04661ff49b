"""The parts of the report: histograms, the funnel's tree, and number formats."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_findings import finding

from curation.image_set import ViewStep
from curation.noise.findings import Finding
from curation.report.funnel import funnel
from curation.report.histogram import bar_height, flag_edge, score_histogram, size_histograms
from curation.store import Store
from curation.subsets import write_cap, write_difference
from curation.wording import compact, counted, decimal, noun, parameters, percent


def test_sets_are_compared_in_the_same_bins(store: Store, tmp_path: Path) -> None:
    # Identities with 4, 1, 6, 2 and 3 images.
    short = write_cap(tmp_path / "short.view", store, 2)
    whole, cut = size_histograms([store, short])
    found = [(entry.first, entry.last, entry.identities, entry.images) for entry in whole.bins]
    assert found == [(1, 1, 1, 1), (2, 2, 1, 2), (3, 5, 2, 7), (6, 10, 1, 6)]
    assert [(entry.first, entry.identities) for entry in cut.bins] == [
        (1, 1),
        (2, 4),
        (3, 0),
        (6, 0),
    ]
    assert (whole.quantiles["median"], cut.quantiles["median"]) == (3, 2)
    assert whole.highest_share == 7 / 16


def test_a_step_on_two_sets_names_the_second(store: Store, tmp_path: Path) -> None:
    short = write_cap(tmp_path / "short.view", store, 2)
    rest = write_difference(tmp_path / "rest.view", store, short)
    rows = funnel([store, short, rest])
    assert [(row.name, row.parameters, row.branch) for row in rows] == [
        ("store", "from train.rec", 0),
        ("cap", "maximum 2, seed 0", 1),
        ("difference", "with short.view", 1),
    ]
    assert [(row.images, row.identities) for row in rows] == [(16, 5), (9, 5), (7, 3)]


def test_a_history_of_thousands_of_steps_is_a_chain(store: Store) -> None:
    step = ViewStep(
        name="cap",
        parameters={},
        images_before=16,
        identities_before=5,
        images_after=16,
        identities_after=5,
    )
    view = SimpleNamespace(store=store, path=Path("long.view"), history=(step,) * 3000)
    rows = funnel([store, view])
    assert len(rows) == 3001
    assert [(row.sets, row.branch) for row in rows[-2:]] == [((), 0), (("long.view",), 0)]


def test_common_steps_appear_once_and_chains_are_not_indented(store: Store, tmp_path: Path) -> None:
    first = write_cap(tmp_path / "first.view", store, 4)
    second = write_cap(tmp_path / "second.view", first, 3)
    third = write_cap(tmp_path / "third.view", second, 2)
    other = write_cap(tmp_path / "other.view", second, 1)
    rows = funnel([third, other, first])
    assert [(row.sets, row.branch) for row in rows] == [
        (("train.lmdb",), 0),
        (("first.view",), 0),
        ((), 0),
        (("third.view",), 1),
        (("other.view",), 1),
    ]


def flagged_from(scores: list[float], edge: float) -> Finding:
    given_scores = np.array(scores, np.float32)
    none: dict = {}
    flagged = given_scores >= edge
    return Finding("any", "image", np.arange(len(scores)), given_scores, flagged, none, "")


@given(st.lists(st.floats(0, 1, width=32), min_size=1), st.floats(0, 1))
def test_every_score_is_in_its_bin(scores: list[float], edge: float) -> None:
    histogram = score_histogram(flagged_from(scores, edge))
    both = np.add(histogram.kept, histogram.flagged)
    expected, _ = np.histogram((np.array(scores, np.float32) * 20).clip(0, 19.5), 20, (0, 20))
    assert both.tolist() == expected.tolist()


@given(st.lists(st.floats(0, 1, width=32), min_size=1), st.floats(0, 1))
def test_the_edge_is_the_lowest_flagged_score(scores: list[float], edge: float) -> None:
    one = flagged_from(scores, edge)
    above = one.scores[one.flagged]
    assert flag_edge(one) == (above.min() if above.size else None)


def test_there_is_no_edge_if_the_score_does_not_decide() -> None:
    one = finding("any", "image", [0.2, 0.9, 0.5], 1)
    one.flagged[:] = [True, False, True]
    assert flag_edge(one) is None


def test_one_in_millions_is_still_visible() -> None:
    assert bar_height(0, 5_000_000) == 0
    assert bar_height(1, 5_000_000) > 4
    assert bar_height(5_000_000, 5_000_000) == 100


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 5, "0 %"),
        (0, 0, "0 %"),
        (5, 5, "100 %"),
        (4_999_999, 5_000_000, "> 99.9 %"),
        (1, 5_000_000, "< 0.1 %"),
        (1, 3, "33.3 %"),
        (3, 2, "150.0 %"),
    ],
)
def test_shares_are_never_rounded_to_all_or_nothing(part: int, whole: int, shown: str) -> None:
    assert percent(part, whole).replace("\N{NO-BREAK SPACE}", " ") == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((0, "0"), (999, "999"), (1_000, "1.0k"), (9_949, "9.9k"), (9_960, "10k")),
        *((93_431, "93k"), (999_400, "999k"), (999_600, "1.0M"), (42_474_558, "42M")),
    ],
)
def test_counts_above_bars_are_short(value: int, shown: str) -> None:
    assert compact(value) == shown


def test_unknown_numbers_are_shown_as_unknown() -> None:
    assert decimal(float("nan")) == "unknown"
    assert decimal(-0.001) == "0.00"
    assert decimal(-0.126) == "\N{MINUS SIGN}0.13"


def test_parameters_are_shortened_and_have_no_digests() -> None:
    given_parameters = {"maximum": 50, "list_digest": "ab" * 32, "list": "x" * 100}
    assert parameters(given_parameters) == f"maximum 50, list {'x' * 40}"


def test_a_noun_fits_its_count() -> None:
    assert [noun(count, "identity") for count in (0, 1, 2)] == [
        "identities",
        "identity",
        "identities",
    ]
    assert [counted(count, "image") for count in (1, 2000)] == ["1 image", "2,000 images"]
