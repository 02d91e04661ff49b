"""The checks on unlabelled images, each an identity of its own."""

import numpy as np
import pytest
from simulated_people import people

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.neighbours import normalised
from curation.noise.analysis import analyse
from curation.noise.checks.overlap import find_overlap
from curation.noise.checks.unusable import unusable_probability
from curation.noise.clean import write_clean
from curation.noise.decisions import Decision, read_decisions
from curation.noise.embedded import EmbeddedImages, EvaluationImages
from curation.noise.findings import Findings, findings_folder
from curation.noise.label_errors import estimate_label_errors
from curation.report.page import write_report
from curation.store import Store
from curation.unlabelled import with_each_alone


@pytest.fixture
def street(tmp_path) -> Store:
    """Sixty different unlabelled images, and the last one once more."""
    random = np.random.default_rng(0)
    (tmp_path / "street").mkdir()
    for number in range(61):
        if number < 60:
            picture = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        (tmp_path / "street" / f"{number}.jpg").write_bytes(encode_jpeg(picture))
    return convert(tmp_path / "street", tmp_path / "street.lmdb")


def embedded(count: int, seed: int = 0) -> EmbeddedImages:
    vectors = normalised(np.random.default_rng(seed).normal(size=(count, 64)))
    vectors[-1] = vectors[-2]
    return EmbeddedImages(np.arange(count), vectors, np.full(count, 10.0), np.arange(count))


def test_duplicates_are_found_among_all_images(street, tmp_path):
    findings = analyse(street, embedded(61), "e" * 64, findings_folder(street))
    found = findings.load("duplicate")
    assert (found.subjects.tolist(), found.evidence["of"].tolist()) == ([60], [59])
    assert not any(findings.load(name).flagged.any() for name in ("misplaced", "mixed", "overlap"))
    assert Findings(findings.path, street).meta.identities == 61
    decisions = read_decisions(findings.path / "decisions.tsv", street.digest)
    clean = write_clean(tmp_path / "clean.view", street, decisions)
    assert (len(clean), clean.identities, clean.unlabelled) == (60, 0, 60)
    report = write_report(tmp_path / "report.html", street, findings)
    assert "no label" in report.path.read_text()


def test_a_decision_can_merge_unlabelled_images(street, tmp_path):
    decisions = [
        Decision("merge", 4, into=7),
        Decision("move", 9, image=9, into=7),
        Decision("split", 12, image=12, into=1),
        Decision("drop", 20, image=20),
    ]
    view = write_clean(tmp_path / "clean.view", street, decisions)
    assert view.labels.tolist() == [0, 0, 0, 1] + [-1] * 56
    assert view.rows[:4].tolist() == [4, 7, 9, 12]
    with pytest.raises(UserError, match="there is no identity 61; there are 61"):
        write_clean(tmp_path / "no.view", street, [Decision("merge", 61, into=7)])


def test_short_embeddings_are_unusable():
    images = embedded(400)
    norm = np.where(np.arange(400) % 20 == 0, 1.0, 10.0)
    norm *= np.random.default_rng(1).uniform(0.8, 1.2, 400)
    images = EmbeddedImages(images.labels, images.unit, norm, images.rows)
    found = unusable_probability(images, estimate_label_errors(images)) > 0.5
    assert found.tolist() == (np.arange(400) % 20 == 0).tolist()


def test_people_of_evaluation_sets_are_found_by_their_pairs():
    vectors = people([4] * 500, spread=0.4)[0].reshape(500, 4, -1)
    lone = EmbeddedImages(np.arange(150), vectors[:150, 0], np.ones(150), np.arange(150))
    pairs = vectors[120:, 1:3].reshape(760, -1)
    label_errors = estimate_label_errors(lone)
    without = find_overlap(lone, label_errors, [EvaluationImages("set", pairs)])
    assert not without.probability.any()
    sets = [EvaluationImages("set", pairs, same=np.ones(380, bool))]
    found = find_overlap(lone, label_errors, sets).probability > 0.5
    assert found.tolist() == [False] * 120 + [True] * 30


def test_an_unlabelled_image_counts_as_an_identity(street):
    alone = with_each_alone(street)
    assert (alone.identities, alone.unlabelled, alone.digest) == (61, 0, street.digest)
    assert alone.labels.tolist() == list(range(61))
    assert alone.offsets.tolist() == list(range(62))
    assert alone.read(3) == street.read(3)
