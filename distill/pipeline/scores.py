"""Accuracies on sets of pairs: of a network while it is trained, and to compare candidates."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from curation.pairs import VerificationPairs
from curation.progress import Progress
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.set_features import NetworkFeatures
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing


class PairAccuracies:
    """``distill.training.scoring.Evaluate`` on ``sets``, which stay in memory as encoded images.

    Evaluated is ``twin``, a second network of the same kind that is given the weights, in float32:
    the one that is trained keeps its mode, its statistics and its place in memory.
    """

    def __init__(
        self, twin: nn.Module, preprocessing: Preprocessing, sets: Sequence[VerificationPairs]
    ) -> None:
        self._embedder = TorchEmbedder(twin, preprocessing, "in training")
        self._sets = sets

    def __call__(self, weights: Mapping[str, Tensor], progress: Progress) -> dict[str, float]:
        self._embedder.module.load_state_dict(weights)
        answers = NetworkFeatures(self._embedder)
        return accuracies(evaluate(answers, self._sets, progress, intervals=False))


def accuracies(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The accuracy on each set of pairs; none where one has no accuracy.

    A mean over some of the sets would be compared with means over all.
    """
    found = {name: report["accuracy"] for name, report in evaluation["sets"].items()}
    return {} if None in found.values() else found
