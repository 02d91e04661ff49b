"""The accuracy losses that decide the gate of `distill.export.int8_gate`, on evaluation sets."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from curation.image_set import ImageSet
from curation.pairs import VerificationPairs
from curation.progress import StepDisplay, shifted, unwatched
from distill.evaluation.paired import Measures, compared, measures
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.set_features import EvaluationSet, NetworkFeatures, distinct_images
from distill.export.int8_gate import LIMITS, Gate, MeasuredLoss
from teachers.embedder import Embedder


def gate_on(
    sets: Sequence[EvaluationSet], watch: StepDisplay = unwatched, kept: Path | None = None
) -> Gate | None:
    """The gate for these sets of pairs and images; None without any.

    ``watch`` shows the progress of embedding the sets, once per network. Features are ``kept`` for
    the scores of the same files.
    """
    judged = [each for each in sets if not isinstance(each, ProtocolSet)]
    return partial(_against, judged, watch, kept) if judged else None


def _against(
    sets: Sequence[VerificationPairs | ImageSet],
    watch: StepDisplay,
    kept: Path | None,
    reference: Embedder,
) -> Callable[[Embedder], list[MeasuredLoss]]:
    """A function that compares a network with ``reference``, which embeds each set once."""
    first = _measured(sets, reference, kept, watch, "embed with float32")

    def judge(candidate: Embedder) -> list[MeasuredLoss]:
        second = _measured(sets, candidate, kept, watch, "embed with int8")
        return [
            MeasuredLoss(each.name, found.measure, found.first, found.second, found.interval)
            for each, before, after in zip(sets, first, second, strict=True)
            for found in compared(before, after)
            if found.measure in LIMITS
        ]

    return judge


def _measured(
    sets: Sequence[VerificationPairs | ImageSet],
    network: Embedder,
    kept: Path | None,
    watch: StepDisplay,
    title: str,
) -> list[Measures]:
    """The measures of a network on each set, without AUC and EER, which have no limit."""
    counts = [distinct_images(each) for each in sets]
    answers = NetworkFeatures(network, kept)
    with watch(title, "images") as progress:
        return [
            measures(answers.features(each, shifted(progress, done, sum(counts))), each, False)
            for each, done in zip(sets, accumulate(counts, initial=0), strict=False)
        ]
