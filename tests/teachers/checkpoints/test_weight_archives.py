"""The archives of torch.save: elements are read at their offsets, impossible ones are refused."""

import re
import zipfile

import pytest
import torch
from weight_samples import archive_of, equal, refused, small, tensor_of, weights

from curation.errors import UserError
from teachers import weight_files
from teachers.checkpoints import load_checkpoint
from tests.memory import traced_memory


@pytest.mark.parametrize(
    "description",
    [
        {"offset": 1},
        {"offset": -1, "size": (1,)},
        {"size": (3,)},
        {"size": (-1,)},
        {"size": (2, 2), "stride": (1, 1)},
        {"size": (2,), "stride": (-1,)},
        {"size": (2,), "stride": (1 << 61,)},
        {"size": (1 << 40, 1 << 40), "stride": (0, 0)},
        {"size": (1,) * 65, "stride": (0,) * 65},
        {"size": (2.0,)},
        {"size": (True,)},
        {"size": ("2",)},
        {"size": (2,), "stride": ()},
        {"count": 1 << 40},
        {"count": -1},
        {"count": float("nan")},
        {"count": "2"},
        {"key": "1"},
        {"key": 0.5},
        {"key": "../data.pkl"},
    ],
    ids=str,
)
def test_a_tensor_of_elements_that_the_file_lacks_is_refused(path, description):
    archive_of(path, tensor_of(**description), bytes(8))
    assert "not a file of weights: damaged" in refused(path)


def test_elements_are_read_at_their_file_offsets(path):
    values = torch.arange(12.0).reshape(3, 4)
    archive_of(
        path,
        tensor_of(offset=1, size=(3, 2), stride=(4, 2), count=12),
        values.numpy().tobytes(),
    )
    (part,) = weight_files.read_parts(path)
    assert torch.equal(part.tensors["a"].read(), values[:, 1::2])


def test_elements_far_apart_are_refused(path, monkeypatch):
    monkeypatch.setattr(weight_files, "LARGEST_SPAN", 100)
    archive_of(path, tensor_of(size=(2,), stride=(40,), count=41), bytes(41 * 4))
    (part,) = weight_files.read_parts(path)
    with pytest.raises(UserError, match=r"the 2 elements of a tensor lie among 164 bytes"):
        part.tensors["a"].read()


@pytest.mark.parametrize("old", [False, True])
def test_data_that_a_network_does_not_need_is_not_read(path, old):
    network = torch.nn.Linear(4, 4)
    content = {"model": network.state_dict(), "optimiser": {"fc": torch.zeros(16 << 20)}}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    with traced_memory() as memory:
        load_checkpoint(network, path)
    assert memory.peak < 8 << 20


def test_shared_and_empty_elements_are_read(path):
    values = torch.arange(6.0)
    content = {"a": values, "b": values[2:], "c": torch.zeros(0, 3), "d": torch.zeros(0).long()}
    for old in (False, True):
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        (part,) = weight_files.read_parts(path)
        assert {key: each.read().tolist() for key, each in part.tensors.items()} == {
            key: each.tolist() for key, each in content.items()
        }


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("old", [False, True])
def test_tensors_of_every_plain_type_are_read(path, dtype, old):
    value = torch.tensor([[1, 0, 1], [0, 1, 1]], dtype=dtype)
    content = {"t": value.T, "parameter": torch.nn.Parameter(torch.ones(2))}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    (part,) = weight_files.read_parts(path)
    assert part.tensors["t"].read().dtype == dtype
    assert torch.equal(part.tensors["t"].read(), value.T)
    assert torch.equal(part.tensors["parameter"].read(), torch.ones(2))


def test_an_archive_that_torch_does_not_write_is_refused(path):
    archive_of(path, tensor_of(), bytes(8), zipfile.ZIP_DEFLATED)
    assert "a compressed archive, which torch.save does not write" in refused(path)
    archive_of(path, tensor_of(), bytes(8))
    weight_files.read_parts(path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data/0", bytes(8))
    assert "that torch.save did not write" in refused(path)


def test_members_that_share_their_bytes_are_refused(path):
    """Otherwise a small file could give the same bytes to any number of tensors."""
    torch.save({f"k{i}": torch.zeros(1_000) for i in range(3)}, path)
    data = bytearray(path.read_bytes())
    places = [found.start() for found in re.finditer(b"PK\1\2", data)]
    offsets = {bytes(data[p + 46 : p + 46 + 14]): data[p + 42 : p + 46] for p in places}
    first = next(at for name, at in offsets.items() if name.endswith(b"/data/0"))
    for place in places:
        if b"/data/" in data[place + 46 : place + 60]:
            data[place + 42 : place + 46] = first
    path.write_bytes(data)
    assert "its directory does not fit its members" in refused(path)


def test_the_format_before_pytorch_1_6_is_read(path):
    state, network = weights(), small()
    torch.save(state, path, _use_new_zipfile_serialization=False)
    load_checkpoint(network, path)
    assert equal(network, state)
