"""The registry of deployment formats, and the check that each export must pass.

Each format is a file in ``distill.export.formats``. The ``[export]`` table of a job names those of
its bundle.
"""

import importlib.util
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, TypeAdapter, ValidationError

from curation.errors import UserError
from curation.faults import requirement
from curation.registry import check_unused, import_files
from curation.suggestions import hint
from distill.export.bundle_files import FILES
from distill.export.checksums import SUMS_NAME
from distill.export.config import BundleConfig, FileNames
from distill.export.exported_network import Embed, ExportedNetwork
from distill.export.golden import EMBEDDINGS, FEATURES, MINIMUM_COSINE, golden_cosine, lowest_cosine
from distill.export.source import ExportSource
from teachers.embedder import Embedder
from teachers.onnxruntime_sessions import wanted_threads
from teachers.preprocessing import Preprocessing
from teachers.usable import random_images, why_unusable

DEFAULT_FORMATS = ("onnx",)
CHECKED_BATCHES = (1, 3)


class FormatRefusedError(UserError):
    """A format gives other embeddings or loses too much; the bundle is complete without it."""


class Exporter(ABC):
    """A format: writes a network, and runs the result.

    - ``card``: one or two sentences for the model card.
    - ``extra``: ``pip install 'face-distill[EXTRA]'`` installs the required packages.
    - ``writes_with``, ``runs_with``: the packages required to write and to run the format.
    - ``confined``: run the files in a separate process, because the library is not safe for
      untrusted files.
    - ``why_not_here``: why files of a bundle in this format are never run.
    - ``minimum_cosine``: the lower limit for the cosine with the golden embeddings.
    - ``calibrated``: the format uses `ExportSource.calibration` and has its own golden outputs.
    - ``gives_features``: the files map images, uint8 RGB [N, H, W, 3], to unit vectors by the
      mirror rule.
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

        Every export of a network must give the same bytes. Raises ``UserError`` if the format
        cannot express the network, ``FormatRefusedError`` if it loses too much.
        """

    @abstractmethod
    def run(self, folder: Path) -> Embed:
        """Load the files below ``folder`` to run on the CPU.

        Must not execute code from the files, because bundles are untrusted. Raises ``UserError``
        for damaged files.
        """

    def embedder(self, folder: Path, preprocessing: Preprocessing) -> Embedder:
        """The network of a bundle in this format. Raises ``UserError`` like ``run``."""
        if reason := self.why_not_run():
            raise UserError(f"{self.name} cannot be run: {reason}")
        return ExportedNetwork(self.start(folder), preprocessing, self.gives_features)

    def why_not_run(self) -> str | None:
        """Why a bundle's files in this format cannot be run here and how to fix that, or None."""
        return self.why_not_here or self.lacks(self.runs_with)

    def check(self, written: Path, bundle: Path, source: ExportSource) -> None:
        """Raise ``FormatRefusedError`` if the ``written`` files and the network embed differently.

        Compares random pixels and the golden images in ``bundle``.
        """
        run = self.start(written)
        check_parity(self.name, run, source)
        cosine = golden_cosine(bundle, ExportedNetwork(run, source.preprocessing))
        self.check_cosine(cosine, "on the golden images")

    def check_cosine(self, cosine: float, where: str) -> None:
        """Raise ``FormatRefusedError`` if the cosine is below the minimum."""
        check_cosine(self.name, cosine, where, self.minimum_cosine)

    @property
    def golden(self) -> str:
        """The name of the golden outputs to compare with."""
        if self.gives_features:
            return FEATURES
        return f"{EMBEDDINGS}.{self.name}" if self.calibrated else EMBEDDINGS

    def why_not_fit(self, length: int, size: tuple[int, int]) -> str | None:
        """Why a network with this embedding ``length`` and input ``size`` cannot be exported.

        ``size`` is (height, width). None if it can be exported.
        """
        return None

    def contract(self, config: BundleConfig) -> dict[str, str]:
        """Metadata of its ONNX files that differ from those of ``model.onnx``."""
        return {}

    def start(self, folder: Path) -> Embed:
        """Like ``run``, in a separate process if the format is ``confined``."""
        if not self.confined:
            return self.run(folder)
        from distill.export.format_process import FormatProcess

        return FormatProcess(self.name, folder)

    def lacks(self, packages: tuple[str, ...]) -> str | None:
        """The packages that are not installed and how to install them, or None."""
        missing = [
            each for each in dict.fromkeys(packages) if importlib.util.find_spec(each) is None
        ]
        if not missing:
            return None
        verb = "is" if len(missing) == 1 else "are"
        return (
            f"{' and '.join(missing)} {verb} not installed: "
            f"`pip install 'face-distill[{self.extra}]'`"
        )

    def threads(self) -> int:
        """The number of threads: ``$OMP_NUM_THREADS``, as for torch, or all cores."""
        return wanted_threads() or os.cpu_count() or 1


EXPORTERS: dict[str, Exporter] = {}


def exporter(name: str) -> Callable[[type[Exporter]], type[Exporter]]:
    """Register an exporter under the name of its format."""

    def enter(kind: type[Exporter]) -> type[Exporter]:
        before = EXPORTERS.get(name)
        check_unused("exporter", name, before and type(before), kind)
        kind.name = name
        EXPORTERS[name] = kind()
        return kind

    return enter


def exporters() -> dict[str, Exporter]:
    """All exporters by name."""
    import_files("distill.export.formats")
    return EXPORTERS


def _check_format(name: str) -> str:
    if name not in exporters():
        raise ValueError(f"no such format{hint(name, sorted(EXPORTERS))}")
    return name


def check_formats(text: str) -> list[str]:
    """Parse comma-separated names of formats; ``UserError`` if one is unknown or repeated."""
    names = [each.strip() for each in text.split(",")]
    for name in names:
        if name not in exporters():
            raise UserError(f"--to {text}: {name!r}: no such format{hint(name, sorted(EXPORTERS))}")
    if len(set(names)) < len(names):
        raise UserError(f"--to {text}: one is named twice; name each once")
    return names


FormatName = Annotated[str, AfterValidator(_check_format)]
"""The name of an existing format, in a job spec."""


def check_installed(names: Iterable[str]) -> None:
    """Raise ``UserError`` if a package that writes or runs one of these formats is missing."""
    for name in names:
        found = exporters()[name]
        if lack := found.lacks((*found.writes_with, *found.runs_with)):
            raise UserError(f"the {name} format cannot be written: {lack}")


def write_format(name: str, folder: Path, source: ExportSource) -> tuple[str, ...]:
    """Export a network to the bundle ``folder``; returns the new files.

    The bundle must have its golden outputs already. Raises ``FormatRefusedError`` if the cosine
    between the embeddings of the written files and of the network is below 0.9999, on random pixels
    in batches of 1 and 3 or on the golden images; ``UserError`` for files that a bundle cannot have
    or has already.
    """
    check_installed([name])
    found = exporters()[name]
    written = folder / f".{name}"
    written.mkdir()
    try:
        found.export(written, source)
        files = _files_in(written, name)
        found.check(written, folder, source)
    except FormatRefusedError:
        shutil.rmtree(written)
        raise
    taken = {SUMS_NAME, *(Path(each).parts[0] for each in FILES)}
    for path in written.iterdir():
        if path.name in taken or (folder / path.name).exists():
            raise UserError(f"the {name} export writes {path.name}, which the bundle has already")
        path.rename(folder / path.name)
    written.rmdir()
    return files


def remove_format(folder: Path, files: Iterable[str]) -> None:
    """Remove a format's ``files``, as returned by `write_format`, from a bundle."""
    for name in {Path(file).parts[0] for file in files}:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _files_in(written: Path, name: str) -> tuple[str, ...]:
    """The files below a folder, sorted; ``UserError`` if a bundle cannot have them."""
    files = sorted(path for path in written.rglob("*") if path.is_file())
    names = tuple(path.relative_to(written).as_posix() for path in files)
    try:
        return TypeAdapter(FileNames).validate_python(names)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UserError(
            f"the {name} export writes {wrong['input']!r:.200}: {requirement(wrong)}"
        ) from None


def check_parity(name: str, run: Embed, source: ExportSource) -> None:
    """Raise ``FormatRefusedError`` if ``run`` and the network embed random images differently, or
    if all embeddings are useless."""
    import torch

    pixels = source.preprocessing(random_images(max(CHECKED_BATCHES), source.size))
    with torch.inference_mode():
        expected = source.network(torch.from_numpy(pixels)).numpy()
    for batch in CHECKED_BATCHES:
        found = run(pixels[:batch])
        check_cosine(name, lowest_cosine(found, expected[:batch]), f"at batch size {batch}")
    check_usable(name, found)


def check_usable(name: str, embeddings: np.ndarray) -> None:
    """Raise ``FormatRefusedError`` if the embeddings of different images are useless."""
    if reason := why_unusable(embeddings):
        raise FormatRefusedError(
            f"the {name} export is unusable: {reason}; leave {name} out of the formats"
        )


def check_cosine(
    name: str,
    cosine: float,
    where: str,
    least: float = MINIMUM_COSINE,
    reference: str = "the network",
) -> None:
    """Raise ``FormatRefusedError`` if the cosine of an export with its ``reference`` is too low."""
    if not cosine >= least:
        raise FormatRefusedError(
            f"the {name} export gives different embeddings from {reference}: cosine {cosine:.6f} "
            f"{where}, at least {least} is required; leave {name} out of the formats"
        )
