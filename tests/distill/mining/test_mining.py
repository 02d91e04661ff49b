"""Mining compared with loops over all triplets, one distance at a time."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.mining import batch_hard, semi_hard, semi_hard_centres, statistics

MARGIN = 0.5


def batch(images=12, identities=4, dimensions=3, seed=0):
    """Few dimensions, so that all distances occur; float64, so that there are no near ties."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(images, dimensions, dtype=torch.float64, generator=generator)
    labels = torch.randint(identities, (images,), generator=generator)
    return F.normalize(embeddings), labels


batches = st.builds(
    batch, st.integers(1, 14), st.integers(1, 6), st.integers(2, 4), st.integers(0, 10_000)
)


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True))


def pairs(labels):
    for a, p in product(range(len(labels)), repeat=2):
        if a != p and labels[a] == labels[p]:
            yield a, p


def slow_semi_hard(embeddings, labels, negatives, may_be_negative, margin):
    """{(anchor, positive): {negative: distance}} for every pair."""
    found = {}
    for a, p in pairs(labels.tolist()):
        near = distance(embeddings[a], embeddings[p])
        found[a, p] = {
            n: far
            for n in range(len(negatives))
            if may_be_negative(a, n)
            and near < (far := distance(embeddings[a], negatives[n])) < near + margin
        }
    return found


def slow_semi_hard_in_batch(embeddings, labels, margin):
    def differs(a, n):
        return labels[a] != labels[n]

    return slow_semi_hard(embeddings, labels, embeddings, differs, margin)


def as_tuples(triplets):
    return list(
        zip(
            triplets.anchors.tolist(),
            triplets.positives.tolist(),
            triplets.negatives.tolist(),
            strict=True,
        )
    )


def assert_chosen_from(expected, triplets, choice):
    """One of the expected negatives for each pair that has any, and none for the others."""
    chosen = {(a, p): n for a, p, n in as_tuples(triplets)}
    assert chosen.keys() == {pair for pair, negatives in expected.items() if negatives}
    assert triplets.candidates == len(expected)
    for pair, negative in chosen.items():
        assert negative in expected[pair]
        if choice == "hardest":
            assert negative == min(expected[pair], key=expected[pair].get)


@settings(deadline=None, max_examples=60)
@given(batches, st.sampled_from(["random", "hardest"]), st.sampled_from([0.05, 0.2, 4.0]))
def test_semi_hard_negatives_are_those_of_the_rule(given_batch, choice, margin):
    expected = slow_semi_hard_in_batch(*given_batch, margin)
    assert_chosen_from(expected, semi_hard(*given_batch, margin, choice), choice)


@settings(deadline=None, max_examples=60)
@given(batches, st.sampled_from(["random", "hardest"]), st.integers(0, 99))
def test_semi_hard_centres_are_of_absent_identities(given_batch, choice, seed):
    embeddings, labels = given_batch
    # With the seed of the batch, centres would equal images, and distances would tie.
    centres, _ = batch(images=9, dimensions=embeddings.shape[1], seed=20_000 + seed)
    held = set(labels.tolist())
    expected = slow_semi_hard(embeddings, labels, centres, lambda a, n: n not in held, MARGIN)
    mined = semi_hard_centres(embeddings, labels, embeddings @ centres.T, MARGIN, choice)
    assert_chosen_from(expected, mined, choice)


@settings(deadline=None, max_examples=60)
@given(batches)
def test_batch_hard_takes_farthest_positive_nearest_negative(given_batch):
    embeddings, labels = given_batch
    expected = []
    for a in range(len(labels)):
        others = [k for k in range(len(labels)) if k != a]
        to = {k: distance(embeddings[a], embeddings[k]) for k in others}
        positives = [k for k in others if labels[k] == labels[a]]
        negatives = [k for k in others if labels[k] != labels[a]]
        if positives and negatives:
            expected.append((a, max(positives, key=to.get), min(negatives, key=to.get)))
    mined = batch_hard(embeddings, labels)
    assert as_tuples(mined) == expected
    assert mined.candidates == len(labels)


def on_circle(*squared):
    """Unit vectors at these squared distances from the first."""
    cosines = torch.tensor([1.0, *(1 - s / 2 for s in squared)], dtype=torch.float64)
    return torch.stack([cosines, (1 - cosines**2).clamp_min(0).sqrt()], dim=1)


@pytest.mark.parametrize(
    ("negative", "taken"),
    [(0.29, False), (0.31, True), (0.49, True), (0.51, False)],
)
def test_both_inequalities_of_the_rule_count(negative, taken):
    """Not nearer than the positive, as the looser rule would allow, and not beyond the margin."""
    embeddings, labels = on_circle(0.3, negative), torch.tensor([0, 0, 1])
    assert ((0, 1, 2) in as_tuples(semi_hard(embeddings, labels, 0.2))) == taken


def test_a_negative_as_far_as_the_positive_is_not_semi_hard():
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert len(semi_hard(embeddings, torch.tensor([0, 0, 1]), 0.2, anchors=slice(0, 1))) == 0


def test_every_semi_hard_negative_has_the_same_chance():
    embeddings = on_circle(0.3, 0.32, 0.36, 0.4, 0.45, 2.0)
    labels = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    generator = torch.Generator().manual_seed(0)
    counts = dict.fromkeys(range(2, 6), 0)
    for _ in range(2000):
        mined = semi_hard(embeddings, labels, 0.2, "random", slice(0, 1), generator)
        [(_, _, negative)] = as_tuples(mined)
        counts[negative] += 1
    assert all(420 < count < 580 for count in counts.values()), counts


@pytest.mark.parametrize("choice", ["random", "hardest"])
def test_anchors_of_several_calls_give_the_triplets_of_one(choice):
    embeddings, labels = batch(24, 5)

    def mine(anchors):
        generator = torch.Generator().manual_seed(3)
        return as_tuples(semi_hard(embeddings, labels, MARGIN, choice, anchors, generator))

    assert mine(slice(0, 8)) + mine(slice(8, 24)) == mine(slice(None))
    hard = [as_tuples(batch_hard(embeddings, labels, s)) for s in (slice(0, 8), slice(8, 24))]
    assert hard[0] + hard[1] == as_tuples(batch_hard(embeddings, labels))


def test_pairs_looked_at_a_few_at_a_time_give_the_same(monkeypatch):
    embeddings, labels = batch(24, 5)
    whole = as_tuples(semi_hard(embeddings, labels, MARGIN, "hardest"))
    monkeypatch.setitem(semi_hard.__globals__, "AT_ONCE", 50)
    assert as_tuples(semi_hard(embeddings, labels, MARGIN, "hardest")) == whole


NOTHING = {
    "one image": (torch.eye(1, 3), torch.tensor([0])),
    "one identity": (F.normalize(torch.ones(4, 3)), torch.zeros(4, dtype=torch.long)),
    "identities of one image": (torch.eye(3), torch.arange(3)),
}


@pytest.mark.parametrize("case", NOTHING)
def test_without_candidates_there_are_no_triplets(case):
    embeddings, labels = NOTHING[case]
    for mined in (
        semi_hard(embeddings, labels, 0.2),
        semi_hard(embeddings, labels, 0.2, "hardest"),
        batch_hard(embeddings, labels),
        semi_hard_centres(embeddings, labels, embeddings @ torch.eye(4, 3).T, 1e-6),
    ):
        assert as_tuples(mined) == []
        found = statistics(mined.totals(0.2))
        assert [found["mined_share"].item(), found["margin_violation"].item()] == [0.0, 0.0]


def test_a_collapsed_network_has_no_semi_hard_negatives():
    embeddings = F.normalize(torch.ones(8, 4))
    assert len(semi_hard(embeddings, torch.arange(8) // 2, 0.2)) == 0
    hard = batch_hard(embeddings, torch.arange(8) // 2)
    assert statistics(hard.totals(0.2))["margin_violation"].item() == pytest.approx(0.2)


def test_statistics_tell_how_many_violate_and_by_how_much():
    embeddings, labels = batch(16, 4)
    mined = batch_hard(embeddings, labels)
    violations = [
        distance(embeddings[a], embeddings[p]) - distance(embeddings[a], embeddings[n]) + 0.2
        for a, p, n in as_tuples(mined)
    ]
    violating = [violation for violation in violations if violation > 0]
    found = statistics(mined.totals(0.2))
    assert found["mined_share"].item() == pytest.approx(len(violating) / 16)
    assert found["margin_violation"].item() == pytest.approx(sum(violating) / len(violating))


def test_statistics_of_parts_add_up():
    embeddings, labels = batch(24, 5)
    parts = [semi_hard(embeddings, labels, 0.2, "hardest", s) for s in (slice(9), slice(9, 24))]
    whole = semi_hard(embeddings, labels, 0.2, "hardest")
    total = parts[0].totals(0.2) + parts[1].totals(0.2)
    assert torch.allclose(total, whole.totals(0.2))
