"""One feature from several images, against loops and by hand."""

import numpy as np
import pytest

from distill.evaluation.templates import average, largest_cluster, template, without_farthest
from tests.distill.evaluation.features_of_people import normalised, unit_features


def frames_with_strangers(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Eight frames of a person and two of other people, and the person's true direction."""
    generator = np.random.default_rng(seed)
    person = generator.normal(size=16)
    own = person + 0.4 * generator.normal(size=(8, 16))
    frames = np.concatenate([own[:4], generator.normal(size=(2, 16)), own[4:]])
    return normalised(frames), normalised(person[None])[0]


def test_the_average_is_a_unit_vector():
    frames, _ = frames_with_strangers()
    expected = np.mean(frames, axis=0)
    np.testing.assert_allclose(average(frames), expected / np.linalg.norm(expected), atol=1e-6)


def test_the_farthest_fifth_is_left_out():
    frames, _ = frames_with_strangers()
    middle = frames.mean(axis=0)
    cosines = [frame @ middle for frame in frames]
    kept = [
        frame for frame, cosine in zip(frames, cosines, strict=True) if cosine > sorted(cosines)[1]
    ]
    assert len(kept) == 8
    np.testing.assert_allclose(without_farthest(frames), average(np.array(kept)), atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_frames_are_all_kept(count: int):
    frames, _ = frames_with_strangers()
    found = without_farthest(frames[:count])
    np.testing.assert_allclose(found, average(frames[:count]), atol=1e-6)


def test_the_largest_cluster_matches_a_union_find():
    for seed in range(20):
        frames, _ = unit_features(12, 4, seed, spread=0.6)
        parent = list(range(12))

        def root(node: int, parent: list[int] = parent) -> int:
            return node if parent[node] == node else root(parent[node])

        for i in range(12):
            for j in range(i):
                if frames[i] @ frames[j] > 0.5:
                    parent[max(root(i), root(j))] = min(root(i), root(j))
        roots = [root(i) for i in range(12)]
        largest = max(sorted(set(roots)), key=roots.count)
        expected = average(frames[[i for i in range(12) if roots[i] == largest]])
        np.testing.assert_allclose(largest_cluster(frames, 0.5), expected, atol=1e-6)


def test_strangers_in_a_video_do_less_harm():
    cosines = {pool: [] for pool in (average, without_farthest, largest_cluster)}
    for seed in range(30):
        frames, person = frames_with_strangers(seed)
        for pool, found in cosines.items():
            found.append(pool(frames) @ person)
    plain, dropped, clustered = (np.mean(found) for found in cosines.values())
    assert dropped > plain
    assert clustered > plain


def test_a_template_weights_media_equally():
    raw = np.array([[2.0, 0], [0, 1], [0, 3]])
    media = np.array([7, 3, 3])
    np.testing.assert_allclose(template(raw, media), normalised(np.array([[1.0, 1]]))[0])
    np.testing.assert_allclose(
        template(raw, media, by_norm=True), normalised(np.array([[2.0, 2]]))[0]
    )
