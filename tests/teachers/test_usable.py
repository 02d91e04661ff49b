"""Embeddings that a student cannot follow are refused with the image they belong to."""

import numpy as np
import pytest

from curation.errors import UserError
from teachers.usable import check_embeddings


@pytest.mark.parametrize(
    "value",
    [np.nan, np.inf, 0.0, 1e-30, 1e30],
    ids=["nan", "infinite", "zero", "too-small-for-a-norm", "too-large-for-a-norm"],
)
def test_the_image_of_a_useless_embedding_is_named(drawn_store, value):
    raw = np.ones((4, 2, 3), np.float32)
    raw[2, 1] = value
    indices = np.array([5, 6, 7, 8])
    key = drawn_store.source_keys[7]
    with pytest.raises(UserError, match=rf"image 7 \(key {key}\): .* embedding of it is zero or"):
        check_embeddings(raw, drawn_store, indices)
    with pytest.raises(UserError, match="embedding of its augmented view 4 is zero or not finite"):
        check_embeddings(raw, drawn_store, indices, np.array([-1, 3, 4, 5]))
    with pytest.raises(UserError, match="embedding of it is zero or not finite"):
        check_embeddings(raw, drawn_store, indices, np.array([0, 0, -1, 0]))


def test_usable_embeddings_are_returned(drawn_store):
    raw = np.full((2, 3), 1e-10, np.float32)
    assert check_embeddings(raw, drawn_store, np.array([0, 1])) is raw
