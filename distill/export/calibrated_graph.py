"""Prepares a graph for int8: equalises its channels, and measures ranges and sensitivities."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import UserError
from distill.export.equalisation import equalised
from distill.export.quantisation import Range, calibrate, layers, named, sensitivity

if TYPE_CHECKING:
    import onnx

ASKED = 16
"""Faces to measure sensitivity on"""
EQUALISED = 96
"""Faces to measure the ranges of channels on"""
_BATCH = 8


@dataclass(frozen=True)
class Calibrated:
    """An equalised graph with named layers, and the ranges of their inputs.

    ``costs`` is the `sensitivity` of each layer, most sensitive first.
    """

    model: "onnx.ModelProto"
    ranges: dict[str, Range]
    costs: dict[str, float]

    @property
    def names(self) -> list[str]:
        return [node.name for node in layers(self.model)]


def calibrated(model: "onnx.ModelProto", pixels: np.ndarray) -> Calibrated:
    """Equalise and calibrate a graph with normalised ``pixels`` [N, 3, H, W] of faces."""
    model = named(model)
    if not layers(model):
        raise UserError("the network has no layer with constant weights; int8 has nothing to do")
    model = equalised(model, _batches(evenly_spaced(pixels, EQUALISED)))
    ranges = calibrate(model, _batches(pixels))
    costs = sensitivity(model, ranges, evenly_spaced(pixels, ASKED))
    order = sorted(costs, key=lambda name: -costs[name])
    return Calibrated(model, ranges, {name: costs[name] for name in order})


def evenly_spaced(pixels: np.ndarray, count: int) -> np.ndarray:
    """``count`` evenly spaced images."""
    return pixels[:: max(1, len(pixels) // count)][:count]


def _batches(pixels: np.ndarray) -> Iterator[np.ndarray]:
    return (pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH))
