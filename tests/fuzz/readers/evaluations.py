"""Inputs of an evaluation: lists of pairs, groups, foreign embeddings, and cached embeddings."""

import random
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from curation.pairs import VerificationPairs
from curation.progress import Progress
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.features import Embedded
from distill.evaluation.given_features import GivenFeatures
from distill.evaluation.measurable import check_measurable
from distill.evaluation.protocols.protocol import open_protocol
from distill.evaluation.set_features import EvaluationSet, NetworkFeatures, image_count
from distill.evaluation.set_source import SetSource
from distill.evaluation.slice_tables import read_slices
from teachers.preprocessing import Preprocessing
from tests.distill.evaluation.small_protocols import write_lfr, write_matrix, write_megaface
from tests.fuzz.harness import Files, Special, reader, take_in
from tests.fuzz.mutators import change_npy
from tests.fuzz.small_sets import images, npy, small_store

_DIMENSIONS = 6
_folders: list[tempfile.TemporaryDirectory[str]] = []


class _Drawn:
    """A network whose embeddings are random, so that they take no time."""

    digest = embedder = preprocessing = "12" * 32

    def features(self, each: EvaluationSet, progress: Progress | None = None) -> np.ndarray:
        return self.embedded(each).unit

    def embedded(self, each: EvaluationSet, progress: Progress | None = None) -> Embedded:
        raw = np.random.default_rng(0).normal(size=(image_count(each), _DIMENSIONS))
        norms = np.linalg.norm(raw, axis=1)
        return Embedded((raw / norms[:, None]).astype(np.float32), norms.astype(np.float32))

    def check(self, each: EvaluationSet) -> None:
        pass


@cache
def _pairs() -> VerificationPairs:
    """Forty pairs of the sixteen images."""
    chosen = [images()[place % 16] for i in range(40) for place in (i, i + 1 + i // 16)]
    return VerificationPairs(chosen, np.arange(40) % 2 == 0, "12" * 32, "pairs")


def _rewrite(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Rewrite a text as other editors would save it."""
    names = sorted(name for name in files if name.endswith((".csv", ".tsv", ".txt")))
    name = rng.choice(names or [""])
    content = files.get(name)
    if isinstance(content, bytes) and content:
        text = content.decode("utf-8", "replace")
        text = text.replace("\n", rng.choice(("\n", "\r\n", "\n\n", "\r")))
        encoding = rng.choice(("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"))
        files[name] = text.encode(encoding, "replace")


def _lists() -> list[Files]:
    names = [f"{person}/{person}_{number:04d}.jpg" for person in "ab" for number in range(1, 9)]
    files = dict(zip(names, images(), strict=True))
    same = [
        (f"{p}/{p}_000{i}.jpg", f"{p}/{p}_000{i + 1}.jpg", 1) for p in "ab" for i in range(1, 7)
    ]
    other = [(f"a/a_000{i}.jpg", f"b/b_000{i}.jpg", 0) for i in range(1, 9)] * 2
    paths = "".join(f"{left},{right},{label}\n" for left, right, label in [*same, *other])
    mates = "".join(f"{p}\t{i}\t{i + 1}\n" for p in "ab" for i in range(1, 7))
    strangers = "".join(f"a\t{i}\tb\t{i}\n" for i in range(1, 7))
    lfw = "2\t6\n" + "".join(f"{mates[: 6 * 6]}{strangers}" for _ in range(2))
    return [{**files, "pairs.csv": paths.encode()}, {**files, "pairs.txt": lfw.encode()}]


@reader("evaluated pairs", _lists, [_rewrite], share=0.5)
def read_pairs(folder: Path) -> None:
    """Score the pairs of a list."""
    name = "pairs.csv" if (folder / "pairs.csv").exists() else "pairs.txt"
    found = SetSource(folder / name, folder).open()
    assert isinstance(found, VerificationPairs)
    check_measurable(found)
    evaluate(_Drawn(), [found], intervals=len(found) < 1000)


def _tables() -> list[Files]:
    evaluate(_Drawn(), [small_store()])  # imports PyTorch before the address space is limited
    sides = "".join(f"{i},{'ab'[i % 2]},{'day' if i < 40 else ''}\n" for i in range(80))
    quoted = 'identity;"a; b"\r\n0;x\r\n\r\n1;x\r\n2;y\r\n'
    return [
        {"groups.csv": f"image,sex,light\n{sides}".encode()},
        {"groups.tsv": b"identity\tsex\tage\n0\tx\told\n1\ty\t\n2\ty\told\n3\tx\tyoung\n"},
        {"groups.csv": b"\xef\xbb\xbf" + quoted.encode()},
        {"groups.csv": "identity,sex\n0,x\n1,y\n2,y\n".encode("utf-16")},
    ]


@reader("groups", _tables, [_rewrite], share=0.5)
def read_groups(folder: Path) -> None:
    """Measure by the groups of a table: pairs if it names images, otherwise images by person."""
    name = "groups.csv" if (folder / "groups.csv").exists() else "groups.tsv"
    path = folder / name
    of_images = path.is_file() and path.read_bytes()[:5] == b"image"
    each = _pairs() if of_images else small_store()
    evaluate(_Drawn(), [each], intervals=False, slices={each.name: read_slices(path, each)})


@cache
def _protocol(name: str) -> EvaluationSet:
    _folders.append(tempfile.TemporaryDirectory())
    folder = Path(_folders[-1].name)
    {"lfr": write_lfr, "megaface": write_megaface}[name](folder)
    return open_protocol(name, folder)


def _given() -> list[Files]:
    evaluate(_Drawn(), [small_store()])
    embeddings = {each.name: _Drawn().features(each) for each in (_pairs(), small_store())}
    with tempfile.TemporaryDirectory() as folder:
        write_matrix(Path(folder) / "lfr.bin", _Drawn().features(_protocol("lfr")))
        lfr = take_in(Path(folder))
    return [{f"{name}.npy": npy(array) for name, array in embeddings.items()}, lfr]


@reader("embeddings of others", _given, share=0.5)
def read_given(folder: Path) -> None:
    """Score the given embeddings."""
    answers = GivenFeatures(folder)
    lfr = (folder / "lfr.bin").exists()
    sets: list[EvaluationSet] = [_protocol("lfr")] if lfr else [_pairs(), small_store()]
    evaluate(answers, sets, intervals=False)


class _Asked:
    """A network that embeds at once and whose embeddings are known."""

    digest, embedding, on_gpu = "34" * 32, _DIMENSIONS, False
    preprocessing = Preprocessing.ours((24, 20))

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        means = pixels.reshape(len(pixels), -1, _DIMENSIONS).mean(axis=1, dtype=np.float64)
        return (means - means.mean()).astype(np.float32)


def _kept() -> list[Files]:
    with tempfile.TemporaryDirectory() as folder:
        NetworkFeatures(_Asked(), Path(folder)).embedded(_pairs())
        whole = take_in(Path(folder))
    return [whole]


def _reshape(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change the header or a number of a cached array."""
    name = rng.choice(sorted(files) or [""])
    content = files.get(name)
    if isinstance(content, bytes):
        files[name] = change_npy(rng, content)


@reader("kept embeddings", _kept, [_reshape], share=0.5)
def read_kept(folder: Path) -> None:
    """Load the cached embeddings of a set, or recompute them."""
    found = NetworkFeatures(_Asked(), folder).embedded(_pairs())
    assert found.unit.shape == (80, _DIMENSIONS)
    evaluate(_Drawn(), [_pairs()], intervals=False)
