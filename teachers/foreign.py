"""Teachers from elsewhere: ONNX files, run by onnxruntime under an explicit preprocessing.

An ONNX file is untrusted input: it is refused unless it is one self-contained graph from one
image batch to one batch of embeddings.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from teachers.preprocessing import Preprocessing

GPU_PROVIDER = "CUDAExecutionProvider"
MAXIMUM_BYTES = 2**31  # A protocol buffer cannot be larger.


class OnnxEmbedder:
    """An ONNX network ``[N, 3, H, W] float32 -> [N, D]``, on the GPU where onnxruntime has one.

    ``digest`` is the SHA-256 of the file. A graph with a fixed batch size is run in batches of
    that size. ``$OMP_NUM_THREADS`` bounds the threads, as it does for torch.
    Raises `UserError` for a file that is not such a network or does not fit ``preprocessing``.
    """

    def __init__(self, path: Path | str, preprocessing: Preprocessing) -> None:
        self.path = Path(path)
        self.preprocessing = preprocessing
        content = _read(self.path)
        self.digest = hashlib.sha256(content).hexdigest()
        _refuse_external_data(content, self.path)
        self._session = _session(content, self.path)
        self.on_gpu = self._session.get_providers()[0] == GPU_PROVIDER
        self._input, self._batch = _check_input(self._session, self.path, preprocessing.size)
        self._output = _check_output(self._session, self.path)
        self.embedding = self._probe()

    def __reduce__(self) -> tuple[type["OnnxEmbedder"], tuple[Path, Preprocessing]]:
        return OnnxEmbedder, (self.path, self.preprocessing)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB ``[B, H, W, 3]`` of any size to float32 ``[B, D]``, raw."""
        return self.run(self.preprocessing(images))

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Preprocessed float32 ``[B, 3, H, W]`` to float32 ``[B, D]``."""
        if self._batch is None:
            return self._forward(pixels)
        parts = [self._fixed(part) for part in _parts(pixels, self._batch)]
        return np.concatenate(parts) if parts else np.empty((0, self.embedding), np.float32)

    def _fixed(self, part: np.ndarray) -> np.ndarray:
        """Fill ``part`` up to the graph's batch size with its last image."""
        missing = (self._batch or len(part)) - len(part)
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        return self._forward(filled)[: len(part)]

    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        return self._session.run([self._output], {self._input: pixels})[0].astype(np.float32)

    def _probe(self) -> int:
        """Run one blank image: the declared output shape of old exports is often wrong."""
        blank = np.zeros((1, 3, *self.preprocessing.size), np.float32)
        try:
            result = self.run(blank)
        except Exception as error:
            raise UserError(
                f"{self.path}: the network does not run: {_first_line(error)}"
            ) from None
        if result.ndim != 2 or len(result) != 1:
            raise UserError(
                f"{self.path}: one image gave an output of shape {list(result.shape)}; "
                "an embedder gives [N, D]"
            )
        return result.shape[1]


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of an .onnx file")
    if path.stat().st_size > MAXIMUM_BYTES:
        raise UserError(f"{path}: larger than 2 GiB, which no ONNX file can be")
    return path.read_bytes()


def _refuse_external_data(content: bytes, path: Path) -> None:
    """Weights in other files could lie anywhere on the disk, and the digest would miss them."""
    import onnx

    try:
        model = onnx.ModelProto.FromString(content)
    except Exception:
        # protobuf's DecodeError; protobuf is onnx's dependency, not ours.
        raise UserError(
            f"{path}: not an ONNX file, or cut short; export or copy it again"
        ) from None
    bodies = chain.from_iterable(function.node for function in model.functions)
    tensors = chain(_tensors(model.graph), _constants(bodies))
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise UserError(
            f"{path}: its weights lie in other files (external data), which is refused; "
            "save it as one file with onnx.save(model, path, save_as_external_data=False)"
        )


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph, dense and sparse, in its nested graphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _constants(graph.node)


def _constants(nodes: Iterable[Any]) -> Iterator[Any]:
    """Every tensor that nodes hold as attributes."""
    for attribute in chain.from_iterable(node.attribute for node in nodes):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)


def _session(content: bytes, path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # Errors arrive as exceptions.
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    wanted = (GPU_PROVIDER, "CPUExecutionProvider")
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:
        # onnxruntime has no common base for its exceptions.
        raise UserError(
            f"{path}: onnxruntime cannot load it ({_first_line(error)}); "
            "check that it is a complete ONNX file"
        ) from None


def _check_input(session: Any, path: Path, size: tuple[int, int]) -> tuple[str, int | None]:
    """The input's name and its fixed batch size, or None where any batch will do."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise UserError(f"{path}: inputs are {names}; an embedder has exactly one, the images")
    (image,) = inputs
    # A named or missing dimension is free.
    fixed = [dim if isinstance(dim, int) else None for dim in image.shape]
    expected = (None, 3, *size)
    fits = len(fixed) == 4 and all(
        dim is None or want is None or dim == want
        for dim, want in zip(fixed, expected, strict=True)
    )
    if image.type != "tensor(float)" or not fits:
        raise UserError(
            f"{path}: input {image.name!r} is {image.type} {image.shape}; "
            f"the preprocessing gives tensor(float) [N, 3, {size[0]}, {size[1]}]; set its size"
        )
    return image.name, fixed[0]


def _check_output(session: Any, path: Path) -> str:
    outputs = session.get_outputs()
    if len(outputs) != 1 or len(outputs[0].shape) not in (0, 2):
        found = ", ".join(f"{each.name} {each.shape}" for each in outputs)
        raise UserError(f"{path}: outputs are {found}; an embedder has exactly one, [N, D]")
    return outputs[0].name


def _parts(pixels: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (pixels[start : start + size] for start in range(0, len(pixels), size))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
