"""The teacher's class centres: each identity's mean embedding over its images.

An existing teacher has no class centres, or those of other identities; its cached embeddings
provide them for any image set.
"""

import numpy as np
import torch
from torch import Tensor

from curation.views import ImageSet
from teachers.embedding_cache import Embeddings

_ROWS = 8192
"""Images at a time: 16 MiB in float16 at 512 dimensions, both views."""


def teacher_centres(cache: Embeddings, images: ImageSet) -> Tensor:
    """Unit vectors [identities, D] in float32: the mean over both views of an identity's images.

    An identity without images gets the zero vector. Reads the cache of all images once.
    """
    sums = torch.zeros(images.identities, cache.embedding)
    labelled = np.asarray(images.labels[: len(images) - images.unlabelled], dtype=np.int64)
    labels = torch.from_numpy(labelled)  # unlabelled images come last
    for begin in range(0, len(labels), _ROWS):
        span = slice(begin, begin + _ROWS)
        rows = images.rows[: len(labels)][span]
        both_views = cache.vectors(rows, slice(None)).astype(np.float32).sum(axis=1)
        sums.index_add_(0, labels[span], torch.from_numpy(both_views))
    return torch.nn.functional.normalize(sums)
