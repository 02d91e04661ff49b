"""The scores of a network while it is trained: its accuracies on sets of pairs."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from curation.pairs import VerificationPairs
from curation.progress import Progress
from distill.evaluation.evaluate_sets import evaluate
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
        report = evaluate(self._embedder, self._sets, progress)
        return {name: scores["accuracy"] for name, scores in report["sets"].items()}
