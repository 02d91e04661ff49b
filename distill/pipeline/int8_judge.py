"""The accuracy losses that decide the gate of `distill.export.int8_gate`, on evaluation sets."""

from collections.abc import Callable, Sequence
from functools import partial

from curation.pairs import VerificationPairs
from curation.store import ImageSet
from distill.evaluation.paired import compared, measures
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.set_features import EvaluationSet, NetworkFeatures
from distill.export.int8_gate import LIMITS, Gate, MeasuredLoss
from teachers.embedder import Embedder


def gate_on(sets: Sequence[EvaluationSet]) -> Gate | None:
    """The gate for these pair sets and image sets; None if there are none."""
    judged = [each for each in sets if not isinstance(each, ProtocolSet)]
    return partial(_against, judged) if judged else None


def _against(
    sets: Sequence[VerificationPairs | ImageSet], reference: Embedder
) -> Callable[[Embedder], list[MeasuredLoss]]:
    """A function that compares networks with ``reference``, which embeds each set once."""
    first = [measures(NetworkFeatures(reference).features(each), each) for each in sets]

    def judge(candidate: Embedder) -> list[MeasuredLoss]:
        second = (measures(NetworkFeatures(candidate).features(each), each) for each in sets)
        return [
            MeasuredLoss(each.name, found.measure, found.first, found.second, found.interval)
            for each, before, after in zip(sets, first, second, strict=True)
            for found in compared(before, after)
            if found.measure in LIMITS
        ]

    return judge
