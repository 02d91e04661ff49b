from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.subsets import long_tail_cut, retina_s, write_long_tail_cut, write_retina_s

# Identity 0 has 4 images, 1 one, 2 six, 3 two, 4 three.
LABELS = np.repeat(np.arange(5), [4, 1, 6, 2, 3])


@pytest.mark.parametrize(
    ("minimum", "kept"), [(1, {0, 1, 2, 3, 4}), (2, {0, 2, 3, 4}), (4, {0, 2}), (7, set())]
)
def test_the_long_tail_cut_drops_identities_with_few_images(minimum, kept):
    assert set(LABELS[long_tail_cut(LABELS, minimum)]) == kept


@pytest.mark.parametrize(("maximum", "kept"), [(6, {0, 1, 2, 3, 4}), (3, {1, 3, 4}), (1, {1})])
def test_retina_s_drops_identities_with_many_images(maximum, kept):
    assert set(LABELS[retina_s(LABELS, maximum)]) == kept


def test_retina_s_keeps_fifty_images_and_drops_fifty_one():
    labels = np.repeat([0, 1], [50, 51])
    assert set(labels[retina_s(labels)]) == {0}


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_both_say_what_counting_one_by_one_says(labels, limit):
    counts = Counter(labels)
    array = np.array(labels, dtype=np.int32)
    assert long_tail_cut(array, limit).tolist() == [counts[label] >= limit for label in labels]
    assert retina_s(array, limit).tolist() == [counts[label] <= limit for label in labels]


@pytest.mark.parametrize(
    ("write", "limit", "name", "parameters", "images"),
    [
        (write_long_tail_cut, 3, "long-tail-cut", {"minimum": 3}, 13),
        (write_retina_s, 3, "retina-s", {"maximum": 3}, 6),
    ],
)
def test_their_views_record_the_limit(store, tmp_path, write, limit, name, parameters, images):
    view = write(tmp_path / "subset.view", store, limit)
    assert len(view) == images
    (step,) = view.history
    assert (step.name, step.parameters) == (name, parameters)
