"""Images with their embeddings, and the interface through which curation gets them.

Curation does not depend on networks: ``distill`` provides an ``ImageSetEmbedder``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.image_set import ImageSet
from curation.neighbours import normalised
from curation.progress import Progress


class Rows(Protocol):
    """Anything that can be indexed by rows like an array."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class EmbeddedImages:
    """N images of K identities with their unit embeddings, which are read on demand.

    ``unit`` may be a memory-mapped cache of a whole store: ``[M, D]``, or ``[M, 2, D]`` for images
    embedded both upright and mirrored, which are summed. ``norm`` ``[M]`` or ``[M, 2]`` has the
    norms of the embeddings. ``rows`` has the row of each image in them.
    """

    labels: np.ndarray
    """int ``[N]``, ascending from 0 without gaps"""
    unit: "np.ndarray | Rows"
    norm: "np.ndarray | Rows"
    rows: np.ndarray
    """int64 ``[N]``"""
    offsets: np.ndarray = field(init=False)
    """int64 ``[K + 1]``: identity k has the images offsets[k] to offsets[k+1] - 1"""

    def __post_init__(self) -> None:
        identities = int(self.labels[-1]) + 1
        offsets = np.searchsorted(self.labels, np.arange(identities + 1)).astype(np.int64)
        object.__setattr__(self, "offsets", offsets)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def identities(self) -> int:
        return len(self.offsets) - 1

    @property
    def dimension(self) -> int:
        return self.unit.shape[-1]

    @property
    def sizes(self) -> np.ndarray:
        """int64 ``[K]``: the number of images of each identity."""
        return np.diff(self.offsets)

    def images_of(self, identity: int) -> slice:
        """The images of one identity."""
        return slice(int(self.offsets[identity]), int(self.offsets[identity + 1]))

    def vectors(self, images: slice | np.ndarray) -> np.ndarray:
        """Unit vectors float32 ``[n, D]`` of these images."""
        taken = np.asarray(self.unit[self.rows[images]], np.float32)
        return normalised(taken.sum(axis=1) if taken.ndim == 3 else taken)

    def lengths(self) -> np.ndarray:
        """float32 ``[N]``: the norms of the embeddings before normalisation, averaged over
        mirroring.

        They indicate quality: networks trained with a margin on unit vectors give bad images short
        embeddings.
        """
        taken = np.asarray(self.norm[self.rows], np.float32)
        return taken.mean(axis=1) if taken.ndim == 2 else taken


@dataclass(frozen=True)
class EvaluationImages:
    """The images of an evaluation set, embedded by the same teacher."""

    name: str
    vectors: np.ndarray
    """float32 ``[P, D]``, unit"""
    digest: str = ""
    """Identifies the set in findings"""
    same: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """bool ``[P / 2]``: whether vectors 2i and 2i + 1 show one person, for the labelled pairs"""

    def genuine_cosines(self) -> np.ndarray:
        """float32 ``[n]``: the cosines of the genuine pairs."""
        left, right = (self.vectors[side : 2 * len(self.same) : 2][self.same] for side in (0, 1))
        return (left * right).sum(axis=1)


class TeacherChoice(BaseModel):
    """A teacher's name, and settings that its file lacks: its input pixels, and the network of bare
    weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    """An .onnx file, a file of weights, a bundle, a finished job, or "drawn-faces" """
    backbone: str | None = None
    colour: Literal["RGB", "BGR"] | None = None
    mean: float | None = Field(default=None, ge=-65_536, le=65_536)
    std: float | None = Field(default=None, gt=0, le=65_536)
    part: str | None = None
    """The network's part of a file of weights, or the output of an .onnx file with several"""
    size: int = Field(default=112, ge=1, le=4096)
    least_accuracy: float | None = Field(default=None, ge=0, lt=1)
    """Minimum accuracy on a few hundred pairs; None for the default, 0 to accept any"""

    @property
    def file_settings(self) -> list[str]:
        """The settings that differ from their defaults and apply to files, not to bundles."""
        keys = {"backbone", "part", "colour", "mean", "std", "size"}
        return [key for key in self.model_dump(exclude_defaults=True) if key in keys]


class ImageSetEmbedder(Protocol):
    """A teacher that embeds sets of images."""

    def embed(self, images: ImageSet, progress: Progress | None) -> tuple[EmbeddedImages, str]:
        """The images with their embeddings, computed where missing, and the embeddings' digest."""
        ...

    def embed_evaluation(
        self, paths: Sequence[Path], progress: Progress | None
    ) -> list[EvaluationImages]:
        """The images of verification sets ``*.bin``, embedded."""
        ...
