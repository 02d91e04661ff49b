"""A network as one ONNX file: float32 ``image`` [N, 3, H, W] to ``embedding`` [N, D], any N.

Normalisation, parallel branches and shortcuts are folded into the convolutions first; see
`teachers.folding` for the exceptions.
"""

from pathlib import Path
from typing import ClassVar

from curation.errors import UserError
from distill.export.exported_network import Embed
from distill.export.exporter import Exporter, exporter
from distill.export.quantisation import file_content
from distill.export.source import INPUT_NAME, OUTPUT_NAME, ExportSource
from teachers.embedder import Embedder
from teachers.foreign import OnnxEmbedder
from teachers.onnx_files import read_onnx
from teachers.onnxruntime_sessions import open_session, run_session
from teachers.preprocessing import Preprocessing


@exporter("onnx")
class OnnxExporter(Exporter):
    """``model.onnx``, from torch's exporter."""

    card = "`model.onnx` is the same network for any ONNX runtime; its output is not normalised."
    file: ClassVar[str] = "model.onnx"

    def export(self, folder: Path, source: ExportSource) -> None:
        (folder / self.file).write_bytes(file_content(source.onnx))

    def run(self, folder: Path) -> Embed:
        return onnx_runner(folder / self.file, self.threads(), INPUT_NAME, OUTPUT_NAME)

    def embedder(self, folder: Path, preprocessing: Preprocessing) -> Embedder:
        """Runs on the GPU if onnxruntime has one, and only after a trial in a confined process."""
        return with_names(OnnxEmbedder(folder / self.file, preprocessing), INPUT_NAME, OUTPUT_NAME)


def with_names(network: OnnxEmbedder, given: str, wanted: str) -> OnnxEmbedder:
    """The network itself; ``UserError`` unless its input and output have these names."""
    if network.names != (given, wanted):
        raise UserError(
            f"{network.path}: its input and output are {network.names}; those of a bundle are "
            f"{(given, wanted)}, so do not use it"
        )
    return network


def onnx_runner(path: Path, threads: int, given: str, wanted: str) -> Embed:
    """A function from the values of the input ``given`` to those of the output ``wanted``.

    Reads nothing outside the bundle, like `read_onnx`. It and the function raise ``UserError`` for
    a graph that cannot be loaded or run, the function ``MemoryError`` for one that is too large.
    """
    session = open_session(read_onnx(path)[0], path, threads)
    return lambda values: run_session(session, path, [wanted], {given: values})[0]
