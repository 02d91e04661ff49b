"""A network for Core ML: ``model.mlpackage``, an ML program in float32 for one image.

Core ML runs only on Apple's systems, so the only check is that the weights in the package equal
those of the network.
"""

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from curation.errors import UserError
from distill.export.exported_network import Embed
from distill.export.exporter import Exporter, exporter
from distill.export.source import INPUT_NAME, OUTPUT_NAME, ExportSource, quiet

FOLDER = "model.mlpackage"
PROGRAM = "com.apple.CoreML/model.mlmodel"
CHANGED_BY_FUSION = ("common::prelu_to_lrelu",)
"""Disabled passes: they transform parameters, which could then not be compared."""


@exporter("coreml")
class CoreMlExporter(Exporter):
    """Converts the folded network with coremltools."""

    card = (
        "`model.mlpackage` is the same network for Core ML (iOS 15, macOS 12 or later): input "
        "`image` [1, 3, H, W], output `embedding`. Its weights were compared with the network's; "
        "it was not run where it was exported."
    )
    extra = "coreml"
    writes_with = ("coremltools",)
    why_not_here = (
        "not run on this system: Core ML runs only on Apple's; its weights were compared when it "
        "was exported"
    )

    def export(self, folder: Path, source: ExportSource) -> None:
        with quiet(), redirect_stderr(StringIO()):
            import coremltools

            passes = coremltools.PassPipeline.DEFAULT
            passes.remove_passes(set(CHANGED_BY_FUSION))
            try:
                model = coremltools.convert(
                    source.traced(source.folded),
                    inputs=[coremltools.TensorType(INPUT_NAME, (1, 3, *source.size))],
                    outputs=[coremltools.TensorType(OUTPUT_NAME)],
                    convert_to="mlprogram",
                    compute_precision=coremltools.precision.FLOAT32,
                    minimum_deployment_target=coremltools.target.iOS15,
                    pass_pipeline=passes,
                    skip_model_load=True,
                )
            except Exception as error:  # the converter raises errors of any type
                raise UserError(
                    f"coremltools cannot convert the network ({type(error).__name__}: "
                    f"{first_line(error)}); leave coreml out of the formats"
                ) from error
            # The metadata has the date and versions, but exports must be reproducible.
            model.user_defined_metadata.clear()
            model.save(str(folder / FOLDER))
        _name_by_place(folder / FOLDER / "Manifest.json")

    def check(self, written: Path, bundle: Path, source: ExportSource) -> None:
        """Compare every weight. The golden outputs cannot be checked without a runtime."""
        with quiet(), redirect_stderr(StringIO()):
            import coremltools

            model = coremltools.models.MLModel(str(written / FOLDER), skip_model_load=True)
            read = coremltools.optimize.coreml.get_weights_metadata(model, weight_threshold=1)
        check_weights(source, [each.val for each in read.values()])

    def run(self, folder: Path) -> Embed:
        raise UserError(f"{folder / FOLDER}: {self.why_not_here}")


def check_weights(source: ExportSource, found: list[np.ndarray]) -> None:
    """Raise ``UserError`` unless ``found`` contains each weight of the folded network.

    Compares numbers and their order, but not names or shapes.
    """
    contents = {_content(each) for each in found}
    weights = source.folded.state_dict().items()
    lost = [
        name
        for name, weight in weights
        if weight.is_floating_point() and _content(weight.numpy()) not in contents
    ]
    if lost:
        raise UserError(
            f"the coreml export has other weights than the network: {', '.join(lost[:3])}"
            f"{f' and {len(lost) - 3} more' if len(lost) > 3 else ''} are not in it; leave coreml "
            "out of the formats"
        )


def _content(weight: np.ndarray) -> bytes:
    return np.ascontiguousarray(weight, np.float32).tobytes()


def _name_by_place(manifest: Path) -> None:
    """Replace the random names of a package's parts by names derived from their paths."""
    content = json.loads(manifest.read_text())
    entries = content["itemInfoEntries"].values()
    parts = {str(uuid5(NAMESPACE_URL, each["path"])): each for each in entries}
    root = str(uuid5(NAMESPACE_URL, PROGRAM))
    assert root in parts, "coremltools names its program otherwise"
    content |= {"itemInfoEntries": dict(sorted(parts.items())), "rootModelIdentifier": root}
    manifest.write_text(json.dumps(content, indent=4) + "\n")


def first_line(error: Exception) -> str:
    """The first line of an exception's message, at most 200 characters."""
    return (str(error).strip().splitlines() or ["it printed nothing"])[0][:200]
