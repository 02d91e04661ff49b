"""What a check may look at."""

from collections.abc import Sequence
from dataclasses import dataclass

from curation.noise.embedded import EmbeddedImages
from curation.noise.membership import Membership
from curation.noise.overlap import EvaluationImages
from curation.store import ImageSet


@dataclass(frozen=True)
class Context:
    """The images, their embeddings, what is known of their membership, the evaluation sets."""

    images: ImageSet
    embedded: EmbeddedImages
    membership: Membership
    evaluation: Sequence[EvaluationImages] = ()
