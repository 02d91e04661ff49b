"""Accuracies on pair sets, of a network during training and for the comparison of candidates."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from curation.errors import UserError
from curation.files import atomic_file
from curation.json_text import read_json
from curation.pairs import VerificationPairs
from curation.progress import Progress
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.features import Share, mirrored_seconds
from distill.evaluation.set_features import (
    EvaluationSet,
    HeldFeatures,
    NetworkFeatures,
    distinct_images,
)
from distill.notices import Notice
from distill.ranks import rank, world_size
from distill.training import distributed
from distill.training.scoring import Measure
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing
from teachers.usable import UnusableEmbeddingsError


class PairAccuracies:
    """``distill.training.scoring.Evaluate`` on ``sets``; encoded images of pairs stay in memory.

    The weights are loaded into ``twin``, a second network of the same kind, and evaluated in
    float32, so that the network being trained keeps its mode, statistics and memory layout. Ranks
    share the images of each set, all with the weights of rank 0, which alone computes the scores.
    With ``seconds``, only the sets that fit into that time are scored, in order; the selection is
    made once and kept in ``chosen``, and ``warn`` reports the others. The first evaluation raises
    ``UserError`` if no set of pairs fits and accuracies are ``compared``.
    """

    def __init__(
        self,
        twin: nn.Module,
        preprocessing: Preprocessing,
        sets: Sequence[EvaluationSet],
        seconds: float | None = None,
        chosen: Path | None = None,
        warn: Callable[[Notice], None] = lambda notice: None,
        compared: bool = False,
    ) -> None:
        self._compared = compared
        self._embedder = TorchEmbedder(twin, preprocessing, "in training")
        self._sets, self._seconds = list(sets), seconds
        self._chosen, self._warn = chosen, warn

    def __call__(
        self, weights: Mapping[str, Tensor], progress: Progress
    ) -> dict[str | Measure, float]:
        self._embedder.module.load_state_dict(_of_first_rank(weights))
        if (seconds := self._seconds) is not None:
            names = distributed.on_first_rank(lambda: self._fitting(seconds))
            self._sets = [each for each in self._sets if each.name in names]
            self._seconds = None
        share = Share(rank(), world_size(), distributed.on_all_ranks)
        answers = NetworkFeatures(self._embedder, share=share)
        reports: dict[str, Any] = {}
        try:
            for each in self._sets:
                reports.update(_report(answers, each, progress))
        except UnusableEmbeddingsError:
            return {}
        pairs = {name: each for name, each in reports.items() if each["kind"] == "pairs"}
        found: dict[str | Measure, float] = {}
        found.update(accuracies({"sets": pairs}))
        return {**found, **_others(reports)}

    def _fitting(self, seconds: float) -> list[str]:
        names = None if self._chosen is None else _kept_names(self._chosen)
        if names is None:
            names = self._measure(seconds)
            self._check_compared(names, seconds)
            if self._chosen is not None:
                with atomic_file(self._chosen) as file:
                    file.write(json.dumps(names).encode())
        for each in self._sets:
            if each.name not in names:
                self._warn(
                    Notice(
                        f"at intervals: {each.name}",
                        f"{each.name} is not scored at intervals: with the sets before it, it "
                        f"would take more than evaluate.seconds = {seconds:g}",
                    )
                )
        return names

    def _check_compared(self, names: list[str], seconds: float) -> None:
        pairs = [each for each in self._sets if isinstance(each, VerificationPairs)]
        if self._compared and not any(each.name in names for each in pairs):
            raise UserError(
                f"no set of pairs can be scored within evaluate.seconds = {seconds:g}, and "
                'train.keep = "best" compares by their accuracy; raise evaluate.seconds, or keep '
                "the last weights"
            )

    def _measure(self, seconds: float) -> list[str]:
        """The sets that fit, from the measured time per image."""
        each_image = mirrored_seconds(self._embedder) / world_size()
        names, taken = [], 0.0
        for each in self._sets:
            takes = each_image * distinct_images(each)
            if taken + takes <= seconds:
                names.append(each.name)
                taken += takes
        return names


def _of_first_rank(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rank 0's weights; unsynchronised batch normalisation statistics differ between ranks."""
    if world_size() == 1:
        return weights
    return distributed.from_first_rank({name: each.cpu() for name, each in weights.items()})


def _report(answers: NetworkFeatures, each: EvaluationSet, progress: Progress) -> Mapping[str, Any]:
    """The report of one set, on every rank."""
    embedded = answers.embedded(each, progress)
    held = HeldFeatures(embedded, answers)
    return distributed.on_first_rank(lambda: evaluate(held, [each], intervals=False)["sets"])


def _kept_names(path: Path) -> list[str] | None:
    """The sets selected earlier; None if there is no selection yet, or it is damaged."""
    try:
        names = read_json(path)
    except UserError:
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _others(reports: Mapping[str, Any]) -> dict[str | Measure, float]:
    """For image sets, TAR at the lowest measurable FAR, and rank 1."""
    found: dict[str | Measure, float] = {}
    for name, report in reports.items():
        if report["kind"] == "pairs":
            continue
        tars = [each["tar"] for each in report.get("tar_at_far", {}).values()]
        measured = [tar for tar in tars if tar is not None]
        if measured:
            found[Measure("tar", name)] = measured[-1]
        searched = report.get("galleries", {}).get("all", report)
        ranks = searched.get("closed_set", {}).get("ranks", {})
        if "1" in ranks:
            found[Measure("rank1", name)] = ranks["1"]["rate"]
    return found


def accuracies(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The accuracy on each pair set; empty if one has no accuracy.

    Otherwise a mean over some of the sets would be compared with means over all.
    """
    found = {name: report["accuracy"] for name, report in evaluation["sets"].items()}
    return {} if None in found.values() else found
