"""Features are stored as they are computed: an interrupted command embeds only the rest."""

import errno
import io
import threading

import numpy as np
import pytest
from drawn_images import DrawnImages, GridEmbedder

from curation.pairs import VerificationPairs
from distill.evaluation.embedded_parts import EmbeddedParts, held_parts
from distill.evaluation.features import BATCH, Embedded
from distill.evaluation.set_features import NetworkFeatures


class StoppedError(Exception):
    """Stands in for Ctrl-C, without affecting other tests."""


@pytest.fixture(scope="module")
def images():
    """Two full batches and a partial one."""
    return DrawnImages(identities=75, images_each=4)


def stop_after(batches):
    def progress(done, total):
        if done >= batches * BATCH:
            raise StoppedError

    return progress


def files_of(kept):
    return sorted(path.suffix for path in kept.rglob("*") if path.is_file())


@pytest.mark.parametrize("batches", [1, 2])
def test_after_an_interruption_only_the_rest_is_embedded(images, tmp_path, batches):
    whole = NetworkFeatures(GridEmbedder()).embedded(images)
    with pytest.raises(StoppedError):
        NetworkFeatures(GridEmbedder(), tmp_path).embedded(images, stop_after(batches))
    assert files_of(tmp_path) == [".part"]
    embedder, seen = GridEmbedder(), []
    again = NetworkFeatures(embedder, tmp_path).embedded(images, lambda *at: seen.append(at))
    assert embedder.images_seen == 2 * (len(images) - batches * BATCH)
    assert seen[-1] == (len(images), len(images))
    assert np.array_equal(again.unit, whole.unit)
    assert np.array_equal(again.norms, whole.norms)
    assert files_of(tmp_path) == [".norms", ".npy"]


def test_pairs_resume_too(images, tmp_path):
    same = np.arange(len(images) // 2) % 2 == 0
    pairs = VerificationPairs(images.encoded, same, "e" * 64, "pairs")
    with pytest.raises(StoppedError):
        NetworkFeatures(GridEmbedder(), tmp_path).features(pairs, stop_after(1))
    embedder = GridEmbedder()
    again = NetworkFeatures(embedder, tmp_path).features(pairs)
    assert embedder.images_seen == 2 * (len(set(pairs.images)) - BATCH)
    assert np.array_equal(again, NetworkFeatures(GridEmbedder()).features(pairs))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: content + content[:1000],
        lambda content: content[:-100] + bytes(100),
        lambda content: b"",
    ],
    ids=["torn", "more", "zeros", "empty"],
)
def test_a_damaged_batch_is_embedded_again(images, tmp_path, damage):
    whole = NetworkFeatures(GridEmbedder()).embedded(images)
    with pytest.raises(StoppedError):
        NetworkFeatures(GridEmbedder(), tmp_path).embedded(images, stop_after(2))
    [path] = tmp_path.rglob("*.part")
    path.write_bytes(damage(path.read_bytes()))
    again = NetworkFeatures(GridEmbedder(), tmp_path).embedded(images)
    assert np.array_equal(again.unit, whole.unit)
    assert np.array_equal(again.norms, whole.norms)


def test_a_second_process_waits_and_embeds_nothing(images, tmp_path):
    whole = NetworkFeatures(GridEmbedder()).embedded(images)
    halfway, go_on = threading.Event(), threading.Event()

    def pause(done, total):
        halfway.set()
        assert go_on.wait(60)

    first = threading.Thread(
        target=lambda: NetworkFeatures(GridEmbedder(), tmp_path).embedded(images, pause)
    )
    first.start()
    assert halfway.wait(60)
    embedder, told = GridEmbedder(), []

    def progress(done, total):
        told.append((done, total))
        go_on.set()

    second = NetworkFeatures(embedder, tmp_path).embedded(images, progress)
    first.join(60)
    assert told[0] == (BATCH, len(images))
    assert embedder.images_seen == 0
    assert np.array_equal(second.unit, whole.unit)
    assert files_of(tmp_path) == [".norms", ".npy"]


def test_restoring_a_whole_set_keeps_its_partial_last_batch(tmp_path):
    stored = Embedded(np.ones((BATCH + 2, 48), np.float32), np.ones(BATCH + 2, np.float32))
    found = Embedded(np.zeros_like(stored.unit), np.zeros_like(stored.norms))
    with held_parts(tmp_path / "set.part", 48) as parts:
        parts.append(stored.at(slice(BATCH)))
        parts.append(stored.at(slice(BATCH, None)))
        size = parts.path.stat().st_size
        assert parts.restore(found) == BATCH + 2
        assert parts.path.stat().st_size == size
    assert np.array_equal(found.unit, stored.unit)


def test_a_full_disk_names_the_file(tmp_path):
    class FullDisk(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    parts = EmbeddedParts(tmp_path / "set.part", FullDisk(), 48)
    with pytest.raises(OSError, match="No space left") as error:
        parts.append(Embedded(np.zeros((1, 48), np.float32), np.zeros(1, np.float32)))
    assert error.value.filename == str(tmp_path / "set.part")


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"keep me")
    (tmp_path / "set.part").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), held_parts(tmp_path / "set.part", 48):
        pass
    assert (tmp_path / "precious").read_bytes() == b"keep me"
