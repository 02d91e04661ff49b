"""Retina-S at the size of MS1MV3, compared with the Bitmain paper's numbers.

According to the paper, dropping identities with more than 50 images from 5.1 M images of 93 K
identities gives "enough identities (1.1M) and fewer face images (42K)". The numbers of images per
identity are not published; docs/benchmarks.md explains what these tests can and cannot show.
"""

from statistics import NormalDist

import numpy as np
import pytest

from curation.subsets import retina_s

IMAGES, IDENTITIES = 5_179_510, 93_431
PUBLISHED_IMAGES, PUBLISHED_IDENTITIES = 1_100_000, 42_000

SHARES = (np.arange(IDENTITIES) + 0.5) / IDENTITIES
NORMAL = np.array([NormalDist().inv_cdf(share) for share in SHARES])
SHAPES = {
    "flat, 1 to 110": np.ceil(110 * SHARES),
    "exponential": -np.log1p(-SHARES),
    "lognormal, sigma 0.5": np.exp(0.5 * NORMAL),
    "lognormal, sigma 1": np.exp(NORMAL),
}


def simulated_counts(shape):
    """Images per identity: proportional to a shape, with exactly MS1MV3's totals."""
    counts = np.maximum(1, np.rint(SHAPES[shape] * IMAGES / SHAPES[shape].sum())).astype(np.int64)
    missing = IMAGES - int(counts.sum())
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(counts > 1))[: abs(missing)]
    counts[chosen] += np.sign(missing)
    assert (counts.sum(), len(counts), counts.min() >= 1) == (IMAGES, IDENTITIES, True)
    return counts


@pytest.mark.parametrize(
    ("shape", "identities", "images"),
    [
        ("flat, 1 to 110", 42_520, 1_083_000),
        ("exponential", 55_870, 1_200_000),
        ("lognormal, sigma 0.5", 49_080, 1_715_000),
        ("lognormal, sigma 1", 61_470, 1_432_000),
    ],
)
def test_sets_with_the_published_totals(shape, identities, images):
    counts = simulated_counts(shape)
    labels = np.repeat(np.arange(IDENTITIES, dtype=np.int32), counts)
    kept = labels[retina_s(labels)]
    assert len(kept) == counts[counts <= 50].sum() == pytest.approx(images, rel=2e-3)
    assert np.unique(kept).size == np.sum(counts <= 50) == pytest.approx(identities, rel=2e-3)


def test_equal_counts_of_images_give_the_papers_numbers():
    counts = simulated_counts("flat, 1 to 110")
    kept = counts[counts <= 50]
    assert len(kept) == pytest.approx(PUBLISHED_IDENTITIES, rel=0.02)
    assert kept.sum() == pytest.approx(PUBLISHED_IMAGES, rel=0.02)


class TestReadings:
    """The readings of the paper's sentence that are consistent with its numbers."""

    def test_the_two_numbers_are_swapped_in_print(self):
        assert PUBLISHED_IMAGES > IDENTITIES, "there are not 1.1 M people in the whole set"

    def test_dropping_the_head_is_possible(self):
        assert PUBLISHED_IMAGES <= 50 * PUBLISHED_IDENTITIES
        dropped = (IMAGES - PUBLISHED_IMAGES) / (IDENTITIES - PUBLISHED_IDENTITIES)
        assert dropped > 50

    def test_dropping_the_tail_is_not(self):
        assert 50 * PUBLISHED_IDENTITIES > PUBLISHED_IMAGES
