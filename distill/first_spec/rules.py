"""The values of a first spec and their reasons: pure functions of facts.

The tables at the top hold what docs/benchmarks.md measured on few images and the papers on many.
A rule returns ``Choice``s in the order of the spec.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from curation.errors import UserError
from curation.progress import spoken
from curation.wording import counted
from distill.first_spec.facts import DataFacts, Facts, StudentFacts
from teachers.framing import shows_all


class Length(NamedTuple):
    """How to train on sets of up to ``images`` images."""

    images: float
    epochs: int
    batch: int


class LabelRow(NamedTuple):
    """ArcFace for at least this many identities, with this many images each on average."""

    identities: int
    per_identity: float
    weight: float
    scale: float
    margin: float
    reason: str

    def fits(self, data: DataFacts) -> bool:
        """Whether the data set has as many identities and images."""
        return data.identities >= self.identities and data.per_identity >= self.per_identity


LENGTHS = (
    Length(1_000, 200, 16),
    Length(10_000, 100, 32),
    Length(50_000, 48, 64),
    Length(200_000, 32, 128),
    Length(1_000_000, 24, 256),
    Length(10_000_000, 16, 512),
    Length(math.inf, 10, 512),
)
"""The only place of these numbers. From MS1M's size on, they are the papers' (VarGFaceNet,
FaceLiVT: 16 to 20 epochs, batches of 512). Below, one long schedule (docs/recipes.md); LightlyTrain
trains 100 epochs and more on few images."""
LABELS = (
    LabelRow(
        1_000, 20, 1.0, 64.0, 0.5, "the scale and margin of the ArcFace paper, whose data had 60"
    ),
    LabelRow(0, 2, 0.15, 32.0, 0.2, "the values measured on 4,941 with 3.8 (docs/benchmarks.md)"),
)
"""Measured: only 0.15, 32 and 0.2, on 19,004 images of 4,941 identities. Published: 1, 64 and 0.5,
with about 60 images per identity (MS1M). Neither weight 1 beside a teacher nor anything in between
was measured here; 20 is a guess near the geometric mean of 3.8 and 60, and 1,000 identities a guess
too: on four with 24 images each, weight 1 and scale 64 gave gradients of 600 to 1,100 in the first
12 steps, and the angular loss stayed at 2."""
LARGEST_WITH_VIEWS, LEAST_EPOCHS_WITH_VIEWS = 1_000_000, 16
"""Images and epochs. On 19,004 faces views are better after 16 epochs and worse after 8
(docs/benchmarks.md). A larger set has enough variety."""
ANGULAR_WEIGHT = 7.0
"""VarGFaceNet's alpha"""
STUDENTS = ("iresnet50", "iresnet18", "vargfacenet", "mobilefacenet", "seesaw_share",
            "ghostfacenetv1_s2", "edgeface_xxs")  # fmt: skip
"""The network for a budget: the first one within it"""
TRANSFORMERS = ("edgeface", "facelivt")
"""Families that are trained with AdamW"""
WIDEST = 512
"""Maximum width of a student's embedding; a wider teacher is projected to it."""
FEWEST_IMAGES, FEWEST_STEPS = 8, 10
"""Minimum images of a training set; minimum steps of an epoch, if there are enough images."""
IMAGES_PER_GPU = 128
LEAST_PER_GPU = 8
"""Images; batch normalisation of fewer is mostly noise (`distill.training.trial`)."""
MANY_IDENTITIES, MOST_IDENTITIES = 300_000, 1_000_000
"""Above these, the softmax over all class weights costs more than a small network."""
WORTH_SEVERAL_GPUS = 200_000
"""Images; below, the communication between GPUs costs more than it saves."""
CPU_MADDS_PER_SECOND = 6.3e9
"""One core, forward and backward: MobileFaceNet's 221 million in 35 ms (docs/benchmarks.md)"""
LONGEST_ON_CPU = 24 * 3600.0
"""Maximum seconds of a first training without a GPU"""
SMALL_SIDE, LEAST_SIDE = 64, 32
"""Longer sides in pixels of the input of a student: one that is trained without a GPU, and one for
tiny images"""
STRIDE = 16
"""Of most networks of the registry, which take no other sides than its multiples"""
MOST_CUT = 1 / 7
"""Share of an image that its input leaves out; 112x96 is this much less than 112x112."""
HEAVY_MADDS = 2000.0
"""Millions; below, bf16 is not faster, because kernel launches dominate."""
LARGEST_SHARE = 0.25
"""Maximum share of the free disk for the teacher's embeddings"""


@dataclass(frozen=True)
class Choice:
    """A value of the spec: its table, its key, and the reason in half a sentence."""

    table: str
    key: str
    value: Any
    reason: str

    @property
    def name(self) -> str:
        """``train.batch_size``"""
        return f"{self.table}.{self.key}".lstrip(".")


@dataclass(frozen=True)
class Schedule:
    """What the other choices depend on."""

    epochs: int
    batch: int
    side: tuple[int, int]
    gpus: int

    def steps(self, images: int) -> int:
        """The number of steps per epoch."""
        return max(1, images // self.batch)


def choose_student(budget: float, known: Sequence[StudentFacts]) -> StudentFacts:
    """The first of STUDENTS within ``budget`` MFLOPs; ``UserError`` if there is none."""
    by_name = {each.backbone: each for each in known}
    candidates = [by_name[name] for name in STUDENTS if name in by_name]
    for each in candidates:
        if each.mflops <= budget:
            return each
    least = min(candidates, key=lambda each: each.mflops)
    raise UserError(
        f"--mflops {budget:g}: the smallest student here is {least.backbone} with "
        f"{least.mflops:,.0f}; give more, or --student NAME (`distill backbones` lists all; "
        "width = 0.5 in the spec divides the operations by four)"
    )


def choose(facts: Facts) -> list[Choice]:
    """Every value of the spec except its name and the names of sets and teacher.

    Raises ``UserError`` if there is nothing to learn from.
    """
    _check(facts)
    schedule = _schedule(facts)
    return [
        *_student(facts, schedule),
        *_stage(facts, schedule),
        *_augment(facts, schedule),
        *_train(facts, schedule),
        *_resources(facts, schedule),
    ]


def _check(facts: Facts) -> None:
    data = facts.data
    if data.images < FEWEST_IMAGES:
        raise UserError(
            f"the data set has {data.images:,} images; a training set needs at least "
            f"{FEWEST_IMAGES:,}"
        )
    if facts.teacher is None and not data.labels_teach:
        raise UserError(
            f"{_why_no_labels(data)}, so labels teach nothing; give --teacher, from which a "
            "student learns without labels"
        )


def _why_no_labels(data: DataFacts) -> str:
    if not data.identities:
        return "no image has a label"
    if not data.repeated:
        return "each identity has one image"
    return "only one identity has several images"


def _schedule(facts: Facts) -> Schedule:
    data, gpus = facts.data, facts.machine.gpus
    row = next(each for each in LENGTHS if data.images <= each.images)
    if gpus > 1 and data.images < WORTH_SEVERAL_GPUS:
        gpus = 1
    batch = max(row.batch, IMAGES_PER_GPU * gpus) if gpus > 1 else row.batch
    while batch > max(LEAST_PER_GPU * max(1, gpus), data.images // FEWEST_STEPS):
        batch //= 2
    batch -= batch % max(1, gpus)
    side, epochs = _affordable(facts, row.epochs)
    return Schedule(epochs, batch, side, gpus)


def _affordable(facts: Facts, epochs: int) -> tuple[tuple[int, int], int]:
    """The student's input size, and the number of epochs that are feasible without a GPU."""
    size, stored = facts.student.input_size, facts.data.image_size
    shape = size
    if min(stored) < min(size) or not shows_all(stored, size):
        shape = stored
        size = _as_the_images(shape, max(size))
    if facts.machine.gpus:
        return size, epochs
    if min(size) > SMALL_SIDE and training_seconds(facts, epochs, size) > LONGEST_ON_CPU:
        size = _as_the_images(shape, SMALL_SIDE)
    longest = LONGEST_ON_CPU / training_seconds(facts, 1, size)
    return size, max(1, min(epochs, int(longest)))


def _as_the_images(images: tuple[int, int], longest: int) -> tuple[int, int]:
    """The input (height, width) of at most ``longest`` pixels with an aspect near that of
    ``images``: the largest within them that cuts at most MOST_CUT of them, or else the one that
    cuts least, which may be larger than small images.

    Its sides are multiples of STRIDE. Its shorter side is rounded down, because images may be
    cropped and show nothing beyond their edges (`teachers.framing`).
    """
    aspect = min(images) / max(images)

    def filled(side: int) -> tuple[int, int]:
        height, width = (max(1, side * each // max(images) // STRIDE) * STRIDE for each in images)
        return height, width

    def cut(size: tuple[int, int]) -> float:
        return abs(1 - min(size) / max(size) / aspect)

    sizes = [filled(side) for side in range(LEAST_SIDE, max(LEAST_SIDE, longest) + 1, STRIDE)]
    fitting = [size for size in sizes if max(size) <= max(images) and cut(size) <= MOST_CUT]
    return fitting[-1] if fitting else min(sizes, key=cut)


def training_seconds(facts: Facts, epochs: int, size: tuple[int, int]) -> float:
    """Estimated seconds on all cores of a machine without a GPU."""
    full = math.prod(facts.student.input_size)
    madds = facts.student.madds * 1e6 * math.prod(size) / full
    return facts.data.images * epochs * madds / CPU_MADDS_PER_SECOND / facts.machine.cores


def answers_bytes(facts: Facts, size: int) -> int:
    """Size of the teacher's embeddings of all images and mirrors, with ``size`` bytes per value."""
    assert facts.teacher is not None
    return facts.data.images * 2 * facts.teacher.embedding * size


def _student(facts: Facts, schedule: Schedule) -> Iterator[Choice]:
    student, teacher = facts.student, facts.teacher
    why = "from --student"
    if facts.budget is not None:
        why = f"{student.mflops:,.0f} MFLOPs at its usual input"
    yield Choice("student", "backbone", student.backbone, why)
    length = student.embedding if teacher is None else min(WIDEST, teacher.embedding)
    why = "the backbone's default"
    if teacher is not None:
        why = "the length of the teacher's embeddings, which the student imitates"
        if length < teacher.embedding:
            why = f"the teacher's {teacher.embedding:,} values are projected to this length"
    yield Choice("student", "embedding", length, why)
    if schedule.side != student.input_size:
        why = _why_other_size(facts, schedule.side)
        yield Choice("student", "input_size", list(schedule.side), why)
    if facts.budget is not None:
        yield Choice("student", "budget", {"mflops": facts.budget}, "checked before it is trained")


def _why_other_size(facts: Facts, size: tuple[int, int]) -> str:
    stored, usual = facts.data.image_size, facts.student.input_size
    if max(size) == SMALL_SIDE < min(max(stored), max(usual)):
        return _why_small(facts, facts.student)
    if not shows_all(stored, usual):
        return f"the aspect of the images, {stored[0]}x{stored[1]}"
    if max(size) > max(stored):
        return f"the smallest input; the images are {stored[0]}x{stored[1]}"
    return "no larger than the images"


def _why_small(facts: Facts, student: StudentFacts) -> str:
    height, width = student.input_size
    row = next(each for each in LENGTHS if facts.data.images <= each.images)
    time = spoken(training_seconds(facts, row.epochs, student.input_size))
    return f"without a GPU, {height}x{width} would take about {time}; use it on a GPU"


def _stage(facts: Facts, schedule: Schedule) -> Iterator[Choice]:
    data = facts.data
    if schedule.epochs < next(each for each in LENGTHS if data.images <= each.images).epochs:
        why = _why_few_epochs(facts, schedule)
    else:
        why = f"over {data.images:,} images; a longer schedule helps more than other changes"
    yield Choice("stage", "epochs", schedule.epochs, why)
    losses, reasons = _losses(facts)
    yield Choice("stage", "losses", losses, "; ".join(reasons))


def _why_few_epochs(facts: Facts, schedule: Schedule) -> str:
    cores = counted(facts.machine.cores, "core")
    seconds = training_seconds(facts, schedule.epochs, schedule.side)
    if seconds > LONGEST_ON_CPU:
        return f"one takes about {spoken(seconds)} on {cores}; use a GPU, or fewer images"
    return f"as many as {cores} can train in a day; more are better"


def _losses(facts: Facts) -> tuple[dict[str, Any], list[str]]:
    data, teacher = facts.data, facts.teacher
    losses: dict[str, Any] = {}
    reasons = []
    row = next((each for each in LABELS if each.fits(data)), None)
    if row is None and teacher is None:
        row = LABELS[-1]
    if row is not None and data.labels_teach:
        weight = {} if row.weight == 1 or teacher is None else {"weight": row.weight}
        losses["arcface"] = {**weight, "scale": row.scale, "margin": row.margin}
        why = _why_labels(row, facts)
        each = f"{data.identities:,} identities with {data.per_identity:.1f} images each"
        reasons.append(f"arcface: {each}, {why}")
    else:
        few = f"{data.per_identity:.1f} images per identity are too few for a loss on labels"
        why = few if data.labels_teach else _why_no_labels(data)
        reasons.append(f"{why}, so the student learns from the teacher alone")
    if teacher is not None:
        project = {"project": True} if teacher.embedding > WIDEST else {}
        losses["angular"] = {"weight": ANGULAR_WEIGHT, **project}
        reasons.append("angular: the weight of the VarGFaceNet paper")
    return losses, reasons


def _why_labels(row: LabelRow, facts: Facts) -> str:
    if facts.teacher is None and row.weight < 1:
        return "so scale and margin are smaller than in the paper"
    return row.reason


def _augment(facts: Facts, schedule: Schedule) -> Iterator[Choice]:
    is_large = facts.data.images > LARGEST_WITH_VIEWS
    if facts.teacher is None or is_large or schedule.epochs < LEAST_EPOCHS_WITH_VIEWS:
        return
    why = f"over {schedule.epochs} epochs, the student would memorise unchanged images"
    yield Choice("augment", "views", "fresh", why)
    yield Choice(
        "augment",
        "teacher_sees",
        "plain",
        "the teacher embeds each image and its mirror image once, not every view",
    )
    yield Choice(
        "augment",
        "plain",
        0.5,
        "half of the images stay unchanged; with none, the student underfits",
    )


def _train(facts: Facts, schedule: Schedule) -> Iterator[Choice]:
    steps = schedule.steps(facts.data.images)
    yield Choice("train", "batch_size", schedule.batch, f"{counted(steps, 'step')} per epoch")
    yield from _optimiser(facts.student, schedule)
    if schedule.batch < 256:
        yield Choice("train", "clip_gradient_norm", 5.0, "small batches have noisy gradients")
    if schedule.gpus and facts.student.madds >= HEAVY_MADDS:
        yield Choice("train", "precision", "bf16", "a large network: twice as fast on a GPU")
    else:
        why = "bf16 is no faster for a small network" if schedule.gpus else "without a GPU"
        yield Choice("train", "precision", "fp32", why)
    if facts.data.identities >= MANY_IDENTITIES and "arcface" in _losses(facts)[0]:
        yield _centres(facts.data, schedule)
    if facts.data.bytes > 0.8 * facts.machine.memory:
        why = "the images do not fit into memory, and disks are fastest in order"
        yield Choice("train", "shuffle", "windowed", why)
    every = min(2000, max(100, steps))
    yield Choice("train", "checkpoint_every", every, f"steps, of {steps * schedule.epochs:,}")
    threads = max(1, min(16, facts.machine.cores // max(1, schedule.gpus)))
    yield Choice("train", "decode_threads", threads, f"of {counted(facts.machine.cores, 'core')}")
    if facts.teacher is not None:
        yield from _answers(facts)


def _optimiser(student: StudentFacts, schedule: Schedule) -> Iterator[Choice]:
    if student.family in TRANSFORMERS:
        yield Choice("train", "optimiser", "adamw", "for networks with attention")
        yield Choice("train", "learning_rate", 1e-3, "the usual rate for AdamW, with cosine decay")
        return
    rate = 0.1 * max(1.0, schedule.batch / 512)
    why = "as in the papers, with cosine decay" + ("; 0.1 for 512 images" if rate > 0.1 else "")
    yield Choice("train", "learning_rate", round(rate, 4), why)


def _centres(data: DataFacts, schedule: Schedule) -> Choice:
    rate = 0.1 if data.identities >= MOST_IDENTITIES else 0.2
    centres: dict[str, Any] = {"sample_rate": rate}
    if schedule.gpus > 1:
        centres["sharded"] = True
    why = f"Partial FC: {data.identities:,} class weights cost more than the network"
    return Choice("train", "centres", centres, why)


def _answers(facts: Facts) -> Iterator[Choice]:
    room, half = facts.machine.free_disk, answers_bytes(facts, 2)
    if half <= LARGEST_SHARE * room:
        return
    if answers_bytes(facts, 1) <= 0.9 * room:
        why = f"float16 would take {half / 1e9:,.0f} GB of the {room / 1e9:,.0f} GB free"
        yield Choice("teacher", "answers", "int8", why)
    else:
        why = f"embeddings would take {half / 1e9:,.0f} GB of the {room / 1e9:,.0f} GB free"
        yield Choice("teacher", "answers", "online", why)


def _resources(facts: Facts, schedule: Schedule) -> Iterator[Choice]:
    if not facts.machine.gpus:
        return
    why = "all GPUs of this machine"
    if schedule.gpus < facts.machine.gpus:
        why = f"{facts.data.images:,} images do not keep several GPUs busy"
    yield Choice("resources", "gpus", schedule.gpus, why)
