"""The size of the sample and its numbers of faults."""

from dataclasses import dataclass, replace

import numpy as np

LARGEST_IDENTITY = 78
FOLDS = 10


@dataclass(frozen=True)
class SampleSize:
    """Counts of the sample data set; the default is used by the demo.

    ``mixed_identities`` counts labels, ``split_people`` people, and the other faults images.
    ``pairs`` is per verification set and a multiple of twenty.
    """

    identities: int = 150
    verification_people: int = 60
    pairs: int = 600
    mislabelled: int = 45
    mixed_identities: int = 5
    split_people: int = 5
    exact_duplicates: int = 16
    near_duplicates: int = 20
    non_faces: int = 30

    def without_faults(self) -> "SampleSize":
        """The same size without any faults."""
        return replace(
            self,
            mislabelled=0,
            mixed_identities=0,
            split_people=0,
            exact_duplicates=0,
            near_duplicates=0,
            non_faces=0,
        )


def images_per_identity(size: SampleSize, rng: np.random.Generator) -> np.ndarray:
    """A natural long tail: [identities] int, from 2 to LARGEST_IDENTITY, in random order.

    These are quantiles of a Pareto-like law, so samples of every size and seed have the same share
    of small and large identities.
    """
    share = (np.arange(size.identities) + 0.5) / size.identities
    counts = np.clip(4.4 * share**-0.75 - 2.4, 2, LARGEST_IDENTITY)
    return rng.permutation(np.round(counts).astype(int))


DEFAULT_SIZE = SampleSize()
