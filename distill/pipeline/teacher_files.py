"""Teachers by name: files, finished jobs and ensembles of them, opened as embedders."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from curation.errors import UserError
from curation.suggestions import meant
from curation.workspace import Workspace
from distill.export.checksums import SUMS_NAME
from distill.network_spec import NetworkSpec, TeacherSource, TeacherSpec
from distill.run_directory import BUNDLE
from distill.spec_checks import teacher_path
from distill.spec_errors import within
from distill.timm_names import check_timm
from teachers.embedder import Embedder, TorchEmbedder, module_digest
from teachers.ensemble import Ensemble
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing, Size
from teachers.setting_words import setting
from teachers.sources import check_colour, is_onnx, is_weights, weights_in

if TYPE_CHECKING:
    import torch

    from teachers.checkpoints import LoadReport

TIMM = "timm/"


def open_spec_teacher(spec: TeacherSpec, workspace: Workspace) -> Embedder:
    """The teacher that a job names in ``from``, or its ensemble."""
    members = []
    for key, source in spec.sources.items():
        with within("teacher", *key, "from"):
            members.append(_open_source(source, workspace))
    if not spec.ensemble:
        return members[0]
    with within("teacher", "combine"):
        return Ensemble(members, spec.combine)


def _open_source(source: TeacherSource, workspace: Workspace) -> Embedder:
    path = teacher_path(source, workspace)
    choice = source.output if is_onnx(path.name) else source.part
    return open_teacher(path, source.preprocessing, source.weights_network, choice)


def open_teacher(
    path: Path,
    preprocessing: Preprocessing | None = None,
    network: NetworkSpec | None = None,
    choice: str | None = None,
) -> Embedder:
    """A finished job's bundle; or an ``.onnx`` file, or weights of ``network``, with
    ``preprocessing``. ``choice`` selects an output of a graph or a part of a weights file."""
    if preprocessing is None:
        from distill.export.embedder import BundleEmbedder  # imports the bundle checks

        bundle = BundleEmbedder(path)
        bundle.check_framed()
        return bundle.network
    check_colour(path, preprocessing.colour)
    if is_onnx(path.name):
        return OnnxEmbedder(path, preprocessing, choice)
    return open_weights(path, preprocessing, network, choice)


def find_teacher(name: str, workspace: Workspace) -> Path:
    """The file or folder by path, in the workspace's teachers/, or a finished job's bundle."""
    path, inside = Path(name), workspace.teachers / name
    if not is_onnx(name) and not is_weights(name) and not inside.exists():
        inside = workspace.inside(name, workspace.runs, "teacher") / BUNDLE
    for place in (path, inside):
        if place.is_file() or is_bundle(place) or weights_in(place):
            return place
    if inside.name == BUNDLE and inside.parent.is_dir():
        raise UserError(f"job {name!r} has no bundle yet; `distill show {name}` shows its state")
    raise UserError(
        f"there is no network {name!r} (looked for {path} and {inside}); "
        "give an .onnx file, a file of weights, a bundle, or a finished job's name"
        f"{meant(name, _teachers_of(workspace))}"
    )


def _teachers_of(workspace: Workspace) -> list[str]:
    """The files in teachers/, and the jobs."""
    folders = [folder for folder in (workspace.teachers, workspace.runs) if folder.is_dir()]
    return [each.name for folder in folders for each in sorted(folder.iterdir())]


def is_bundle(path: Path) -> bool:
    """Whether a folder is a job's bundle, perhaps damaged; weights have a config.json as well."""
    there = {name for name in ("config.json", SUMS_NAME) if os.path.lexists(path / name)}
    return len(there) == 2 or ("config.json" in there and not weights_in(path))


def open_weights(
    path: Path, preprocessing: Preprocessing, network: NetworkSpec | None, part: str | None
) -> TorchEmbedder:
    """Load a weights file into its network; every key must be accounted for."""
    if network is None:
        raise UserError(_whose_keys(path, part))
    module, _ = load_weights(path, preprocessing.size, network, part)
    # The same weights in another network, or at another width, are another teacher.
    description = f"{network.backbone}|{network.width}|{module_digest(module)}"
    digest = hashlib.sha256(description.encode()).hexdigest()
    return TorchEmbedder(module, preprocessing, digest)


def load_weights(
    path: Path, size: Size, network: NetworkSpec, part: str | None
) -> "tuple[torch.nn.Module, LoadReport]":
    """The network with the weights of a file, and what became of every key."""
    from teachers.checkpoints import load_checkpoint

    module = _build(network, size)
    return module, load_checkpoint(module, path, part)


def _whose_keys(path: Path, part: str | None) -> str:
    """A suggestion of networks if no backbone is named."""
    import distill.backbones  # noqa: F401 - registers every family, to recognise all keys
    from teachers.checkpoints import recognise

    names = recognise(path, part)
    if not names:
        return (
            f"{path}: give the network of these weights, {setting('backbone', ...)}; no registered "
            f"network has these keys at its default settings (`distill backbones` lists them)"
        )
    keys = " or ".join(names)
    return f"{path}: these are the keys of {keys}: give {setting('backbone', names[0])}"


def _build(network: NetworkSpec, size: Size) -> "torch.nn.Module":
    from distill.backbones import create

    if not network.backbone.startswith(TIMM):
        return create(network.backbone, network.embedding, size, network.width)
    if network.width != 1:
        raise UserError(f"backbone {network.backbone!r} takes no width; leave it out")
    return _timm_network(network.backbone.removeprefix(TIMM), network.embedding or 512, size)


def _timm_network(name: str, embedding: int, size: Size) -> "torch.nn.Module":
    """timm's own network, whose last layer computes the embedding.

    Face networks are published in this form under timm's names; a student ``timm/NAME`` has one of
    our heads instead.
    """
    import timm

    check_timm(f"{TIMM}{name}")
    settings = timm.get_pretrained_cfg(name)
    fixed = {"img_size": size} if settings is not None and settings.fixed_input_size else {}
    return timm.create_model(name, num_classes=embedding, **fixed)
