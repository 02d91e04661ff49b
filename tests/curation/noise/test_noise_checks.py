"""Every registered check keeps its contract on a small set."""

import re

import numpy as np
import pytest
from simulated_people import embedded, people

from curation.noise.check import FLAG, Context, all_checks
from curation.noise.embedded import EvaluationImages
from curation.noise.findings import Finding, save_finding
from curation.noise.label_errors import estimate_label_errors
from curation.store import Store


def context(store: Store, wrong: int = 5) -> Context:
    """The drawn images as simulated people: one of six is misplaced, one is in the
    evaluation set.
    """
    vectors, person = people([8] * 10)
    vectors, labels = vectors[:48], person[:48]
    vectors[wrong] = people([8] * 10)[0][20]
    images = embedded(vectors, labels, np.linspace(10, 20, 48).astype(np.float32))
    evaluation = [EvaluationImages("pairs", people([8] * 10)[0][44:])]
    return Context(store, images, estimate_label_errors(images), evaluation)


@pytest.fixture(scope="module")
def found(drawn_store: Store) -> dict[str, Finding]:
    """The finding of each check."""
    seen = context(drawn_store)
    return {name: check.score(seen) for name, check in all_checks().items()}


def test_the_checks_of_the_documentation_are_registered() -> None:
    assert list(all_checks()) == [
        "misplaced",
        "mixed",
        "divided",
        "duplicate",
        "unusable",
        "overlap",
    ]


@pytest.mark.parametrize("name", all_checks())
def test_scores_are_probabilities_flagged_above_one_half(
    name: str, found: dict[str, Finding]
) -> None:
    one, check = found[name], all_checks()[name]
    assert (one.check, one.subject) == (name, check.subject)
    assert ((one.scores >= 0) & (one.scores <= 1)).all()
    np.testing.assert_array_equal(one.flagged, one.scores > FLAG)


@pytest.mark.parametrize("name", all_checks())
def test_arrays_have_the_length_of_the_subjects(name: str, found: dict[str, Finding]) -> None:
    one = found[name]
    length = len(one.subjects)
    for array in (one.scores, one.flagged, *one.evidence.values()):
        assert array.shape == (length,)
    assert len(set(one.subjects.tolist())) == length
    assert all(array.shape == (48,) for array in one.images.values())
    if all_checks()[name].scores_all:
        assert length == {"image": 48, "identity": 6}[one.subject]


@pytest.mark.parametrize("name", all_checks())
def test_the_docstring_names_the_evidence(name: str, found: dict[str, Finding]) -> None:
    documented = all_checks()[name].score.__doc__ or ""
    for column in (*found[name].evidence, *found[name].images):
        assert re.search(rf"\b{column}\b", documented), column


@pytest.mark.parametrize("name", all_checks())
def test_the_summary_is_a_sentence_with_its_numbers(name: str, found: dict[str, Finding]) -> None:
    summary = found[name].summary
    assert str(int(found[name].flagged.sum())) in summary
    assert len(summary) > 20


@pytest.mark.parametrize("name", all_checks())
def test_no_array_needs_a_pickle(name: str, found: dict[str, Finding], tmp_path) -> None:
    save_finding(tmp_path, found[name])
    with np.load(tmp_path / f"{name}.npz", allow_pickle=False) as arrays:
        assert {"subjects", "scores", "flagged"} <= set(arrays.files)


def test_planted_faults_are_found(found: dict[str, Finding]) -> None:
    assert np.flatnonzero(found["misplaced"].flagged).tolist() == [5]
    assert found["misplaced"].evidence["other_identity"][5] == 2
    assert np.flatnonzero(found["overlap"].flagged).tolist() == [5]


def test_single_images_have_no_similarity_to_their_identity(drawn_store: Store) -> None:
    vectors, _ = people([8] * 6)
    labels = np.minimum(np.arange(48) // 8 + (np.arange(48) == 47), 6)
    images = embedded(vectors, labels)
    one = all_checks()["misplaced"].score(
        Context(drawn_store, images, estimate_label_errors(images))
    )
    assert np.isnan(one.evidence["similarity"]).tolist() == [False] * 47 + [True]
    assert one.summary.endswith("; 1 image cannot be judged: no other image of the identity")
