"""Histograms: images per identity in logarithmic bins, and the scores of a check."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.image_set import ImageSet
from curation.inspection import histogram, images_per_identity
from curation.noise.findings import Finding

SCORE_BINS = 20


@dataclass(frozen=True)
class SizeBin:
    """The identities with ``first`` to ``last`` images, and their total number of images."""

    first: int
    last: int
    identities: int
    images: int


@dataclass(frozen=True)
class SizeHistogram:
    """Images per identity of one set, and its quantiles."""

    name: str
    bins: tuple[SizeBin, ...]
    quantiles: dict[str, int]
    identities: int
    images: int

    @property
    def highest_share(self) -> float:
        """The largest share of the identities, or of the images, in one bin."""
        return max(
            max(entry.identities / max(self.identities, 1), entry.images / self.images)
            for entry in self.bins
        )


@dataclass(frozen=True)
class ScoreHistogram:
    """The number of subjects per score, in ``SCORE_BINS`` equal bins from 0 to 1."""

    kept: tuple[int, ...]
    flagged: tuple[int, ...]
    edge: float | None
    """The lowest flagged score, if all higher scores are flagged"""


def size_histograms(sets: Sequence[ImageSet]) -> list[SizeHistogram]:
    """One histogram per set, all with the bins of the largest: 1, 2, 3 to 5, 6 to 10 ..."""
    counts = [np.diff(images.offsets) for images in sets]
    found = [_bins(one) for one in counts]
    longest = max(found, key=len)
    padding = [SizeBin(entry.first, entry.last, 0, 0) for entry in longest]
    return [
        SizeHistogram(
            images.path.name,
            tuple(bins + padding[len(bins) :]),
            images_per_identity(one) if len(one) else {},
            images.identities,
            len(images),
        )
        for images, one, bins in zip(sets, counts, found, strict=True)
    ]


def _bins(counts: np.ndarray) -> list[SizeBin]:
    return [
        SizeBin(entry["from"], entry["to"], entry["identities"], entry["images"])
        for entry in histogram(counts)
    ]


def score_histogram(finding: Finding) -> ScoreHistogram:
    """The scores of one check, separately for flagged subjects."""
    scores = np.clip(finding.scores, 0, 1)
    number = np.minimum((scores * SCORE_BINS).astype(int), SCORE_BINS - 1)
    flagged = np.bincount(number[finding.flagged], minlength=SCORE_BINS)
    kept = np.bincount(number[~finding.flagged], minlength=SCORE_BINS)
    return ScoreHistogram(tuple(kept.tolist()), tuple(flagged.tolist()), flag_edge(finding))


def flag_edge(finding: Finding) -> float | None:
    """The lowest flagged score; None if nothing is flagged, or not by the score alone."""
    if not finding.flagged.any():
        return None
    lowest = float(finding.scores[finding.flagged].min())
    kept = finding.scores[~finding.flagged]
    return None if kept.size and float(kept.max()) > lowest else lowest


def bar_height(count: int, highest: int) -> float:
    """Percent of the chart's height on a logarithmic scale, so that 1 of many remains visible."""
    return 0.0 if count == 0 else float(100 * np.log2(1 + count) / np.log2(1 + highest))
