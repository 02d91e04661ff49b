"""Weights of torch.save in both formats, of safetensors, and of folders with an index."""

import io
import json
import random
import struct
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from teachers.checkpoints import load_checkpoint
from tests.fuzz.harness import Files, Special, reader
from tests.fuzz.mutators import change_bytes, change_json

_OPCODES = (
    b"h\x00", b"j\xff\xff\xff\xff", b"r\xff\xff\xff\xff", b"(", b"]", b"}", b")", b"N", b"R", b"b",
    b"Q", b"\x81", b"s", b"u", b"a", b"e", b"\x85", b"\x86", b"\x93", b"0", b"2", b".", b"K\x00",
    b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"G" + b"\x7f\xf8" + b"\0" * 6,
    b"X\xff\xff\xff\x7f", b"cos\nsystem\n", b"cbuiltins\nbytearray\n", b"ctorch\nTensor\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n", b"ctorch\nComplexFloatStorage\n",
    b"q\x00h\x00\x86" * 40, b"]" * 5_000, b"\x80\x04\x95" + b"\xff" * 8, b"\x82\x01",
)  # fmt: skip


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def _states() -> list[dict]:
    state = _network().state_dict()
    named = {f"module.{key}": value for key, value in state.items()}
    return [state, {"epoch": 3, "state_dict": named, "best": 0.5, "args": {"lr": [0.1, None]}}]


def _saved(state: dict, new: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def _torch_files() -> list[Files]:
    torch.manual_seed(0)
    return [{"weights.pth": _saved(state, new)} for state in _states() for new in (True, False)]


def _safetensors() -> list[Files]:
    state = _network().state_dict()
    items = list(state.items())
    index = {"weight_map": {key: f"{i % 2}.safetensors" for i, (key, _) in enumerate(items)}}
    shards = {f"{i}.safetensors": save(dict(items[i::2])) for i in range(2)}
    written = json.dumps(index).encode()
    whole = {"model.safetensors": save({f"net.{key}": value for key, value in items})}
    return [whole, {"model.safetensors.index.json": written, **shards}]


def _change_pickle(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change the pickle inside; the archive stays valid."""
    content = files.get("weights.pth")
    if not isinstance(content, bytes):
        return
    if content[:2] != b"PK":
        files["weights.pth"] = _with_opcodes(rng, content)
        return
    try:
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name.endswith("data.pkl"):
                    data = rng.choice((_with_opcodes, change_bytes))(rng, data)
                elif rng.random() < 0.05:
                    data = change_bytes(rng, data)
                packed = rng.choice((0, 0, 0, 0, 0, 0, 0, 0, zipfile.ZIP_DEFLATED))
                new.writestr(name, data, packed)
    except Exception:  # an earlier mutation broke it
        return
    files["weights.pth"] = buffer.getvalue()


def _with_opcodes(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_OPCODES) + data[at + rng.choice((0, 0, 1, 2)) :]


def _change_header(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Replace the header; its length stays correct."""
    names = [name for name in sorted(files) if name.endswith(".safetensors")]
    content = files[rng.choice(names)] if names else b""
    if not isinstance(content, bytes) or len(content) < 8:
        return
    (length,) = struct.unpack("<Q", content[:8])
    header = change_json(rng, content[8 : 8 + length])
    files[rng.choice(names)] = struct.pack("<Q", len(header)) + header + content[8 + length :]


@reader("torch file", _torch_files, [_change_pickle, _change_pickle], share=0.2)
def read(folder: Path) -> None:
    """Load the weights into their network."""
    load_checkpoint(_network(), folder / "weights.pth")


@reader("safetensors", _safetensors, [_change_header])
def read_safetensors(folder: Path) -> None:
    """Load the weights from a folder in the layout of Hugging Face."""
    load_checkpoint(_network(), folder)
