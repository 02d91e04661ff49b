"""Embeddings in int8 with a scale per vector."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.gallery import cosines, pack, unpack
from teachers.embedder import normalise


def features(count: int, length: int, seed: int = 0) -> np.ndarray:
    return normalise(np.random.default_rng(seed).standard_normal((count, length), np.float32))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(16, 512), size=st.floats(1e-6, 1e6))
def test_a_packed_vector_keeps_its_direction(seed: int, length: int, size: float):
    given_features = features(5, length, seed)
    codes, scales = pack((given_features * size).astype(np.float32))
    assert (codes.dtype, scales.dtype) == (np.int8, np.float32)
    assert np.sum(unpack(codes, scales) * given_features, axis=1).min() > 0.9995


def test_cosines_are_those_of_the_unpacked_gallery():
    probes, gallery = features(3, 128), features(70_000, 128, 1)
    found = cosines(probes, *pack(gallery))
    np.testing.assert_allclose(found, probes @ unpack(*pack(gallery)).T, atol=1e-6)
    np.testing.assert_allclose(found, probes @ gallery.T, atol=0.01)


def test_a_vector_of_zeros_stays_one():
    codes, scales = pack(np.zeros((2, 4), np.float32))
    assert not unpack(codes, scales).any()


def test_no_vectors_are_packed_as_none():
    codes, scales = pack(np.empty((0, 4), np.float32))
    assert cosines(features(2, 4), codes, scales).shape == (2, 0)


@pytest.mark.parametrize("wrong", [np.full((1, 2), np.nan), np.zeros(3), np.full((1, 2), np.inf)])
def test_anything_but_finite_vectors_is_refused(wrong: np.ndarray):
    with pytest.raises(ValueError, match="must be finite"):
        pack(wrong)
