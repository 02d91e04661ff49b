"""A large image set with findings, and a teacher's cache of its embeddings.

Embeddings and people are simulated (``simulate``); the images are a few hundred, repeated. The
findings are derived from the planted faults instead of computed, which would take the checks half
an hour; the proposals are those of the checks.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from drawn_store import SIDE, drawn_store
from planted_findings import finding, write_folder
from simulate import LABELS, NORM, TRUTH, UNIT, write_simulated

from curation.conversion.convert import convert
from curation.image_set import ImageSet
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding
from curation.noise.proposals import write_proposals
from curation.records.layout_writer import write_layout
from curation.store import Store
from curation.views import open_images
from teachers.cache_files import ABOUT, CacheAbout
from teachers.cache_files import NORM as NORMS
from teachers.cache_files import UNIT as UNITS

PICTURES = 512
_BLOCK = 65_536


def build(
    folder: Path,
    cache: Path,
    images: int,
    identities: int,
    pictures: Path | None,
    dimension: int = 512,
) -> Path:
    """Make ``folder/train.lmdb`` with findings, and a teacher's cache below ``cache``.

    The images are those of the store or view ``pictures``, or drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_simulated(folder, images, identities, dimension)
    labels, person = np.load(folder / LABELS), np.load(folder / TRUTH)
    files = _pictures(folder, pictures)
    records = ((files[i * 31 % len(files)], int(label)) for i, label in enumerate(labels))
    size = open_images(pictures).image_size if pictures else (SIDE, SIDE)
    write_layout(folder / "records", records, size)
    store = convert(folder / "records", folder / "train.lmdb")
    for path in (folder / "records").iterdir():
        path.unlink()
    unit, norm = np.load(folder / UNIT, mmap_mode="r"), np.load(folder / NORM)
    embedded = EmbeddedImages(labels, unit, norm, np.arange(images))
    write_proposals(write_folder(store, _findings(embedded, person)), store, embedded)
    _write_cache(cache / "simulated", store, unit, norm)
    for name in (UNIT, NORM, LABELS, TRUTH):
        (folder / name).unlink()
    return store.path


def _pictures(folder: Path, given: Path | None) -> list[bytes]:
    source: ImageSet = open_images(given) if given else drawn_store(folder / "drawn", PICTURES)
    places = np.arange(min(PICTURES, len(source)))
    return list(source.read_many(places))


def _findings(images: EmbeddedImages, person: np.ndarray) -> Iterator[Finding]:
    """Findings of the checks that are reviewed most; planted faults have high scores."""
    random = np.random.default_rng(1)
    own, identities = images.labels, images.identities
    identity = np.arange(identities)
    first = person[images.offsets[:-1]]
    is_divided = first == identity - 1
    second = np.where(person >= identities, 1, 0).astype(np.int16)
    is_mixed = np.bincount(own[second > 0], minlength=identities) > 0
    wrong = (person != own) & (second == 0) & ~is_divided[own] & (person >= 0)
    scores = _scores(wrong, random)
    yield finding(
        *("misplaced", "image", scores, _likely(scores)),
        similarity=(1 - scores) * 0.6,
        nearest=(1 - scores) * 0.7,
        other_identity=np.where(wrong, person, (own + 1) % identities),
        other_similarity=scores * 0.7,
        elsewhere=np.where(wrong, scores, 0).astype(np.float32),
    )
    scores = _scores(is_mixed, random)
    parts = {"parts": 1 + is_mixed, "smaller": np.bincount(own[second > 0], minlength=identities)}
    mixed = finding(
        "mixed", "identity", scores, _likely(scores), **parts, between=0.3 * (1 - scores)
    )
    yield Finding(**{**vars(mixed), "images": {"part": second}})
    scores, other = _scores(is_divided, random), np.maximum(identity - 1, 0)
    into = np.where(is_divided & (scores > 0.5), other, identity)
    yield finding(
        *("divided", "identity", scores, _likely(scores)),
        other_identity=other,
        similarity=0.8 * scores,
        into=into,
    )


def _likely(scores: np.ndarray) -> int:
    """How many are flagged."""
    return int((scores > 0.5).sum())


def _scores(planted: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Probabilities float32: few of the planted faults are missed, few others are flagged."""
    return np.where(
        planted, random.beta(8, 2, len(planted)), random.beta(1, 9, len(planted))
    ).astype(np.float32)


def _write_cache(folder: Path, store: Store, unit: np.ndarray, norm: np.ndarray) -> None:
    folder.mkdir(parents=True)
    about = CacheAbout(
        format_version=2,
        teacher="simulated",
        preprocessing={},
        store=store.digest,
        images=len(store),
        embedding=unit.shape[1],
        claim=1024,
    )
    arrays = {
        name: np.lib.format.open_memmap(folder / name, "w+", kind, shape)
        for name, (kind, shape) in about.arrays().items()
    }
    for begin in range(0, len(unit), _BLOCK):
        here = slice(begin, begin + _BLOCK)
        arrays[UNITS][here] = unit[here, None]
    arrays[NORMS][:] = norm[:, None]
    (folder / ABOUT).write_text(about.model_dump_json(exclude_defaults=True))
