"""Measures by the groups of a table: reading, measuring and refusing tables."""

from pathlib import Path

import numpy as np
import pytest

from curation.errors import UserError
from curation.pairs import VerificationPairs, read_pairs
from curation.store import Store
from distill.evaluation.bootstrap import by_blocks
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.features import Embedded
from distill.evaluation.given_features import GivenFeatures
from distill.evaluation.set_features import EvaluationSet
from distill.evaluation.slice_tables import Attribute, quality, read_slices
from distill.evaluation.slices import Passed, slice_images
from tests.distill.evaluation.features_of_people import unit_features
from tests.memory import traced_memory


@pytest.fixture
def pairs(drawn_folder: Path) -> VerificationPairs:
    return read_pairs(drawn_folder / "pairs.bin")


def test_images_are_in_the_groups_of_their_identities(drawn_store: Store, tmp_path: Path):
    table = tmp_path / "groups.csv"
    people = np.unique(drawn_store.source_labels).tolist()
    rows = [f"{person},{'even' if person % 2 == 0 else 'odd'}, " for person in people]
    rows[0] = f"{people[0]},,old"
    table.write_text("identity,parity,age\n" + "\n".join([*rows[:-1], rows[-1] + "young"]) + "\n")
    parity, age = read_slices(table, drawn_store)
    of = drawn_store.source_labels[drawn_store.labels]
    assert [*parity.groups] == ["even", "odd"]
    assert (parity.of[of == people[0]] == -1).all()
    assert (parity.of[of != people[0]] == of[of != people[0]] % 2).all()
    assert [*age.groups] == ["old", "young"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("person,sex\n1,f\n", "the first column is named 'person'; allowed: identity or image"),
        ("identity\n1\n", "must name every attribute"),
        ("identity,sex,sex\n1,f,f\n", "must name every attribute once"),
        ("identity,sex\n1\n", "line 2 has 1 columns, the first row 2"),
        ("identity,sex\nx,f\n", "line 2: 'x' is not the number of an identity"),
        ("identity,sex\n1,f\n1,m\n", "line 3: identity 1 has other groups on an earlier line"),
        ("identity,sex\n999999,f\n", "no row has an identity of"),
        ("image,sex\n0,f\n", "the group 'f' of sex has 1 images"),
        ("image,sex\n0,\n1,\n", "sex has no groups"),
        ("image,sex,quality\n", "an attribute 'quality', which is measured for every set"),
        (f"image,{'a' * 81},{'a' * 80}b\n", "the name of an attribute has more than 80 characters"),
        ("image," + ",".join(map(str, range(101))), "names 101 attributes; allowed: 100"),
    ],
    ids=range(13),
)
def test_bad_tables_are_refused(drawn_store: Store, tmp_path: Path, text: str, message: str):
    table = tmp_path / "groups.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=message):
        read_slices(table, drawn_store)


def test_unknown_rows_are_skipped_in_little_memory(drawn_store: Store, tmp_path: Path):
    table = tmp_path / "groups.csv"
    people = np.unique(drawn_store.source_labels).tolist()
    with table.open("w") as file:
        file.write("identity,camera\n")
        file.writelines(f"{10**9 + row},{row:060}\n" for row in range(20_000))
        file.writelines(f"{person},{'ab'[person % 2]}\n" for person in people)
    with traced_memory() as memory:
        (camera,) = read_slices(table, drawn_store)
    assert [*camera.groups] == ["a", "b"]
    assert memory.peak < 1 << 20


class People:
    """An image set that has only labels."""

    name, digest = "people", "0" * 64

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)


def test_more_than_fifty_groups_are_refused(tmp_path: Path):
    table = tmp_path / "groups.csv"
    table.write_text("image,n\n" + "".join(f"{i},{i // 2}\n" for i in range(120)))
    people: EvaluationSet = People(np.zeros(120))  # type: ignore[assignment]
    with pytest.raises(UserError, match="n has more than 50 groups"):
        read_slices(table, people)  # type: ignore[arg-type]


@pytest.mark.parametrize("by_identity", [True, False], ids=["identities", "images"])
def test_within_and_across_cover_exactly_their_pairs(by_identity: bool):
    from distill.evaluation.evaluate_sets import score_all

    features, labels = unit_features(300, 40, seed=3)
    order = np.argsort(labels, kind="stable")
    features, labels = features[order], labels[order]
    of = (labels if by_identity else np.arange(300)) % 3
    whole = score_all(features, labels, intervals=False)
    attribute = Attribute("kind", ["a", "b", "c"], of)
    embedded = Embedded(features, np.ones(300, np.float32))
    people: EvaluationSet = People(labels)  # type: ignore[assignment]
    told: list[tuple[int, int]] = []
    found = slice_images(
        embedded,
        people,  # type: ignore[arg-type]
        attribute,
        whole,
        score_all,
        True,
        lambda *done: told.append(done),
    )
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (900, 900)
    threshold = np.float32(whole["tar_at_far"]["1e-3"]["cosine_threshold"])
    cosines = features @ features.T
    one, other = np.triu_indices(300, 1)
    same, scores = labels[one] == labels[other], cosines[one, other]
    reports = {("a", "a"): found["within"]["a"]}
    reports |= {tuple(each["groups"]): each for each in found["across"]}
    assert len(found["across"]) == 3
    for (first, second), report in reports.items():
        wanted = sorted("abc".index(each) for each in (first, second))
        chosen = (wanted == np.sort([of[one], of[other]], axis=0).T).all(axis=1)
        at = report["at_threshold"]
        assert report["genuine"] == (chosen & same).sum()
        assert report["impostors"] == (chosen & ~same).sum()
        assert at["far"] == pytest.approx(np.mean(scores[chosen & ~same] > threshold), abs=2e-4)
        assert at["far_interval"][0] <= at["far"] <= at["far_interval"][1]
        if report["genuine"]:
            assert at["tar"] == pytest.approx(np.mean(scores[chosen & same] > threshold), abs=5e-3)
            assert at["tar_interval"][0] <= at["tar"] <= at["tar_interval"][1]
        else:
            assert at["tar"] is None
    lowest = min("abc", key=lambda each: found["within"][each]["at_threshold"]["tar"])
    assert found["worst"]["tar_at_threshold"]["group"] == lowest


def test_pairs_are_measured_by_group_and_by_tenth_of_norms(
    pairs: VerificationPairs, tmp_path: Path
):
    images, generator = len(pairs.images), np.random.default_rng(0)
    answers = np.repeat(generator.normal(size=(images // 2, 16)), 2, axis=0)
    answers[1::2][~pairs.same] = generator.normal(size=(int((~pairs.same).sum()), 16))
    answers += generator.normal(size=answers.shape)
    np.save(tmp_path / f"{pairs.name}.npy", answers.astype(np.float32))
    table = tmp_path / "groups.tsv"
    rows = [f"{i}\t{'near' if i // 2 % 3 else 'far'}\n" for i in range(images)]
    table.write_text("image\tpose\n" + "".join(rows))
    slices = {pairs.name: read_slices(table, pairs)}
    report = evaluate(GivenFeatures(tmp_path), [pairs], slices=slices)["sets"][pairs.name]
    pose = report["slices"]["pose"]
    assert sum(each["pairs"] for each in pose["within"].values()) == len(pairs)
    assert pose["across"] == []
    assert set(pose["worst"]) >= {"eer", "auc"}
    tenths = report["slices"]["quality"]
    counted = [*tenths["within"].values(), *tenths["across"]]
    assert sum(each["pairs"] for each in counted) == len(pairs)


def test_tenths_are_equal_in_size_and_sorted_by_norm():
    norms = np.random.default_rng(0).permutation(100).astype(np.float32)
    found = quality(norms)
    assert (np.bincount(found.of) == 10).all()
    assert norms[found.of == 9].min() == 90


def test_people_of_a_pair_set_have_no_identities(pairs: VerificationPairs, tmp_path: Path):
    table = tmp_path / "groups.csv"
    table.write_text("identity,sex\n1,f\n")
    with pytest.raises(UserError, match="is a set of pairs without identities"):
        read_slices(table, pairs)


def test_many_pairs_of_a_group_are_weighted_in_bounded_memory():
    people, pairs = 2_000, 200_000
    left, right = np.random.default_rng(0).integers(people, size=(2, pairs))
    impostors = by_blocks(lambda weights: weights[:, left].sum(axis=1), pairs)
    passed = Passed(np.ones(people), np.ones(people), left, right, impostors)
    with traced_memory() as memory:
        rates = passed.rates(intervals=True)
    assert rates["far_interval"][0] < rates["far"] < rates["far_interval"][1]
    assert memory.peak < 100 << 20  # 100 draws at once took 400 MiB
