"""The steps after a training: evaluate a network, export it as a bundle."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from curation.pairs import VerificationPairs
from curation.progress import Progress
from curation.views import ImageSet
from distill.evaluation.bootstrap import DRAWS
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.measurable import why_no_accuracy
from distill.evaluation.paired import drawn_mean_accuracies
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.set_features import NetworkFeatures, open_sets
from distill.evaluation.set_source import SetSource
from distill.export.bundle import export_bundle
from distill.export.bundle_files import check_bundle
from distill.export.calibration import Calibration
from distill.export.config import BundleConfig, FaceConfig, Framing
from distill.export.exporter import DEFAULT_FORMATS
from distill.export.format_scores import left_out
from distill.export.remeasured import read_object
from distill.pipeline.architecture import Architecture
from distill.pipeline.int8_judge import gate_on
from distill.pipeline.steps import StepOutcome, StepStore
from distill.pipeline.training import TrainedNetwork
from teachers.embedder import Embedder
from teachers.framing import crops


def evaluate_network(
    embedder: Embedder,
    sets: Sequence[SetSource],
    steps: StepStore,
    progress: Progress,
    kept: Path,
    protocols: Sequence[str] = (),
) -> StepOutcome:
    """The scores of ``embedder`` on pair sets or image sets, and on protocols, named NAME:FOLDER;
    stores its embeddings in the folder ``kept``."""
    scored = open_sets(sets, protocols)
    opened = [each for each in scored if not isinstance(each, ProtocolSet)]
    inputs = {
        "network": embedder.digest,
        "preprocessing": embedder.preprocessing.digest,
        "sets": {each.name: each.digest for each in scored},
        **_unmeasured(opened),
        **_cropped(embedder, opened),
    }
    answers = NetworkFeatures(embedder, kept)
    return steps.perform("evaluate", inputs, lambda folder: evaluate(answers, scored, progress))


def draw_scores(
    embedder: Embedder,
    sets: Sequence[SetSource],
    steps: StepStore,
    progress: Progress,
    kept: Path,
) -> list[float]:
    """The mean accuracy of ``embedder`` on these pair sets in each bootstrap sample of people.

    See `distill.evaluation.paired.drawn_mean_accuracies`. Reuses the embeddings that
    `evaluate_network` stored in ``kept``.
    """
    opened = [each for each in open_sets(sets) if isinstance(each, VerificationPairs)]
    inputs = {
        "network": embedder.digest,
        "preprocessing": embedder.preprocessing.digest,
        "sets": [each.digest for each in opened],
        "draws": DRAWS,
    }

    def work(folder: Path) -> dict[str, Any]:
        answers = NetworkFeatures(embedder, kept)
        features = [answers.features(each, progress) for each in opened]
        return {"scores": drawn_mean_accuracies(features, opened).tolist()}

    return steps.perform("draws", inputs, work).result["scores"]


def _cropped(
    embedder: Embedder, sets: Sequence[VerificationPairs | ImageSet]
) -> dict[str, list[str]]:
    """The sets whose images the network crops; earlier versions squeezed them."""
    size = embedder.preprocessing.size
    cropped = [each.name for each in sets if crops(each.image_size, size)]
    return {"cropped": cropped} if cropped else {}


def _unmeasured(sets: Sequence[VerificationPairs | ImageSet]) -> dict[str, Any]:
    """What these sets cannot measure, for the step's identity, because earlier versions did.

    Empty if they can measure everything, so that earlier steps are still found.
    """
    pairs = [each for each in sets if isinstance(each, VerificationPairs)]
    reasons = {each.name: why_no_accuracy(each) for each in pairs}
    unmeasured = {name: reason for name, reason in reasons.items() if reason is not None}
    return {"no_accuracy": unmeasured} if unmeasured else {}


def bundle_config(trained: Architecture, image_size: tuple[int, int]) -> BundleConfig:
    """The bundle configuration of a network trained on images of that size."""
    architecture = trained.unweighted
    preprocessing = architecture.preprocessing
    framing = Framing.of(image_size, preprocessing.size)
    return BundleConfig(
        architecture=architecture.backbone,
        num_features=architecture.embedding,
        width=architecture.width,
        face=FaceConfig(preprocessing=preprocessing, framing=framing),
    )


def export_network(
    name: str,
    trained: TrainedNetwork,
    image_size: tuple[int, int],
    evaluation: dict[str, Any],
    lineage: dict[str, Any],
    origin: dict[str, Any],
    formats: Sequence[str],
    sets: Sequence[SetSource],
    faces: ImageSet,
    steps: StepStore,
) -> StepOutcome:
    """The bundle of a network trained on images of that size, in ``bundle/`` of the step.

    ``origin`` goes into the lineage but is not part of the step's identity: an existing bundle
    keeps the origin of its own job. Each format is scored on ``sets``, unless the only one is the
    default format, which equals the network; int8 is calibrated on ``faces``.
    """
    config = bundle_config(trained.architecture, image_size)
    inputs = {"name": name, "network": trained.id, "evaluation": evaluation, "lineage": lineage}
    if tuple(formats) != DEFAULT_FORMATS:
        # Only then, so that steps done before there were formats are still found.
        inputs["formats"] = list(formats)

    def work(folder: Path) -> dict[str, Any]:
        bundle = folder / "bundle"
        facts, module = {**lineage, **origin}, trained.load()
        given = (module, config, evaluation, facts, name, formats)
        if "formats" not in inputs:
            export_bundle(bundle, *given)
        else:
            with TemporaryDirectory(dir=folder) as kept:
                gate = gate_on(open_sets(sets), kept=Path(kept))
                score = partial(_scores_on, sets, Path(kept))
                export_bundle(bundle, *given, score, Calibration(faces, gate))
        scores = read_object(bundle / "evaluation.json").get("formats", {})
        return {
            "files": {path.name: path.stat().st_size for path in sorted(bundle.iterdir())},
            "left_out": left_out(scores, check_bundle(bundle).config.formats),
        }

    return steps.perform("export", inputs, work)


def _scores_on(sets: Sequence[SetSource], kept: Path, embedder: Embedder) -> dict[str, Any]:
    """The report of each set; see ``distill.evaluation.evaluate_sets.evaluate``."""
    return evaluate(NetworkFeatures(embedder, kept), open_sets(sets))["sets"]
