"""The network that a student starts from: a finished job's, a bundle's, or a weights file.

Weights are matched by name and shape; every key of both networks is either copied or reported as
new or dropped.
"""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from curation.workspace import Workspace
from distill.network_spec import LONGEST_EMBEDDING, NetworkSpec, StudentSpec
from distill.notices import Notice
from distill.pipeline.architecture import Architecture
from distill.spec_checks import teacher_path
from distill.spec_errors import SpecError, within
from distill.timm_names import BODY, FAMILY
from teachers.embedder import Embedder, TorchEmbedder, module_digest
from teachers.preprocessing import Preprocessing, Size

if TYPE_CHECKING:
    import torch

    from teachers.checkpoints import LoadReport

SHOWN = 3
"""Number of keys that a message lists"""
State = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True)
class SharedKeys:
    """The keys of a new network that match the old one, its other keys, and those of the old.

    ``counters`` are keys that the old network's file lacks, which change no embedding.
    """

    taken: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]
    counters: tuple[str, ...] = ()

    @classmethod
    def of(cls, new: State, old: State) -> "SharedKeys":
        fit = {key for key in new if key in old and new[key].shape == old[key].shape}
        return cls(
            tuple(key for key in new if key in fit),
            tuple(key for key in new if key not in fit),
            tuple(key for key in old if key not in fit),
        )

    @property
    def text(self) -> str:
        """What becomes of every key."""
        total = len(self.taken) + len(self.new) + len(self.counters)
        text = f"student.from: {len(self.taken)} of {total} tensors are loaded"
        if self.new:
            text += f"; initialised at random: {_first(self.new)}"
        if self.left:
            text += f"; not used: {_first(self.left)}"
        if self.counters:
            text += f"; not in the file, so they start at 0: {_first(self.counters)}"
        return text


@dataclass(frozen=True)
class OldNetwork:
    """A network with its weights, as found; ``digest`` identifies all of it.

    ``ignored`` are the keys of its file that are not the network's, such as class weights, and
    ``counters`` are the network's counters that the file lacks. A student has its tensors under
    names that begin with ``prefix``.
    """

    architecture: Architecture
    module: "torch.nn.Module"
    digest: str
    ignored: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    prefix: str = ""

    def load(self) -> "torch.nn.Module":
        """The network with its weights, on the CPU; a new copy for the caller."""
        return copy.deepcopy(self.module)

    def embedder(self) -> Embedder:
        return TorchEmbedder(self.load(), self.architecture.preprocessing, self.digest)

    def begun(self, student: StudentSpec) -> Architecture:
        """The student's architecture, taken from this network unless the spec says otherwise."""
        old, given = self.architecture, student.model_fields_set
        if student.backbone and student.backbone != old.backbone:
            raise SpecError(
                ("student", "backbone"),
                f"{student.backbone!r} differs from the network in student.from, {old.backbone!r}; "
                "leave it out, or begin without from",
            )
        height, width = student.input_size or old.input_size
        size = height, width
        look = _unlike_ours(old.preprocessing.model_copy(update={"size": size}))
        return Architecture(
            old.backbone,
            student.embedding or old.embedding,
            size,
            student.width if "width" in given else old.width,
            look,
        )

    def overlap(self, student: Architecture) -> SharedKeys:
        """The keys to copy; ``SpecError`` if they cover less than half of the student's layers."""
        import torch

        with torch.device("meta"):
            new = student.unweighted.build().state_dict()
        found = SharedKeys.of(new, self._tensors())
        overlap = SharedKeys(
            tuple(key for key in found.taken if key not in self.counters),
            found.new,
            found.left + self.ignored,
            tuple(key for key in found.taken if key in self.counters),
        )
        if 2 * len(overlap.taken) < len(new):
            raise SpecError(
                ("student", "from"),
                f"only {len(overlap.taken)} of the {len(new)} tensors of the student have the name "
                f"and shape of one in it; new: {_first(overlap.new)}; "
                "give it the same width and input_size",
            )
        return overlap

    def take_into(self, network: "torch.nn.Module") -> None:
        """Copy the matching weights into a student."""
        own, old = network.state_dict(), self._tensors()
        taken = {key: old[key] for key in SharedKeys.of(own, old).taken}
        network.load_state_dict(taken, strict=False)

    def _tensors(self) -> State:
        """Its tensors by the names that a student has for them."""
        return {self.prefix + key: value for key, value in self.module.state_dict().items()}


def given_beginning(student: StudentSpec | None, workspace: Workspace) -> OldNetwork | None:
    """The network that ``student.from`` names, if any; ``SpecError`` if it is not usable."""
    if student is None or student.source is None:
        return None
    ignored: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    prefix = ""
    with within("student", "from"):
        path = teacher_path(student, workspace)
        if student.preprocessing is None:
            from distill.export.embedder import open_bundle_network

            config, module = open_bundle_network(path)
            look = config.face.preprocessing
            spec = NetworkSpec(
                backbone=config.architecture,
                embedding=config.num_features,
                input_size=look.size,
                width=config.width,
            )
        else:
            look = student.preprocessing
            spec, module, report = _network_of_file(path, student, look.size)
            ignored, counters = report.ignored, report.absent
            if student.backbone.startswith(f"{FAMILY}/"):
                prefix = BODY
                counters = tuple(prefix + key for key in counters)
            module.eval()
        found = replace(Architecture.resolve(spec), given=_unlike_ours(look))
        text = f"{found.describe()}|{module_digest(module)}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        return OldNetwork(found, module, digest, ignored, counters, prefix)


def _network_of_file(
    path: Path, student: StudentSpec, size: Size
) -> "tuple[NetworkSpec, torch.nn.Module, LoadReport]":
    """The network in a file of weights, whose embeddings may have another length than those of the
    student."""
    from distill.pipeline.teacher_files import load_weights
    from teachers.checkpoints import OtherLengthError

    def network(embedding: int | None) -> NetworkSpec:
        return NetworkSpec(
            backbone=student.backbone, embedding=embedding, input_size=size, width=student.width
        )

    spec = network(student.embedding)
    try:
        return spec, *load_weights(path, size, spec, student.part)
    except OtherLengthError as other:
        if other.length > LONGEST_EMBEDDING:
            raise
        spec = network(other.length)
        return spec, *load_weights(path, size, spec, student.part)


def check_beginning(old: OldNetwork, spec: StudentSpec, student: Architecture) -> list[Notice]:
    """Notices about weights that are not copied; ``SpecError`` if almost none are, or if the
    student cannot be compared with the old network's embeddings as ``remember`` asks."""
    if spec.remember is not None:
        _check_remembers(old, student)
    overlap = old.overlap(student)
    if not (overlap.new or overlap.left or overlap.counters):
        return []
    return [Notice("beginning", overlap.text)]


def check_frozen(old: OldNetwork, student: Architecture) -> None:
    """Raise ``SpecError`` if a frozen first stage would keep random weights in the body."""
    import torch

    from teachers.networks import body_parameters

    with torch.device("meta"):
        network = student.unweighted.build()
    body = {id(each) for each in body_parameters(network)}
    names = {name for name, each in network.named_parameters() if id(each) in body}
    fresh = tuple(key for key in old.overlap(student).new if key in names)
    if fresh:
        raise SpecError(
            ("stage", 0, "freeze"),
            f"the body would be frozen with random weights: {_first(fresh)} cannot be taken from "
            "student.from; give the student the same input_size and width, or freeze no stage "
            "before one that trains the body",
        )


def _check_remembers(old: OldNetwork, student: Architecture) -> None:
    """Raise ``SpecError`` if the student cannot be compared with the old network's embeddings."""
    then = old.architecture
    if (then.input_size, then.embedding) != (student.input_size, student.embedding):
        height, width = then.input_size
        raise SpecError(
            ("student", "remember"),
            f"needs the embedding ({then.embedding}) and the input_size ([{height}, {width}]) of "
            "the network in student.from; leave both out, or remember",
        )


def _unlike_ours(look: Preprocessing) -> Preprocessing | None:
    return None if look.digest == Preprocessing.ours(look.size).digest else look


def _first(keys: tuple[str, ...]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{', '.join(keys[:SHOWN])}{more}"
