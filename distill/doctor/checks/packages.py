"""The packages that this software needs: versions, and import failures."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from curation.workspace import Workspace
from distill import __version__
from distill.doctor.children import IMPORT_SECONDS, NoAnswerError, ask_python
from distill.doctor.examination import Diagnosis, check, ok, warning, wrong

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PRODUCT = "face-distill"
_EXTRAS = ("train", "curate")
_DEEPSPEED = "import json, deepspeed; print(json.dumps(deepspeed.__version__))"
_JPEG = """
import json, numpy, simplejpeg
image = numpy.arange(4 * 8 * 3, dtype=numpy.uint8).reshape(4, 8, 3)
assert simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image)).shape == image.shape
print(json.dumps(True))
"""


@check("versions")
def versions(workspace: Workspace) -> Iterator[Diagnosis]:
    """Every required package against its allowed versions; those of extras if installed."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(each) for each in requires(_PRODUCT) or ()]
    except PackageNotFoundError:
        text = f"{_PRODUCT} is not installed: it runs from its source folder"
        yield warning(text, "`pip install -e .` there, so that its dependencies are checked too")
        return
    always = [each for each in wanted if _applies(each, "") or _is_installed_extra(each)]
    lines = [line for each in always if (line := _wrong(each.name, each.specifier)) is not None]
    for line in lines:
        yield wrong(line, f"`pip install --upgrade {_PRODUCT}`")
    if not lines:
        text = f"{_PRODUCT} {__version__} and {len(always)} packages, Python"
        yield ok(f"{text} {platform.python_version()}")


def _is_installed_extra(wanted: "Requirement") -> bool:
    if not any(_applies(wanted, extra) for extra in _EXTRAS):
        return False
    try:
        return bool(version(wanted.name))
    except PackageNotFoundError:
        return False


def _applies(wanted: "Requirement", extra: str) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({"extra": extra})


def _wrong(name: str, allowed: object) -> str | None:
    """The fault of a package's installed version with respect to a ``SpecifierSet``."""
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is not installed; allowed: {allowed or 'any version'}"
    fits = allowed.contains(found, prereleases=True)  # type: ignore[attr-defined]
    return None if fits else f"{name} is {found}; allowed: {allowed}"


@check("deepspeed", seconds=IMPORT_SECONDS + 10)
def deepspeed(workspace: Workspace) -> Iterator[Diagnosis]:
    """Whether the engine ``deepspeed`` works; the engine ``torch`` does not need it."""
    if find_spec("torch") is None:
        return  # reported by the check of torch
    try:
        yield ok(f"DeepSpeed {ask_python(_DEEPSPEED)}")
    except NoAnswerError as error:
        yield warning(
            f"DeepSpeed cannot be imported: {error}",
            '`pip install --force-reinstall deepspeed`, or train with engine = "torch"',
        )


@check("jpeg", seconds=IMPORT_SECONDS + 10)
def jpeg(workspace: Workspace) -> Iterator[Diagnosis]:
    """Whether images can be read: libjpeg-turbo, through simplejpeg."""
    try:
        ask_python(_JPEG)
        yield ok(f"libjpeg-turbo reads and writes (simplejpeg {version('simplejpeg')})")
    except NoAnswerError as error:
        yield wrong(
            f"JPEG files cannot be read: {error}", "`pip install --force-reinstall simplejpeg`"
        )
