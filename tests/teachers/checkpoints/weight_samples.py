"""Weights of small networks, the files that hold them, and how a refusal looks."""

import io
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from curation.errors import UserError
from distill.backbones import create
from teachers.checkpoints import load_checkpoint


def small(name="adaface_ir18", seed=0):
    torch.manual_seed(seed)
    return create(name, embedding=8, input_size=(32, 32), width=0.125).eval()


def weights(name="adaface_ir18"):
    """The state dict of a small trained network: no statistic has its initial value."""
    network = small(name, seed=1).train()
    network(torch.randn(4, 3, 32, 32))
    return network.state_dict()


def full_size(name):
    """Tensors with the network's true shapes in a tiny file: all elements share storage."""
    with torch.device("meta"):
        state = create(name).state_dict()
    return {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}


def equal(network, state):
    return all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def refused(path, network=None):
    """The one-line error for a refused file; the network is unchanged."""
    network = network or small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_checkpoint(network, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert equal(network, before)
    return message


def archive_of(path, program, storage=b"", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", storage)


def tensor_of(offset=0, size=(2,), stride=(1,), kind=torch.FloatStorage, count=2, key="0"):
    """A pickle of one tensor with an arbitrary description."""

    class Storage:
        identifier = ("storage", kind, key, "cpu", count)

    class Described:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                Storage(), offset, size, stride, False, OrderedDict(),
            )  # fmt: skip

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.identifier if isinstance(value, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"a": Described()})
    return buffer.getvalue()


def save_old(content, path):
    """The format before PyTorch 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def whole_file():
    buffer = io.BytesIO()
    torch.save(weights(), buffer)
    return buffer.getvalue()
