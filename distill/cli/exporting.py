"""`distill export`: adds formats to an existing bundle."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli.bars import watch
from distill.cli.bundles import BundleArgument, is_of_job, write_changed
from distill.cli.common import NETWORKS, JsonOption, WorkspaceOption, print_json
from distill.cli.reports import print_table
from distill.cli.scored import open_set
from distill.cli.screen import note, say

if TYPE_CHECKING:
    from distill.evaluation.set_features import EvaluationSet
    from distill.export.format_scores import Score
    from teachers.embedder import Embedder


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=NETWORKS)(export)


def export(
    bundle: BundleArgument,
    to: Annotated[
        str, typer.Option(metavar="FORMAT,...", help="Formats to add.", show_default=False)
    ],
    evaluate: Annotated[
        list[str] | None,
        typer.Option(
            "--evaluate", metavar="SET", help="Score each new format on this set; repeat for more."
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="Calibrate int8 formats on this set: at least 500 faces that resemble the "
            "training data.",
        ),
    ] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Add formats to a bundle. Each file is run and compared with the network.

    The bundle is replaced as a whole, with new checksums, once all files are written. Formats that
    it already has are kept. After an interruption, the same command reuses the embeddings of
    evaluation sets.

    Example: distill export workspace/bundles/sample --to ncnn,openvino --evaluate ms1m/lfw

    Example: distill export workspace/bundles/sample --to onnx-int8 --calibrate ms1m/train
    --evaluate ms1m/test
    """
    from curation.errors import UserError
    from curation.views import open_images
    from curation.workspace import Workspace
    from distill.cli.curate.places import locate
    from distill.evaluation.set_features import FEATURES
    from distill.export.bundle_files import check_bundle
    from distill.export.calibration import Calibration
    from distill.export.exporter import check_formats
    from distill.export.more_formats import add_formats
    from distill.export.remeasured import check_describable
    from distill.pipeline.int8_judge import gate_on

    names = check_formats(to)
    if is_of_job(bundle):
        raise UserError(
            f"{bundle} belongs to a job, which must not change; run `distill pull JOB` and export "
            f"the pulled bundle"
        )
    place = Workspace.locate(workspace)
    opened = [open_set(name, place) for name in evaluate or []]
    faces = None if calibrate is None else open_images(locate(calibrate, place))
    has = check_bundle(bundle).config.formats
    if lacking := [name for name in names if name not in has]:
        check_describable(bundle)
        began = time.monotonic()
        kept = place.cache / FEATURES
        score = _scoring(opened, kept)
        given = None if faces is None else Calibration(faces, gate_on(opened, watch, kept))
        write_changed(bundle, bundle, lambda copy: add_formats(copy, lacking, score, given))
        seconds = time.monotonic() - began
    config = check_bundle(bundle).config
    sizes = {
        name: sum((bundle / file).stat().st_size for file in config.formats[name]) for name in names
    }
    if json:
        files = {name: config.formats[name] for name in names}
        print_json({"bundle": str(bundle), "added": lacking, "files": files, "bytes": sizes})
        return
    for name in names:
        if name in has:
            note(f"{name} is already there")
    rows = [(name, " ".join(config.formats[name][:2]), f"{sizes[name]:,}") for name in names]
    print_table(["format", "files", "bytes"], rows, numbers=["bytes"])
    if lacking:
        say(f"{bundle}: {len(lacking)} added in {seconds:.0f} s, each compared with the network")


def _scoring(sets: "list[EvaluationSet]", kept: Path) -> "Score | None":
    """A function that scores an embedder on the sets; None without sets."""
    if not sets:
        return None

    def score(embedder: "Embedder") -> Mapping[str, Any]:
        from distill.evaluation.evaluate_sets import evaluate
        from distill.evaluation.set_features import NetworkFeatures

        with watch("evaluate", "images") as progress:
            return evaluate(NetworkFeatures(embedder, kept), sets, progress)["sets"]

    return score
