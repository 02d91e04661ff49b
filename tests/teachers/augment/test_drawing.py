"""Views are a function of (strengths, seed, image, number) only."""

from collections.abc import Callable

import numpy as np
import pytest

from teachers.augment.drawing import Change, are_mirrored, are_mixed, draw, hashes, uniform
from teachers.augment.pictures import changed
from teachers.augment.strengths import Blur, CropMotion, Erase, Jpeg, LowResolution, Strengths, Tone
from tests import conftest

ROWS = np.arange(4000)
SIZE = (48, 48)
NONE = {
    "crop": CropMotion(share=0.0),
    "tone": Tone(share=0.0),
    "grey": 0.0,
    "blur": Blur(share=0.0),
    "low_resolution": LowResolution(share=0.0),
    "jpeg": Jpeg(share=0.0),
    "erase": Erase(share=0.0),
}


def drawn(strengths: Strengths, rows: np.ndarray = ROWS, number: int = 0) -> list[Change]:
    return draw(strengths, rows, number, SIZE, len(ROWS))


def view(strengths: Strengths, row: int, number: int) -> np.ndarray:
    partner = conftest.draw(1, 1)
    (change,) = drawn(strengths, np.array([row]), number)
    return changed([conftest.draw(0, row)], [change], [partner if change.partner >= 0 else None])[0]


def test_hashes_are_those_of_splitmix64() -> None:
    def slow(*keys: int) -> int:
        state, mask = 0, 2**64 - 1
        for key in keys:
            state = ((state ^ key) + 0x9E3779B97F4A7C15) & mask
            state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
            state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
            state ^= state >> 31
        return state

    # The first number of the published generator with the seed 0.
    assert slow(0) == 0xE220A8397B1DCDAF
    found = hashes(7, np.array([0, 1, 2**40]), 3)
    assert found.tolist() == [slow(7, row, 3) for row in (0, 1, 2**40)]


def test_draws_are_even_between_0_and_1() -> None:
    u = uniform(hashes(0, ROWS))
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.histogram(u, bins=10, range=(0, 1))[0]
    assert abs(counts - 400).max() < 80


def test_a_view_does_not_depend_on_its_neighbours() -> None:
    strengths = Strengths(mix=0.3)
    together, alone = drawn(strengths, ROWS[:50], 5), drawn(strengths, ROWS[31:32], 5)
    for one, other in zip(together[31], alone[0], strict=True):
        np.testing.assert_array_equal(one, other)
    by_number = draw(strengths, ROWS[:50], np.arange(50) % 6, SIZE, len(ROWS))
    for one, other in zip(by_number[35], together[35], strict=True):
        np.testing.assert_array_equal(one, other)


def test_views_differ_by_seed_image_and_number() -> None:
    every = [
        view(Strengths(seed=seed), row, number)
        for seed, row, number in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert len({each.tobytes() for each in every}) == 4


@pytest.mark.parametrize("numbers", [8, 16])
def test_half_of_the_views_of_every_image_are_mirrored(numbers: int) -> None:
    flags = np.stack([are_mirrored(0, ROWS, number) for number in range(numbers)])
    assert (flags.sum(axis=0) == numbers // 2).all()
    assert abs(flags[0].mean() - 0.5) < 0.05


def test_without_strengths_a_view_is_the_image_or_its_mirror() -> None:
    strengths = Strengths(**NONE)
    assert strengths.change_nothing
    for row in range(4):
        picture = conftest.draw(0, row)
        seen = {view(strengths, row, number).tobytes() for number in range(2)}
        assert seen == {picture.tobytes(), picture[:, ::-1].tobytes()}


@pytest.mark.parametrize(
    ("given", "has"),
    [
        ({"crop": CropMotion(share=0.3)}, lambda change: change.motion is not None),
        ({"tone": Tone(share=0.3)}, lambda change: change.gamma is not None),
        ({"grey": 0.3}, lambda change: change.colours is not None),
        ({"blur": Blur(share=0.3, sigma=20.0)}, lambda change: change.sigma > 0),
        ({"low_resolution": LowResolution(share=0.3)}, lambda change: change.height > 0),
        ({"jpeg": Jpeg(share=0.3)}, lambda change: change.quality > 0),
        ({"erase": Erase(share=0.3)}, lambda change: change.box is not None),
        ({"mix": 0.3}, lambda change: change.partner >= 0),
    ],
)
def test_each_change_is_in_its_share_of_the_views(
    given: dict, has: Callable[[Change], bool]
) -> None:
    strengths = Strengths(**{**NONE, **given})
    assert not strengths.change_nothing
    changes = drawn(strengths)
    done = np.array([has(change) for change in changes])
    assert 0.26 < done.mean() < 0.34
    plain = Strengths(**NONE)
    for row in np.flatnonzero(done)[:3].tolist():
        assert (view(strengths, row, 0) != view(plain, row, 0)).any()
    row = int(np.flatnonzero(~done)[0])
    np.testing.assert_array_equal(view(strengths, row, 0), view(plain, row, 0))


def test_samples_fill_their_range() -> None:
    strengths = Strengths(
        **NONE
        | {
            "blur": Blur(share=1.0, sigma=2.0),
            "low_resolution": LowResolution(share=1.0, pixels=12),
            "jpeg": Jpeg(share=1.0, quality=40),
            "erase": Erase(share=1.0, side=0.5),
            "mix": 1.0,
        }
    )
    changes = drawn(strengths)
    sigmas = np.array([change.sigma for change in changes]) * 112 / 48
    assert (sigmas.min(), sigmas.max()) == (pytest.approx(0, abs=0.01), pytest.approx(2, abs=0.01))
    assert {change.height for change in changes} == set(range(12, 49))
    assert {change.quality for change in changes} == set(range(40, 96))
    boxes = np.array([change.box for change in changes])
    assert boxes[:, :2].min() == 0
    assert boxes[:, 2:].min() == 1
    assert boxes[:, 2:].max() == 24
    assert (boxes[:, :2] + boxes[:, 2:]).max() == 48
    partners = np.array([change.partner for change in changes])
    assert 0 <= partners.min() < 20
    assert 3980 < partners.max() < 4000
    weights = np.array([change.partner_weight for change in changes])
    assert 0 <= weights.min() < 0.01
    assert 0.49 < weights.max() < 0.5


def test_which_views_are_mixed_is_known_beforehand() -> None:
    strengths = Strengths(mix=0.25)
    expected = [change.partner >= 0 for change in drawn(strengths, ROWS, 3)]
    assert are_mixed(strengths, ROWS, 3).tolist() == expected


def test_the_digest_covers_everything_that_affects_pixels() -> None:
    plain = Strengths().digest("images")
    assert Strengths().digest("other images") == plain
    changed_ones = [
        Strengths(seed=1),
        Strengths(crop=CropMotion(shift=0.06)),
        Strengths(jpeg=Jpeg(quality=31)),
        Strengths(mix=0.1),
    ]
    digests = {each.digest("images") for each in changed_ones} | {plain}
    assert len(digests) == 5
    # The whole data set matters, because its images are blended in.
    assert Strengths(mix=0.1).digest("images") != Strengths(mix=0.1).digest("other images")
