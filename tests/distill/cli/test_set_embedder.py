"""Embeds images with a teacher: cached by digest, and complete for evaluation sets."""

import io
from pathlib import Path

import numpy as np
import pytest

import teachers
from curation.errors import UserError
from curation.images import decode, encode_jpeg
from curation.noise.embedded import TeacherChoice
from curation.pairs import read_pairs, write_pairs
from curation.store import Store
from curation.subsets import write_cap
from curation.workspace import Workspace
from distill.cli.curate.set_embedder import embed_evaluation, embed_images, open_embedder
from distill.pipeline.teacher_files import find_teacher
from teachers.embedder import embed_mirrored
from teachers.preprocessing import Preprocessing


class Squares:
    """A teacher that returns the mean colours of four squares and counts its images."""

    digest = "5a" * 32
    embedding = 12
    preprocessing = Preprocessing.ours((4, 4))
    on_gpu = False

    def __init__(self) -> None:
        self.shown = 0

    def embed(self, images: np.ndarray) -> np.ndarray:
        self.shown += len(images)
        height, width = images.shape[1] // 2, images.shape[2] // 2
        squares = images.reshape(len(images), 2, height, 2, width, 3).mean(axis=(2, 4))
        return squares.reshape(len(images), 12).astype(np.float32) - 100


def test_images_are_embedded_once_upright_and_mirrored(drawn_store: Store, tmp_path: Path) -> None:
    teacher = Squares()
    images, digest = embed_images(drawn_store, teacher, tmp_path)
    assert (len(images), images.identities, images.dimension) == (48, 6, 12)
    pixels = np.stack([decode(drawn_store.read(i)) for i in (0, 20, 47)])
    expected = embed_mirrored(Squares(), pixels)
    similar = np.einsum("nd,nd->n", images.vectors(np.array([0, 20, 47])), expected)
    assert similar.min() > 0.999  # half-precision sums of both views' unit vectors
    lengths = np.linalg.norm(Squares().embed(pixels), axis=1)
    mirrored = np.linalg.norm(Squares().embed(pixels[:, :, ::-1]), axis=1)
    np.testing.assert_allclose(
        images.lengths()[[0, 20, 47]], (lengths + mirrored) / 2, rtol=1e-3
    )  # fmt: skip
    shown = teacher.shown
    again, same = embed_images(drawn_store, teacher, tmp_path)
    assert (same, teacher.shown) == (digest, shown)
    np.testing.assert_array_equal(again.vectors(slice(None)), images.vectors(slice(None)))


def test_a_view_uses_the_embeddings_of_its_store(drawn_store: Store, tmp_path: Path) -> None:
    whole, digest = embed_images(drawn_store, Squares(), tmp_path / "cache")
    view = write_cap(tmp_path / "few.view", drawn_store, 3)
    teacher = Squares()
    part, same = embed_images(view, teacher, tmp_path / "cache")
    assert (same, teacher.shown) == (digest, 0)
    assert part.sizes.tolist() == [3] * 6
    np.testing.assert_array_equal(part.vectors(slice(None)), whole.vectors(view.rows))


def test_evaluation_sets_are_embedded_once_under_any_name(
    drawn_folder: Path, tmp_path: Path
) -> None:
    teacher = Squares()
    seen: list[tuple[int, int]] = []
    sets = [drawn_folder / "pairs.bin"]
    (first,) = embed_evaluation(sets, teacher, tmp_path, lambda *steps: seen.append(steps))
    pairs = read_pairs(drawn_folder / "pairs.bin")
    assert (first.name, first.digest, len(first.vectors)) == ("pairs", pairs.digest, 80)
    assert seen[-1] == (80, 80)
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1, rtol=1e-5)
    shown = teacher.shown
    (tmp_path / "other.bin").write_bytes((drawn_folder / "pairs.bin").read_bytes())
    (again,) = embed_evaluation([tmp_path / "other.bin"], teacher, tmp_path)
    assert (again.name, teacher.shown) == ("other", shown)
    np.testing.assert_array_equal(again.vectors, first.vectors)


def as_file(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_damaged_evaluation_cache_is_recomputed(drawn_folder: Path, tmp_path: Path) -> None:
    sets = [drawn_folder / "pairs.bin"]
    (first,) = embed_evaluation(sets, Squares(), tmp_path)
    (file,) = tmp_path.rglob("*.npy")
    strange = [np.zeros((3, 12), np.float32), np.full((80, 12), np.nan, np.float32), np.arange(80)]
    for content in (b"", b"nothing", file.read_bytes()[:-50], *map(as_file, strange)):
        file.write_bytes(content)
        (again,) = embed_evaluation(sets, Squares(), tmp_path)
        np.testing.assert_array_equal(again.vectors, first.vectors)


def test_an_image_without_an_embedding_stays_zero(tmp_path: Path) -> None:
    """An image of exactly the mean colour embeds as zero and resembles no other."""
    flat = encode_jpeg(np.full((8, 8, 3), 100, np.uint8), 100)
    write_pairs(tmp_path / "flat.bin", [flat, flat], [True])
    (found,) = embed_evaluation([tmp_path / "flat.bin"], Squares(), tmp_path / "cache")
    np.testing.assert_array_equal(found.vectors, 0)


@pytest.mark.parametrize("name", ["none.onnx", "none", "deep/none"])
def test_a_missing_teacher_names_the_searched_places(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"there is no network '{name}' \(looked for .*give an"):
        find_teacher(name, Workspace(tmp_path / "ws"))


def test_an_unfinished_job_is_not_a_teacher_yet(tmp_path: Path) -> None:
    (tmp_path / "runs" / "sample").mkdir(parents=True)
    with pytest.raises(UserError, match="job 'sample' has no bundle yet; `distill show sample`"):
        find_teacher("sample", Workspace(tmp_path))


def test_teachers_are_found_in_the_workspace(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    place.teachers.mkdir(parents=True)
    (place.teachers / "big.onnx").write_bytes(b"x")
    assert find_teacher("big.onnx", place) == place.teachers / "big.onnx"
    bundle = place.runs / "job" / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text("{}")
    assert find_teacher("job", place) == bundle


def test_teachers_are_found_by_path_anywhere(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "ws")
    (tmp_path / "big.onnx").write_bytes(b"x")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text("{}")
    for path in (tmp_path / "big.onnx", bundle):
        assert find_teacher(str(path), place) == path


def test_the_bundled_teacher_recognises_faces(drawn_store: Store, tmp_path: Path) -> None:
    embedder = open_embedder(TeacherChoice(name="drawn-faces"), Workspace(tmp_path))
    images, _ = embedder.embed(drawn_store, None)
    assert len(images) == 48
    np.testing.assert_allclose(np.linalg.norm(images.vectors(slice(None)), axis=1), 1, rtol=1e-4)


def test_preprocessing_of_an_onnx_teacher_is_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "big.onnx").write_bytes(b"x")
    with pytest.raises(UserError, match="give the network's preprocessing"):
        open_embedder(TeacherChoice(name=str(tmp_path / "big.onnx")), Workspace(tmp_path))


def test_an_error_names_options_and_no_keys_of_a_spec(tmp_path: Path) -> None:
    """The user of `curate check` passed options; a job spec would say `size = [64, 64]`."""
    drawn = str(Path(teachers.__file__).with_name("drawn_faces.onnx"))
    choice = TeacherChoice(name=drawn, colour="RGB", mean=127.5, std=127.5, size=96)
    with pytest.raises(UserError, match=r"set its size: --size 64$"):
        open_embedder(choice, Workspace(tmp_path))
