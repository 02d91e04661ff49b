"""A network for ncnn in int8: ``model.int8.ncnn.param`` and ``model.int8.ncnn.bin``.

Layers compute in int8, with inputs symmetric about 0; see `distill.export.ncnn_files`.
"""

import hashlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from curation.files import file_digest
from distill.export.exported_network import Embed
from distill.export.exporter import exporter
from distill.export.format_process import FormatProcess
from distill.export.formats.ncnn import NcnnExporter
from distill.export.golden import INT8_COSINE
from distill.export.int8 import check_bytes, check_written, through_the_gate
from distill.export.quantisation import layers, weight_rows
from distill.export.source import ExportSource

FLOAT_SHARES = (0, 1 / 12, 1 / 6)
"""Shares of the layers that stay in float32, tried in order as far as the size limit allows"""


@exporter("ncnn-int8")
class NcnnInt8Exporter(NcnnExporter):
    """Converts the equalised network with pnnx, and then its weights to int8."""

    card = (
        "`model.int8.ncnn.param` and `model.int8.ncnn.bin` are the network in int8 for ncnn: input "
        "`in0`, output `out0`, both float32."
    )
    files = ("model.int8.ncnn.param", "model.int8.ncnn.bin")
    minimum_cosine = INT8_COSINE
    calibrated = True

    def start(self, folder: Path) -> Embed:
        """See `Exporter.start`; equal files have equal digests, so each set is embedded once."""
        found = FormatProcess(self.name, folder)
        digests = [file_digest(folder / name) for name in self.files]
        found.digest = hashlib.sha256(f"{self.name} {digests}".encode()).hexdigest()
        return found

    def export(self, folder: Path, source: ExportSource) -> None:
        with TemporaryDirectory() as scratch:
            whole, tries = Path(scratch) / "whole", Path(scratch) / "tries"
            whole.mkdir()
            tries.mkdir()
            self.convert(whole, source.traced(source.equalised), source.size)

            def build(kept: list[str]) -> tuple[Path, Embed]:
                made = tries / str(len(kept))
                shutil.copytree(whole, made)
                self._quantise(made, source, kept)
                return made, self.start(made)

            made = through_the_gate(self.name, source, build, FLOAT_SHARES)
            for name in self.files:
                shutil.move(made / name, folder / name)

    def _quantise(self, folder: Path, source: ExportSource, kept: list[str]) -> None:
        from distill.export.ncnn_files import write_int8

        given = source.calibrated
        arrays = {each.name: each for each in given.model.graph.initializer}
        inputs = {
            weight_rows(node, arrays[node.input[1]]).tobytes(): given.ranges[node.input[0]].largest
            for node in layers(given.model)
            if node.name not in kept
        }
        graph, weights = (folder / name for name in self.files)
        before = weights.stat().st_size
        write_int8(graph, weights, inputs)
        check_bytes(weights.stat().st_size, before)

    def check(self, written: Path, bundle: Path, source: ExportSource) -> None:
        check_written(self, written, bundle, source)
