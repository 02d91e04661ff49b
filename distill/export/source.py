"""A trained network for exporters; caches the intermediate results that several of them need."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from curation.errors import UserError
from distill.export.calibrated_graph import Calibrated, calibrated
from distill.export.calibration import Calibration
from distill.export.config import MirrorRule, Thresholds
from distill.export.exported_network import Embed, ExportedNetwork
from distill.export.int8_gate import Judge
from distill.export.quantisation import RunningGraph
from teachers.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import torch

OPSET = 20
INPUT_NAME = "image"
OUTPUT_NAME = "embedding"


class ExportSource:
    """A ``network`` in evaluation mode on the CPU, with its inputs; exporters must not modify it.

    The network's input is float32 [N, 3, H, W], with the height and width of ``preprocessing``.
    int8 formats use ``calibration``; ``mirror`` is the mirror rule, ``thresholds`` those of the
    bundle. Exporters write details for the bundle's evaluation to ``details``, by format, and the
    networks that passed the int8 gate to ``judged``.
    """

    def __init__(
        self,
        network: "torch.nn.Module",
        preprocessing: Preprocessing,
        calibration: Calibration | None = None,
        mirror: MirrorRule = "sum",
        thresholds: Thresholds | None = None,
    ) -> None:
        self.network, self.preprocessing = network, preprocessing
        self.size, self.calibration, self.mirror = preprocessing.size, calibration, mirror
        self.thresholds = thresholds
        self.details: dict[str, dict[str, Any]] = {}
        self.judged: dict[str, Embed] = {}

    @cached_property
    def folded(self) -> "torch.nn.Module":
        """The network with fewer layers: see `teachers.folding.fold`."""
        import torch

        from distill.export.rewriting import for_converters
        from teachers.folding import fold

        # Converters need contiguous weights; embedders on the CPU use another memory format.
        return fold(for_converters(self.network)).to(memory_format=torch.contiguous_format)

    @cached_property
    def program(self) -> "torch.export.ExportedProgram":
        """The folded network as an exported program, for one image."""
        import torch

        with quiet():
            return torch.export.export(self.folded, (torch.zeros(1, 3, *self.size),))

    @cached_property
    def calibration_pixels(self) -> "np.ndarray":
        """See `Calibration.pixels`. Raises ``UserError`` without a calibration."""
        return self._calibrated_by.pixels(self.preprocessing)

    @cached_property
    def calibrated(self) -> Calibrated:
        """The equalised network as ONNX; see `distill.export.calibrated_graph`."""
        return calibrated(self.onnx, self.calibration_pixels)

    @cached_property
    def equalised(self) -> "torch.nn.Module":
        """The folded network with the weights of ``calibrated``."""
        from distill.export.equalisation import with_weights_of

        return with_weights_of(self.folded, self.onnx, self.calibrated.model)

    @cached_property
    def judge(self) -> Judge:
        """Measures the losses of other networks against this one. ``UserError`` without a gate."""
        gate = self._calibrated_by.gate
        assert gate is not None
        return gate(ExportedNetwork(RunningGraph(self.onnx), self.preprocessing))

    @property
    def _calibrated_by(self) -> Calibration:
        if self.calibration is None or self.calibration.gate is None:
            raise UserError(
                "formats in int8 are calibrated on faces and judged on sets: give `--calibrate "
                "SET` with at least 500 faces like those of the training, and `--evaluate SET`"
            )
        return self.calibration

    def traced(self, network: "torch.nn.Module") -> "torch.jit.ScriptModule":
        """A network with this input, such as ``folded``, as TorchScript, for one image."""
        import torch

        with quiet(), torch.no_grad():
            return torch.jit.trace(network, torch.zeros(1, 3, *self.size))

    @cached_property
    def onnx(self) -> "onnx.ModelProto":
        """The folded network as ONNX, for any number of images."""
        import torch

        # torch would specialise on a batch size of one.
        example = torch.zeros(2, 3, *self.size)
        program = torch.onnx.export(
            self.folded,
            (example,),
            dynamo=True,
            optimize=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
        assert program is not None
        return _without_traces(program.model_proto)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the converters' warnings about deprecations and optional packages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _without_traces(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Drop the stack traces in every node, which contain paths of this machine."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    return model
