import pytest

from curation import batches as module
from curation.batches import batches
from curation.conversion.convert import convert
from curation.sources.folders import read_folder
from curation.verify import verify
from tests.memory import traced_memory


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([], []),
        ([1, 1, 1, 1], [[1, 1, 1], [1]]),
        ([9, 1, 1], [[9], [1, 1]]),
        ([4, 4, 4, 100, 1], [[4, 4], [4, 100], [1]]),
        ([0, 0, 0, 0], [[0, 0, 0], [0]]),
    ],
    ids=["none", "count", "large", "bytes", "empty"],
)
def test_lists_end_by_count_or_by_bytes(monkeypatch, sizes, wanted):
    monkeypatch.setattr(module, "MOST_BYTES", 8)
    assert list(batches(sizes, 3, lambda size: size)) == wanted


def test_large_files_are_not_held_together(tmp_path, noise_images):
    large = noise_images[0] + bytes(4 << 20)
    for number in range(40):
        path = tmp_path / "faces" / "anna" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(large)
    with traced_memory() as reading:
        for _ in read_folder(tmp_path / "faces").images():
            pass
    store = convert(tmp_path / "faces", tmp_path / "a.lmdb")
    with traced_memory() as verifying:
        assert verify(store.path, decoding=True)["sound"]
    assert reading.peak < 64 << 20  # all are 160 MiB
    assert verifying.peak < 64 << 20
