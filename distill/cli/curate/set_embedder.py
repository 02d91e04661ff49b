"""Embeds image sets with a chosen teacher for the `curate` commands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import teachers
from curation.arrays import read_array, write_array
from curation.errors import UserError
from curation.files import UnreadableError, atomic_file
from curation.image_set import ImageSet
from curation.images import count_together, decode, probe_size
from curation.neighbours import normalised
from curation.noise.embedded import EmbeddedImages, EvaluationImages, TeacherChoice
from curation.pairs import read_pairs
from curation.printable import printable
from curation.progress import Progress
from curation.workspace import Workspace
from distill.network_spec import NetworkSpec
from distill.pipeline.teacher_files import find_teacher, is_bundle, open_teacher
from teachers.embedder import Embedder, embed_both
from teachers.embeddings import cache_embeddings
from teachers.preprocessing import Preprocessing
from teachers.setting_words import settings_are_options
from teachers.sources import is_onnx, missing_preprocessing
from teachers.trial import LEAST_ACCURACY, try_teacher

_BATCH = 256
KEPT = "evaluation-2"
"""Cache folder of verification embeddings; version 2 because version 1 applied EXIF rotation."""
DRAWN_FACES = "drawn-faces"
"""The bundled teacher, trained on faces like those of the sample (sample-data.md)"""
_DRAWN_FACES_SIZE = 64


@dataclass(frozen=True)
class TeacherEmbedder:
    """An ``ImageSetEmbedder`` with a teacher and a cache for its embeddings."""

    teacher: Embedder
    cache_root: Path
    least_accuracy: float = LEAST_ACCURACY
    note: Callable[[str], None] = lambda text: None

    def embed(self, images: ImageSet, progress: Progress | None) -> tuple[EmbeddedImages, str]:
        """Embed the images, after testing the teacher on a few hundred pairs; notes the result."""
        with settings_are_options():
            self.note(
                try_teacher(self.teacher, images, self.cache_root, self.least_accuracy, progress)
            )
        return embed_images(images, self.teacher, self.cache_root, progress)

    def embed_evaluation(
        self, paths: Sequence[Path], progress: Progress | None
    ) -> list[EvaluationImages]:
        return embed_evaluation(paths, self.teacher, self.cache_root / KEPT, progress)


def open_embedder(
    choice: TeacherChoice, workspace: Workspace, note: Callable[[str], None] = lambda text: None
) -> TeacherEmbedder:
    """The chosen teacher; ``UserError`` if it is missing or does not recognise faces.

    ``note`` is called with its result on the test pairs.
    """
    least = LEAST_ACCURACY if choice.least_accuracy is None else choice.least_accuracy
    with settings_are_options():
        teacher = _open(choice, workspace)
    return TeacherEmbedder(teacher, workspace.cache, least, note)


def _open(choice: TeacherChoice, workspace: Workspace) -> Embedder:
    if choice.name == DRAWN_FACES:
        path = Path(teachers.__file__).with_name("drawn_faces.onnx")
        return open_teacher(path, Preprocessing.ours((_DRAWN_FACES_SIZE,) * 2))
    path = find_teacher(choice.name, workspace)
    check_file_options(choice, path)
    preprocessing = None if is_bundle(path) else _specified(choice)
    network = None if choice.backbone is None else NetworkSpec(backbone=choice.backbone)
    return open_teacher(path, preprocessing, network, choice.part)


def check_file_options(choice: TeacherChoice, path: Path) -> None:
    """Raise ``UserError`` for an option that would have no effect on the network at ``path``."""
    if is_bundle(path) and (given := choice.file_settings):
        raise UserError(
            f"{choice.name}: --{given[0]} is for .onnx files and files of weights, and a bundle "
            "states its own; leave it out"
        )
    if choice.backbone is not None and is_onnx(path.name):
        raise UserError(f"{choice.name}: --backbone is for files of weights; leave it out")


def _specified(choice: TeacherChoice) -> Preprocessing:
    """The preprocessing from the options; never guessed, because a wrong one ruins embeddings."""
    options = choice.model_dump(include={"colour", "mean", "std"})
    if missing := missing_preprocessing(options, choice.name, choice.backbone, "--"):
        raise UserError(f"{choice.name}: {missing}")
    return Preprocessing(**options, size=(choice.size, choice.size))


def embed_images(
    images: ImageSet, teacher: Embedder, cache_root: Path, progress: Progress | None = None
) -> tuple[EmbeddedImages, str]:
    """The images with the teacher's embeddings, computed if missing, and the embeddings' digest.

    Raises the errors of ``cache_embeddings``.
    """
    cache = cache_embeddings(teacher, images, cache_root, progress)
    return EmbeddedImages(images.labels, cache.unit, cache.norm, images.rows), cache.digest


def embed_evaluation(
    paths: Sequence[Path], teacher: Embedder, cache_root: Path, progress: Progress | None = None
) -> list[EvaluationImages]:
    """Verification sets ``*.bin`` with the teacher's embeddings, cached by digest."""
    embedded = []
    for path in paths:
        pairs = read_pairs(path)
        kept = cache_root / f"{teacher.digest[:16]}-{teacher.preprocessing.digest[:16]}"
        shape = (len(pairs.images), teacher.embedding)
        vectors = _kept_vectors(kept / f"{pairs.digest}.npy", shape)
        if vectors is None:
            kept.mkdir(parents=True, exist_ok=True)
            vectors = _embed_files(path, pairs.images, teacher, progress)
            with atomic_file(kept / f"{pairs.digest}.npy") as file:
                write_array(file, vectors)
        embedded.append(
            EvaluationImages(printable(path.stem), vectors, pairs.digest, np.asarray(pairs.same))
        )
    return embedded


def _kept_vectors(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The cached vectors; None if they are missing or malformed."""
    try:
        vectors = read_array(path, np.dtype("<f4"), shape)
    except UnreadableError:
        return None
    return vectors if np.isfinite(vectors).all() else None


def _decoded(files: Sequence[bytes], what: str, first: int) -> np.ndarray:
    return np.stack([decode(file, f"{what} {number}") for number, file in enumerate(files, first)])


def _embed_files(
    path: Path, files: Sequence[bytes], teacher: Embedder, progress: Progress | None
) -> np.ndarray:
    """Normalised sums of both views' embeddings, float32 ``[P, D]``, for the images of ``path``."""
    parts = []
    together = count_together(probe_size(files[0], f"{path}: image 0"), _BATCH)
    for first in range(0, len(files), together):
        batch = _decoded(files[first : first + together], f"{path}: image", first)
        both = embed_both(teacher, batch)
        parts.append(normalised(normalised(both).sum(axis=1)))
        if progress is not None:
            progress(min(first + together, len(files)), len(files))
    return np.concatenate(parts)
