"""The facts that the rules of a first spec use."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TeacherFacts:
    """An existing teacher."""

    embedding: int
    spec: dict[str, object] = field(default_factory=dict)
    """Its keys in [teacher]"""


@dataclass(frozen=True)
class StudentFacts:
    """A network of the registry at its defaults; ``madds`` and ``mflops`` in millions."""

    backbone: str
    family: str
    embedding: int
    input_size: tuple[int, int]
    madds: float
    mflops: float


@dataclass(frozen=True)
class MachineFacts:
    """What a job may use here; ``memory`` and ``free_disk`` (of the workspace) in bytes."""

    gpus: int
    cores: int
    memory: int
    free_disk: int


@dataclass(frozen=True)
class DataFacts:
    """The training images. ``labelled`` of ``images`` belong to one of ``identities``, of which
    ``repeated`` have several images."""

    images: int
    labelled: int
    identities: int
    repeated: int
    image_size: tuple[int, int]
    bytes: int
    """Size on disk"""

    @property
    def labels_teach(self) -> bool:
        """Whether a loss on labels can pull images of one identity together, and apart from
        another's."""
        return self.repeated >= 2

    @property
    def per_identity(self) -> float:
        """Labelled images per identity on average; 0 without labels."""
        return self.labelled / self.identities if self.identities else 0.0


@dataclass(frozen=True)
class Facts:
    """All facts. ``budget`` is the limit in MFLOPs for choosing the student, if any."""

    data: DataFacts
    student: StudentFacts
    machine: MachineFacts
    teacher: TeacherFacts | None = None
    budget: float | None = None
