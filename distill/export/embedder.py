"""Reads bundles: a working embedder in one line, without torch.

A bundle is untrusted: its checksums are verified before anything is read, its JSON is validated
strictly, and its network is an ONNX graph or plain tensors, never code.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import UserError
from curation.files import read_whole
from curation.images import MAX_FILE_BYTES, decode
from curation.suggestions import hint
from distill.export.bundle_files import WEIGHTS_NAME, check_bundle
from distill.export.config import BundleConfig
from distill.export.exporter import exporters
from distill.export.golden import EMBEDDINGS, MINIMUM_COSINE, check_golden
from teachers.embedder import Embedder, embed_mirrored, normalise
from teachers.framing import shows_all

if TYPE_CHECKING:
    import torch

TORCH, ONNX = "torch", "onnx"
Image = np.ndarray | bytes | str | Path
BATCH = 64


class BundleEmbedder:
    """A student from its bundle: ``BundleEmbedder(path).embed(images)``.

    ``config`` and ``thresholds`` are read from the bundle. ``network`` is the plain `Embedder`
    without the mirror rule, or with it for a format that gives features. ``runtime`` is one of
    ``runtimes_of(config)``; the default is "onnx", which does not need torch, if the bundle has it,
    otherwise "torch". Raises `UserError` for a folder that is not a bundle or was changed.
    """

    def __init__(self, path: Path | str, runtime: str | None = None) -> None:
        self.path = Path(path)
        self.config, self.thresholds = check_bundle(self.path)
        runtimes = runtimes_of(self.config)
        runtime = runtime or (ONNX if ONNX in runtimes else TORCH)
        if runtime not in runtimes:
            raise UserError(f"{self.path}: no runtime {runtime!r}{hint(runtime, runtimes)}")
        self.network = _open(self.path, runtime, self.config)
        self._runtime = runtime
        format = None if runtime == TORCH else exporters()[runtime]
        self._least = MINIMUM_COSINE if format is None else format.minimum_cosine
        self._golden = EMBEDDINGS if format is None else format.golden
        self._gives_features = format is not None and format.gives_features
        if self.network.embedding != self.config.num_features:
            raise UserError(
                f"{self.path}: the network in {runtime} gives {self.network.embedding} "
                f"dimensions, config.json says {self.config.num_features}; do not use the bundle"
            )

    def embed(self, images: np.ndarray | Sequence[Image], aligned: bool = False) -> np.ndarray:
        """Unit features, float32 ``[B, D]``, by the bundle's own mirror rule.

        ``images`` are aligned faces: uint8 RGB ``[B, H, W, 3]`` or ``[H, W, 3]``, or a list of such
        arrays, paths or bytes of image files. They must have the size of the training faces or of
        the network's input. With ``aligned``, any size is accepted; the caller asserts that they
        are aligned to the template. They are cropped and scaled as stated in config.json. Raises
        `UserError` for an image that cannot be decoded or has another size, because the embedding
        of an unaligned photograph does not identify anybody.
        """
        if isinstance(images, np.ndarray):
            images = images[None] if images.ndim == 3 else images
        parts = [self._feature(batch) for batch in self._batches(images, aligned)]
        features = (
            np.concatenate(parts) if parts else np.empty((0, self.network.embedding), np.float32)
        )
        if broken := np.flatnonzero(~(np.linalg.norm(features, axis=1) > 0.5)).tolist():
            raise UserError(
                f"{self.path}: its network's embedding of image {broken[0]} is zero or not finite "
                f"({len(broken)} of {len(features)} are); export it again"
            )
        return features

    def similarity(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Cosines of unit features ``[A, D]`` and ``[B, D]``: float32 ``[A, B]``."""
        return left @ right.T

    def check_golden(self) -> float:
        """The lowest cosine with the golden embeddings.

        Raises `UserError` if it is below the minimum of the format, 0.9999 for float32.
        """
        return check_golden(self.path, self.network, self._runtime, self._least, self._golden)

    def check_framed(self) -> None:
        """Raise `UserError` if the network may have been trained on squeezed images."""
        height, width = self.config.face.preprocessing.size
        if self.config.face.framing is None and height != width:
            raise UserError(
                f"{self.path}: it was exported when images of another aspect were squeezed, and "
                f"takes only images of {height}x{width}; train and export the network again"
            )

    def _feature(self, batch: np.ndarray) -> np.ndarray:
        if self._gives_features:
            return self.network.embed(batch)
        if self.config.face.mirror == "sum":
            return embed_mirrored(self.network, batch)
        return normalise(self.network.embed(batch))

    def _batches(self, images: np.ndarray | Sequence[Image], aligned: bool) -> Iterator[np.ndarray]:
        """Batches of resized images; decodes one batch at a time."""
        for start in range(0, len(images), BATCH):
            part = [self._pixels(image, aligned) for image in images[start : start + BATCH]]
            yield np.concatenate(part)

    def _pixels(self, image: Image, aligned: bool) -> np.ndarray:
        """One image of any accepted type as uint8 ``[1, *size, 3]``."""
        pixels, what = _decoded(image)
        self.check_size((pixels.shape[0], pixels.shape[1]), what, aligned)
        return self.config.face.preprocessing.resize(pixels[None])

    def check_size(self, size: tuple[int, int], what: str, aligned: bool = False) -> None:
        """Raise `UserError` if an image of this (height, width) is not accepted."""
        face = self.config.face
        fitting = {face.image_size, face.preprocessing.size}
        if size in fitting:
            return
        wanted = " or ".join(f"{height}x{width}" for height, width in sorted(fitting, reverse=True))
        self.check_framed()
        if not aligned:
            raise UserError(
                f"{what} has {size[0]}x{size[1]} pixels, not the {wanted} of the aligned faces "
                "that the network was trained on; cut the face out by the five points in "
                "config.json, or say that it is aligned (--aligned, aligned=True)"
            )
        if not shows_all(size, face.preprocessing.size):
            height, width = face.preprocessing.size
            raise UserError(
                f"{what} has {size[0]}x{size[1]} pixels; even an aligned face must be square, or "
                f"of the aspect of the network's {height}x{width}: it is cropped, never squeezed"
            )


def _decoded(image: Image) -> tuple[np.ndarray, str]:
    """Pixels uint8 ``[H, W, 3]``, and the name of the image for messages."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(
                f"image is {image.dtype} {list(image.shape)}; expected uint8 RGB [H, W, 3]"
            )
        return image, "image"
    if isinstance(image, bytes):
        return decode(image), "image"
    return decode(read_whole(Path(image), MAX_FILE_BYTES), str(image)), str(image)


def runtimes_of(config: BundleConfig) -> list[str]:
    """The runtimes of a bundle: torch, and those of its formats that have an exporter."""
    known = exporters()
    return [*(name for name in config.formats if name in known), TORCH]


def _open(path: Path, runtime: str, config: BundleConfig) -> Embedder:
    if runtime != TORCH:
        return exporters()[runtime].embedder(path, config.face.preprocessing)
    from teachers.embedder import TorchEmbedder, module_digest
    from teachers.folding import fold

    module = _trained(path, config)
    return TorchEmbedder(fold(module), config.face.preprocessing, module_digest(module))


def open_bundle_network(path: Path) -> tuple[BundleConfig, "torch.nn.Module"]:
    """The config of a bundle, and its network with weights, for further training.

    Raises the errors of `BundleEmbedder`.
    """
    config = check_bundle(path).config
    return config, _trained(path, config)


def _trained(path: Path, config: BundleConfig) -> "torch.nn.Module":
    from distill.backbones import NETWORKS
    from distill.export.safe_tensors import load_weights

    module = unweighted_network(config)
    if config.architecture not in NETWORKS:
        # timm's networks compute buffers when they are built, which takes memory for all weights.
        _check_size(path / WEIGHTS_NAME, config.architecture, module)
        module = unweighted_network(config, "cpu")
    load_weights(path / WEIGHTS_NAME, module)
    return module


def unweighted_network(config: BundleConfig, device: str = "meta") -> "torch.nn.Module":
    """The network without its weights.

    On the meta device, it takes no memory, whatever size an untrusted config states.
    """
    import torch

    from distill.backbones import create

    size = config.face.preprocessing.size
    with torch.device(device):
        return create(config.architecture, config.num_features, size, config.width)


def _check_size(weights: Path, architecture: str, module: "torch.nn.Module") -> None:
    """Raise ``UserError`` if the file is too small for the weights of the ``module``."""
    there = weights.stat().st_size
    wanted = sum(each.numel() * each.element_size() for each in module.state_dict().values())
    if there < wanted:
        raise UserError(
            f"{weights}: weights of another network ({there:,} bytes; those of {architecture!r} "
            f"have {wanted:,})"
        )
