"""Random embeddings of people, in the order of a protocol's images."""

import numpy as np

from distill.evaluation.features import Embedded
from tests.distill.evaluation.features_of_people import normalised


def drawn(count: int, people: np.ndarray, seed: int = 0, noise: float = 0.3) -> Embedded:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(1000, 16))
    raw = centres[people] + noise * generator.normal(size=(count, 16))
    raw[people < 0] = generator.normal(size=(int((people < 0).sum()), 16))
    norms = np.linalg.norm(raw, axis=1)
    return Embedded(normalised(raw), norms.astype(np.float32))
