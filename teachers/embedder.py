"""Networks as functions from faces to embeddings, whatever runs them."""

import hashlib
from typing import TYPE_CHECKING, Protocol

import numpy as np

from teachers.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch


class Embedder(Protocol):
    """A network with its preprocessing.

    ``digest`` (hex) stands for the weights: equal digests give equal embeddings under equal
    preprocessing. ``embedding`` is the number of dimensions D.
    """

    digest: str
    embedding: int
    preprocessing: Preprocessing

    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB ``[B, H, W, 3]`` of any size to float32 ``[B, D]``, raw, not normalised."""
        ...


def embed_mirrored(embedder: Embedder, images: np.ndarray) -> np.ndarray:
    """The feature that is compared: ``normalise(f(x) + f(mirrored x))``, float32 ``[B, D]``.

    Source: the LFR 2019 and the insightface verification protocols.
    """
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    return normalise(embedder.embed(images) + embedder.embed(mirrored))


def normalise(features: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32; a row of zeros stays one."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.where(norms == 0, 1, norms)).astype(np.float32)


class TorchEmbedder:
    """A torch module in evaluation mode, on the GPU where there is one.

    The module is moved to the device and to channels_last (the fastest layout on the CPU too),
    and stays there. ``digest`` is usually ``module_digest(module)``.
    """

    def __init__(
        self,
        module: "torch.nn.Module",
        preprocessing: Preprocessing,
        digest: str,
        device: "torch.device | str | None" = None,
    ) -> None:
        import torch

        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.module = module.eval().to(self.device, memory_format=torch.channels_last)
        self.preprocessing = preprocessing
        self.digest = digest
        self.embedding = self._forward(np.zeros((1, 3, *preprocessing.size), np.float32)).shape[1]

    def embed(self, images: np.ndarray) -> np.ndarray:
        """See `Embedder.embed`; the whole batch goes through the network at once."""
        return self._forward(self.preprocessing(images))

    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        # Training and evaluation take turns on one module.
        self.module.eval()
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).to(self.device, memory_format=torch.channels_last)
            return self.module(batch).float().cpu().numpy()


def module_digest(module: "torch.nn.Module") -> str:
    """SHA-256 (hex) over the state dict: sorted names with dtype, shape and bytes of each."""
    import torch

    sha = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        sha.update(f"{name}|{value.dtype}|{list(value.shape)}|".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()
