"""Who looks: curation takes embeddings as they come, and does not know the networks behind them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from curation.noise.embedded import EmbeddedImages, EvaluationImages
from curation.progress import Progress
from curation.store import ImageSet


class TeacherChoice(BaseModel):
    """A teacher by name, and what a file does not say: what it expects of pixels, and of weights
    alone, which network they belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    """An .onnx file, a file of weights, a bundle, a finished job, or "drawn-faces" """
    backbone: str | None = None
    colour: Literal["RGB", "BGR"] | None = None
    mean: float | None = Field(default=None, allow_inf_nan=False)
    std: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    part: str | None = None
    """Where the network is in a file of weights, or the output of an .onnx file with several"""
    size: int = Field(default=112, ge=1, le=4096)
    least_accuracy: float | None = Field(default=None, ge=0, lt=1)
    """It must tell that share of a few hundred pairs right; None for the usual one, 0 for any."""


class Eyes(Protocol):
    """A teacher that can be asked for embeddings."""

    def see(self, images: ImageSet, progress: Progress | None) -> tuple[EmbeddedImages, str]:
        """The images' embeddings, and the digest they are known by; computed where missing."""
        ...

    def see_evaluation(
        self, paths: Sequence[Path], progress: Progress | None
    ) -> list[EvaluationImages]:
        """The embeddings of verification sets ``*.bin``."""
        ...
