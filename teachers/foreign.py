"""Third-party teachers: ONNX files, run by onnxruntime with an explicit preprocessing.

An ONNX file is untrusted: it is first tried in a confined process, and refused unless it maps one
batch of images to one batch of embeddings.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.suggestions import meant
from teachers.confined import allow, confined
from teachers.onnx_files import check_it_may_be_onnx, read_onnx, size_of_weights
from teachers.onnxruntime_sessions import (
    GPU_PROVIDER,
    open_session,
    run_session,
    wanted_threads,
)
from teachers.preprocessing import Preprocessing
from teachers.setting_words import setting
from teachers.usable import random_images, why_unusable

BATCH = 8
"""Images per batch on the CPU, where more are not faster. Only this batch size and 1 are used, as
in the trial."""
TRIAL_SECONDS, TRIAL_MEMORY = 60, 3 << 29
"""Limits of the trial: CPU time on one core, and memory besides the weights"""
COPIES = 6
"""Copies of the weights in memory: as bytes, as protobuf messages, and in onnxruntime's layout"""
TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
}


_MOST_NAMED = 10
"""Maximum number of inputs or outputs that a message lists"""


class OnnxEmbedder:
    """An ONNX network from images to ``[N, D]``, on the GPU if onnxruntime supports it.

    The images are ``[N, 3, H, W]`` or ``[N, H, W, 3]``, in float16, 32 or 64, or in integers if the
    preprocessing produces integers. ``output`` names the embeddings of a graph with several
    outputs. ``digest`` is the SHA-256 of the file, of its external weight files, and of the chosen
    output. Graphs with a fixed batch size, or that accept only one image at a time, are supported.
    ``$OMP_NUM_THREADS`` limits the threads, as for torch. Raises `UserError` for a file that is not
    such a network or does not match ``preprocessing``.
    """

    def __init__(
        self,
        path: Path | str,
        preprocessing: Preprocessing,
        output: str | None = None,
        tried: "_Tried | None" = None,
    ) -> None:
        self.path = Path(path)
        self.preprocessing = preprocessing
        self._choice = output
        self._tried = tried or _try_confined(self.path, preprocessing, output)
        self.embedding, self._batch = self._tried.embedding, self._tried.batch
        self._graph = _Graph.open(self.path, preprocessing, output, wanted_threads(), gpu=True)
        self.digest = self._graph.digest
        if self.digest != self._tried.digest:
            raise UserError(f"{self.path}: it changed while it was opened; run again")
        self.on_gpu = self._graph.session.get_providers()[0] == GPU_PROVIDER

    @property
    def names(self) -> tuple[str, str]:
        """The graph's input and output."""
        return self._graph.input, self._graph.output

    def __reduce__(self) -> tuple[type["OnnxEmbedder"], tuple[Any, ...]]:
        return OnnxEmbedder, (self.path, self.preprocessing, self._choice, self._tried)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB ``[B, H, W, 3]`` of any size to float32 ``[B, D]``, raw."""
        if not len(images):
            return np.empty((0, self.embedding), np.float32)
        parts = _parts(images, self._batch or (len(images) if self.on_gpu else BATCH), self._batch)
        return np.concatenate([self._run(self.preprocessing(part)) for part in parts])

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        try:
            return self._graph.run(pixels, self._batch)
        except MemoryError:
            raise UserError(
                f"{self.path}: the network needs more memory for {len(pixels)} image(s) than is "
                "free here"
            ) from None


@dataclass(frozen=True)
class _Tried:
    """The result of the trial of the file with this ``digest``; ``batch`` None means any."""

    digest: str
    embedding: int
    batch: int | None


@dataclass(frozen=True)
class _Graph:
    """A session and its input: the image's name, type, layout, and batch size if fixed."""

    path: Path
    session: Any
    digest: str
    input: str
    kind: type[np.generic]
    channels_last: bool
    batch: int | None
    output: str

    @classmethod
    def open(
        cls, path: Path, preprocessing: Preprocessing, output: str | None, threads: int, gpu: bool
    ) -> "_Graph":
        """Open the file; ``UserError`` if it is not a network with such an input."""
        model, digest = read_onnx(path)
        session = open_session(model, path, threads, gpu)
        outputs = {each.name: each for each in session.get_outputs()}
        chosen = _choose_output(path, outputs, output)
        if len(outputs) > 1:
            digest = hashlib.sha256(f"{digest}|{chosen}".encode()).hexdigest()
        return cls(path, session, digest, *_check_input(session, path, preprocessing), chosen)

    def run(self, pixels: np.ndarray, batch: int | None) -> np.ndarray:
        """float32 ``[B, 3, H, W]`` to ``[B, D]``, padded to ``batch`` with the last image.

        Raises the errors of ``run_session``, and ``UserError`` if the output is not one vector per
        image.
        """
        count = len(pixels)
        if batch is not None and count < batch:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], batch - count, axis=0)])
        if self.channels_last:
            pixels = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        given = {self.input: pixels.astype(self.kind)}
        (result,) = run_session(self.session, self.path, [self.output], given)
        try:
            return _rows(result, len(pixels))[:count]
        except ValueError as error:
            raise UserError(f"{self.path}: the network does not run: {error}") from None


def examine(path: str, preprocessing: dict[str, Any], output: str | None) -> dict[str, Any]:
    """Run a file on a few images: the width of its embeddings, and the batch sizes it accepts.

    For ``confined``, because a graph can use any amount of memory and time.
    """
    settings, where = Preprocessing.model_validate(preprocessing), Path(path)
    allow(TRIAL_MEMORY + COPIES * size_of_weights(where))
    graph = _Graph.open(where, settings, output, threads=1, gpu=False)
    pixels = settings(random_images(BATCH, settings.size))
    alone = np.concatenate([graph.run(pixels[i : i + 1], graph.batch) for i in range(2)])
    batch = graph.batch if graph.batch is not None else _free_batch(graph, pixels, alone)
    if reason := why_unusable(alone):
        raise UserError(f"{where}: output {graph.output!r}: {reason}")
    return {"digest": graph.digest, "embedding": alone.shape[1], "batch": batch}


def _free_batch(graph: _Graph, pixels: np.ndarray, alone: np.ndarray) -> int | None:
    """None if a batch gives the same results as single images; else 1, despite the declaration."""
    try:
        together = graph.run(pixels, None)[: len(alone)]
    except UserError:  # one image worked
        return 1
    scale = np.abs(alone).max()
    return None if np.allclose(together, alone, rtol=1e-2, atol=1e-2 * scale) else 1


def _try_confined(path: Path, preprocessing: Preprocessing, output: str | None) -> _Tried:
    check_it_may_be_onnx(path)
    arguments = {
        "path": str(path),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "output": output,
    }
    try:
        memory = TRIAL_MEMORY + COPIES * path.stat().st_size
        result = confined("teachers.foreign:examine", arguments, memory, TRIAL_SECONDS)
    except (MemoryError, TimeoutError) as error:
        limit = (
            f"{TRIAL_MEMORY / (1 << 30):g} GiB of memory beside its weights"
            if isinstance(error, MemoryError)
            else f"{TRIAL_SECONDS} seconds"
        )
        raise UserError(
            f"{path}: the network does not run: {BATCH} images take more than {limit}"
        ) from None
    except ChildProcessError as error:
        raise UserError(
            f"{path}: the network does not run: onnxruntime crashes on it ({error})"
        ) from None
    return _Tried(**result)


def _check_input(
    session: Any, path: Path, preprocessing: Preprocessing
) -> tuple[str, type[np.generic], bool, int | None]:
    """The input's name, type, whether channels are last, and its batch size if fixed."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = _listed(inputs) or "none"
        raise UserError(f"{path}: inputs are {names}; an embedder has exactly one, the images")
    (image,) = inputs
    # A named or missing dimension is free.
    fixed = [dim if isinstance(dim, int) else None for dim in image.shape]
    last = len(fixed) == 4 and fixed[3] == 3 and fixed[1] != 3
    size = preprocessing.size
    expected = (None, *size, 3) if last else (None, 3, *size)
    fits = len(fixed) == 4 and all(
        dim is None or want is None or dim == want
        for dim, want in zip(fixed, expected, strict=True)
    )
    kind = TYPES.get(image.type)
    if kind is None or not fits:
        raise UserError(
            f"{path}: input {image.name[:80]!r} is {image.type} {image.shape[:8]}; the "
            f"preprocessing gives tensor(float) [N, {', '.join(map(str, expected[1:]))}]; "
            f"{_advice(fixed, last, is_size=kind is not None)}"
        )
    if np.issubdtype(kind, np.integer):
        _check_whole_numbers(path, image, kind, preprocessing)
    return image.name, kind, last, fixed[0]


def _advice(shape: list[int | None], last: bool, is_size: bool) -> str:
    if not is_size:
        return f"export it with an input of one of {', '.join(TYPES)}"
    if len(shape) != 4:
        return "export it with an input of four dimensions, images in a batch"
    sides = shape[1:3] if last else shape[2:4]
    if 3 in shape[1:] and all(sides):
        return f"set its size: {setting('size', sides)}"
    return "expected images with 3 channels"


def _check_whole_numbers(
    path: Path, image: Any, kind: type[np.generic], preprocessing: Preprocessing
) -> None:
    """Raise ``UserError`` if a preprocessed byte is not a value of the input's type."""
    values = preprocessing(np.repeat(np.array([0, 255], np.uint8), 3).reshape(2, 1, 1, 3))
    range_ = np.iinfo(np.dtype(kind))
    whole = np.array_equal(values, np.rint(values))
    if not whole or values.min() < range_.min or values.max() > range_.max:
        lowest = max(int(-range_.min), 0) if kind == np.int8 else 0
        raise UserError(
            f"{path}: input {image.name!r} takes integers, {image.type}; give "
            f"{setting('mean', lowest)}, {setting('std', 1)}, because the graph normalises them "
            "itself"
        )


def _choose_output(path: Path, outputs: dict[str, Any], chosen: str | None) -> str:
    if chosen is not None and chosen in outputs:
        return chosen
    found = _listed(outputs.values())
    if chosen is not None:
        raise UserError(f"{path}: no output {chosen!r}; it has {found}{meant(chosen, outputs)}")
    if len(outputs) != 1:
        rows = next((name for name, each in outputs.items() if _may_be_rows(each.shape)), None)
        advice = (
            "none of these is, so choose another file (detectors have outputs like these)"
            if rows is None
            else f"choose it by name, such as {setting('output', rows)}"
        )
        raise UserError(
            f"{path}: outputs are {found}; an embedder has exactly one, [N, D]: {advice}"
        )
    return next(iter(outputs))


def _may_be_rows(shape: list[Any]) -> bool:
    """Whether an output of this declared shape can be [N, D] or [N, D, 1, 1], with D above 1.

    An unknown shape is empty.
    """
    trailing = len(shape) in (2, 4) and all(length == 1 for length in shape[2:])
    return not shape or (trailing and shape[1] != 1)


def _rows(result: Any, count: int) -> np.ndarray:
    """``[count, D]`` float32, without further dimensions of length 1; else ``ValueError``."""
    if not isinstance(result, np.ndarray) or not np.issubdtype(result.dtype, np.floating):
        kind = result.dtype if isinstance(result, np.ndarray) else type(result).__name__
        raise ValueError(
            f"its output is {kind}; embeddings are floating-point numbers [N, D]: choose another "
            "output, or export it with one (of int8, behind DequantizeLinear)"
        )
    lengths = [length for length in result.shape if length != 1]
    is_rows = lengths[:1] == [count] and len(lengths) == 2 if count > 1 else len(lengths) == 1
    if not is_rows or 0 in result.shape:
        raise ValueError(
            f"{count} image(s) gave an output of shape {list(result.shape)}; an embedder has "
            "exactly one, [N, D]"
        )
    return result.reshape(count, -1).astype(np.float32)


def _listed(values: Collection[Any]) -> str:
    more = f", and {len(values) - _MOST_NAMED:,} more" if len(values) > _MOST_NAMED else ""
    return ", ".join(map(_described, islice(values, _MOST_NAMED))) + more


def _described(value: Any) -> str:
    return f"{value.name[:80]!r} {value.shape[:8]}"


def _parts(images: np.ndarray, size: int, fixed: int | None) -> list[np.ndarray]:
    """Batches of ``size`` images; the remainder one by one unless the batch size is fixed."""
    whole = len(images) if fixed else len(images) - len(images) % size
    parts = [images[start : start + size] for start in range(0, whole, size)]
    return parts + [images[start : start + 1] for start in range(whole, len(images))]
