"""Networks as functions from faces to embeddings, independent of the runtime."""

import copy
import hashlib
import os
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from teachers.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

CPU_BATCH = 32
"""Images per batch on the CPU; larger batches exceed its caches and take gigabytes."""


class Embedder(Protocol):
    """A network with its preprocessing.

    ``digest`` (hex) identifies the weights: equal digests give equal embeddings under equal
    preprocessing. ``embedding`` is the width D, ``on_gpu`` tells where it runs. Embedders can be
    pickled; after unpickling in another process they use that process's GPU.
    """

    digest: str
    embedding: int
    preprocessing: Preprocessing
    on_gpu: bool

    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB ``[B, H, W, 3]`` of any size to float32 ``[B, D]``, raw, not normalised."""
        ...


def embed_mirrored(embedder: Embedder, images: np.ndarray) -> np.ndarray:
    """The feature used in comparisons, ``normalise(f(x) + f(mirrored x))``: float32 ``[B, D]``.

    Source: the LFR 2019 and the insightface verification protocols.
    """
    return normalise(sum_mirrored(embedder, images))


def sum_mirrored(embedder: Embedder, images: np.ndarray) -> np.ndarray:
    """``f(x) + f(mirrored x)``, raw, float32 ``[B, D]``."""
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    return embedder.embed(images) + embedder.embed(mirrored)


def normalise(features: np.ndarray) -> np.ndarray:
    """Normalise [..., D] to unit length, float32; zero vectors stay zero."""
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    return (features / np.where(norms == 0, 1, norms)).astype(np.float32)


def embed_both(embedder: Embedder, batch: np.ndarray) -> np.ndarray:
    """Raw embeddings of uint8 RGB [B, H, W, 3], upright and mirrored: float32 [B, 2, D]."""
    mirrored = np.ascontiguousarray(batch[:, :, ::-1])
    return np.stack([embedder.embed(batch), embedder.embed(mirrored)], axis=1)


def unit_and_norm(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Raw [..., D] to unit vectors float16 [..., D] and norms float32 [...]."""
    norm = np.linalg.norm(raw, axis=-1)
    return (raw / norm[..., None]).astype(np.float16), norm.astype(np.float32)


def gpu_number() -> int:
    """This process's GPU on its machine, from the launcher's environment if there are several."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class TorchEmbedder:
    """A torch module in evaluation mode, on the GPU if there is one.

    The module is moved to the device and to channels_last (also the fastest layout on the CPU) and
    stays there. ``digest`` is usually ``module_digest(module)``.
    """

    def __init__(
        self,
        module: "torch.nn.Module",
        preprocessing: Preprocessing,
        digest: str,
        device: "torch.device | str | None" = None,
    ) -> None:
        import torch

        ours = f"cuda:{gpu_number()}" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or ours)
        self.on_gpu = self.device.type == "cuda"
        self.module = module.eval().to(self.device).to(memory_format=torch.channels_last)
        self.preprocessing = preprocessing
        self.digest = digest
        self._mean = torch.tensor(preprocessing.mean, dtype=torch.float32, device=self.device)
        self._std = torch.tensor(preprocessing.std, dtype=torch.float32, device=self.device)
        self.embedding = self.embed(np.zeros((1, *preprocessing.size, 3), np.uint8)).shape[1]

    def __reduce__(self) -> tuple[type["TorchEmbedder"], tuple[Any, ...]]:
        module = copy.deepcopy(self.module).cpu()
        return TorchEmbedder, (module, self.preprocessing, self.digest)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """See `Embedder.embed`; on a GPU the whole batch is processed at once."""
        import torch

        size = len(images) if self.on_gpu else CPU_BATCH
        # Training and evaluation may alternate on one module.
        self.module.eval()
        with torch.inference_mode():
            parts = [
                self.module(self.pixels(images[begin : begin + size])).float().cpu().numpy()
                for begin in range(0, max(len(images), 1), max(size, 1))
            ]
        return np.concatenate(parts)

    def pixels(self, images: np.ndarray) -> "torch.Tensor":
        """The network's input on its device: [B, 3, *size] in channels_last layout.

        Transfers bytes and normalises on the device: a quarter of the transfer of floats.
        """
        import torch

        resized = np.ascontiguousarray(self.preprocessing.resize(images))
        given = torch.tensor(resized).to(self.device)
        ordered = given.flip(-1) if self.preprocessing.colour == "BGR" else given
        return ((ordered.float() - self._mean) / self._std).permute(0, 3, 1, 2)


def module_digest(module: "torch.nn.Module") -> str:
    """SHA-256 (hex) over the state dict: sorted names with dtype, shape and bytes of each."""
    import torch

    sha = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        sha.update(f"{name}|{value.dtype}|{list(value.shape)}|".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()
