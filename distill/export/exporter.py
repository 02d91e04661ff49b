"""Formats to deploy a network in: their registry, and the check that each export has to pass.

``distill.export.formats`` has them, one file each. A bundle has those that the job's ``[export]``
table names.
"""

import importlib.util
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, TypeAdapter, ValidationError

from curation.errors import UserError
from curation.registry import check_unused, import_files
from curation.suggestions import hint
from distill.export.bundle_files import FILES
from distill.export.checksums import SUMS_NAME
from distill.export.config import BundleConfig, FileNames
from distill.export.golden import EMBEDDINGS, FEATURES, MINIMUM_COSINE, golden_cosine, lowest_cosine
from distill.export.source import ExportSource
from teachers.embedder import Embedder
from teachers.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

Embed = Callable[[np.ndarray], np.ndarray]
"""Normalised pixels float32 [N, 3, H, W] to raw embeddings float32 [N, D], for any N from 1."""

DEFAULT_FORMATS = ("onnx",)
CHECKED_BATCHES = (1, 3)


class FormatRefusedError(UserError):
    """A format loses too much of what the network can do; the bundle is good without it."""


class Exporter(ABC):
    """A format: how to write a network in it, and how to run the result.

    ``card`` is its description in the model card, one or two sentences. ``writes_with`` and
    ``runs_with`` are the required packages, which ``pip install 'face-distill[EXTRA]'`` installs,
    with EXTRA in ``extra``. ``confined``: the library that runs it is not safe for untrusted files,
    so it runs in a process of its own. ``why_not_here``: why a bundle's files in it are never run.
    ``minimum_cosine`` is the lower limit for its embeddings and the golden ones. ``calibrated``: it
    uses an `ExportSource.calibration`, and has its own golden outputs. ``gives_features``: the
    files map images, uint8 RGB [N, H, W, 3], to unit vectors by the mirror rule.
    """

    name: ClassVar[str]
    card: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    writes_with: ClassVar[tuple[str, ...]] = ()
    runs_with: ClassVar[tuple[str, ...]] = ()
    confined: ClassVar[bool] = False
    why_not_here: ClassVar[str | None] = None
    minimum_cosine: ClassVar[float] = MINIMUM_COSINE
    calibrated: ClassVar[bool] = False
    gives_features: ClassVar[bool] = False

    @abstractmethod
    def export(self, folder: Path, source: ExportSource) -> None:
        """Write the network of ``source`` as one or more files into the empty ``folder``.

        The bundle's files are these; every export of a network gives the same bytes. Raises
        ``UserError`` where the format cannot express the network, ``FormatRefusedError`` where it
        loses too much.
        """

    @abstractmethod
    def run(self, folder: Path) -> Embed:
        """What runs the files below ``folder`` on the CPU. Nothing in them is executed as code: a
        bundle may come from anybody. Raises ``UserError`` for files that are damaged."""

    def embedder(self, folder: Path, preprocessing: Preprocessing) -> Embedder:
        """The network of a bundle in this format. Raises ``UserError`` as ``run``."""
        if reason := self.why_not_run():
            raise UserError(f"{self.name} cannot be run: {reason}")
        return ExportedNetwork(self.start(folder), preprocessing, self.gives_features)

    def why_not_run(self) -> str | None:
        """Why a bundle's files in this format cannot be run here, and what helps; else None."""
        return self.why_not_here or self.lacks(self.runs_with)

    def check(self, written: Path, bundle: Path, source: ExportSource) -> None:
        """Raise ``UserError`` where what was ``written`` gives other embeddings than the network,
        of random pixels or of the golden images in ``bundle``."""
        run = self.start(written)
        check_parity(self.name, run, source.network, source.size)
        cosine = golden_cosine(bundle, ExportedNetwork(run, source.preprocessing))
        self.check_cosine(cosine, "on the golden images")

    def check_cosine(self, cosine: float, where: str) -> None:
        """Raise ``UserError`` where it is below the minimum."""
        check_cosine(self.name, cosine, where, self.minimum_cosine)

    @property
    def golden(self) -> str:
        """The name of the golden outputs that its own are compared with."""
        if self.gives_features:
            return FEATURES
        return f"{EMBEDDINGS}.{self.name}" if self.calibrated else EMBEDDINGS

    def why_not_fit(self, length: int, size: tuple[int, int]) -> str | None:
        """Why no network with embeddings of this length and an input of this (height, width) can be
        exported; else None."""
        return None

    def contract(self, config: BundleConfig) -> dict[str, str]:
        """What the metadata of its ONNX files say otherwise than those of ``model.onnx``."""
        return {}

    def start(self, folder: Path) -> Embed:
        """As ``run``, in a process of its own where the format asks for that."""
        if not self.confined:
            return self.run(folder)
        from distill.export.format_process import FormatProcess

        return FormatProcess(self.name, folder)

    def lacks(self, packages: tuple[str, ...]) -> str | None:
        """Which of the packages is not installed, and what to install; else None."""
        missing = [each for each in packages if importlib.util.find_spec(each) is None]
        if not missing:
            return None
        return (
            f"{' and '.join(missing)} is not installed: `pip install 'face-distill[{self.extra}]'`"
        )

    def threads(self) -> int:
        """Those that the caller allows, as for torch: ``$OMP_NUM_THREADS``, else all cores."""
        return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def one_at_a_time(run: Embed) -> Embed:
    """For what takes one image: runs it on each of several."""
    return lambda pixels: np.concatenate(
        [run(pixels[i : i + 1]).astype(np.float32) for i in range(len(pixels))]
    )


class ExportedNetwork:
    """What ``Exporter.run`` gave, as an `Embedder`. Checksums stand for its weights: no digest."""

    digest = ""
    on_gpu = False

    def __init__(
        self, run: Embed, preprocessing: Preprocessing, gives_features: bool = False
    ) -> None:
        self.preprocessing = preprocessing
        self._run = run
        self._given = preprocessing.resize if gives_features else preprocessing
        self.embedding = self.embed(np.zeros((1, *preprocessing.size, 3), np.uint8)).shape[1]

    def embed(self, images: np.ndarray) -> np.ndarray:
        """See `Embedder.embed`."""
        embeddings = self._run(self._given(images))
        if embeddings.ndim != 2 or len(embeddings) != len(images):
            raise UserError(f"{len(images)} image(s) gave embeddings {list(embeddings.shape)}")
        return embeddings.astype(np.float32)


EXPORTERS: dict[str, Exporter] = {}


def exporter(name: str) -> Callable[[type[Exporter]], type[Exporter]]:
    """Enter an exporter under the name of its format."""

    def enter(kind: type[Exporter]) -> type[Exporter]:
        before = EXPORTERS.get(name)
        check_unused("exporter", name, before and type(before), kind)
        kind.name = name
        EXPORTERS[name] = kind()
        return kind

    return enter


def exporters() -> dict[str, Exporter]:
    """All by their names."""
    import_files("distill.export.formats")
    return EXPORTERS


def _check_format(name: str) -> str:
    if name not in exporters():
        raise ValueError(f"no such format{hint(name, sorted(EXPORTERS))}")
    return name


def check_formats(text: str) -> list[str]:
    """Names of formats between commas; ``UserError`` for one that there is not, or twice."""
    names = [each.strip() for each in text.split(",")]
    for name in names:
        if name not in exporters():
            raise UserError(f"--to {text}: {name!r}: no such format{hint(name, sorted(EXPORTERS))}")
    if len(set(names)) < len(names):
        raise UserError(f"--to {text}: one is named twice; name each once")
    return names


FormatName = Annotated[str, AfterValidator(_check_format)]
"""In a job spec: the name of a format that there is."""


def check_installed(names: Iterable[str]) -> None:
    """Raise ``UserError`` where what writes or runs one of these formats is not installed."""
    for name in names:
        found = exporters()[name]
        if lack := found.lacks((*found.writes_with, *found.runs_with)):
            raise UserError(f"the {name} format cannot be written: {lack}")


def write_format(name: str, folder: Path, source: ExportSource) -> tuple[str, ...]:
    """Export a network to the bundle ``folder``; the new files.

    The bundle has its golden outputs already. Raises ``UserError`` where the embeddings of what was
    written have a cosine below 0.9999 with the network's own, on random pixels in batches of 1 and
    3 or on the golden images; for files that a bundle cannot have, or has already; and where the
    disk is full.
    """
    check_installed([name])
    found = exporters()[name]
    written = folder / f".{name}"
    written.mkdir()
    try:
        found.export(written, source)
    except FormatRefusedError:
        shutil.rmtree(written)
        raise
    files = _files_in(written, name)
    found.check(written, folder, source)
    taken = {SUMS_NAME, *(Path(each).parts[0] for each in FILES)}
    for path in written.iterdir():
        if path.name in taken or (folder / path.name).exists():
            raise UserError(f"the {name} export writes {path.name}, which the bundle has already")
        path.rename(folder / path.name)
    written.rmdir()
    return files


def _files_in(written: Path, name: str) -> tuple[str, ...]:
    """The files below a folder, sorted; ``UserError`` where a bundle cannot have them."""
    files = sorted(path for path in written.rglob("*") if path.is_file())
    names = tuple(path.relative_to(written).as_posix() for path in files)
    try:
        return TypeAdapter(FileNames).validate_python(names)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UserError(
            f"the {name} export writes {wrong['input']!r:.200}: {wrong['msg']}"
        ) from None


def check_parity(name: str, run: Embed, network: "torch.nn.Module", size: tuple[int, int]) -> None:
    """Raise ``UserError`` where ``run`` gives other embeddings of random pixels than ``network``,
    in batches of 1 and 3."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for batch in CHECKED_BATCHES:
        pixels = torch.randn(batch, 3, *size, generator=generator)
        with torch.inference_mode():
            expected = network(pixels).numpy()
        check_cosine(name, lowest_cosine(run(pixels.numpy()), expected), f"at batch size {batch}")


def check_cosine(
    name: str,
    cosine: float,
    where: str,
    least: float = MINIMUM_COSINE,
    reference: str = "the network",
) -> None:
    """Raise ``UserError`` where the cosine of an export with its ``reference`` is too low."""
    if not cosine >= least:
        raise UserError(
            f"the {name} export gives other embeddings than {reference}: cosine {cosine:.6f} "
            f"{where}, at least {least} is required; leave {name} out of the formats"
        )
