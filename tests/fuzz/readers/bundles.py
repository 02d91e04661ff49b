"""Bundles, with wrong or updated checksums of the changed files, and training checkpoints."""

import hashlib
import io
import json
import random
import tempfile
from pathlib import Path

import torch
from torch import nn

from distill.backbones import create
from distill.daemon.delivery import deliver
from distill.export.config import BundleConfig, FaceConfig
from distill.export.embedder import BundleEmbedder
from distill.export.golden import write_golden
from distill.export.safe_tensors import write_weights
from distill.training.checkpoints import newest_checkpoint
from distill.training.state_file import check_state, of_this_training, read_state
from teachers.embedder import TorchEmbedder
from teachers.preprocessing import Preprocessing
from tests.fuzz.harness import Files, Special, reader, take_in
from tests.fuzz.readers.graphs import small_graphs

_CHECKPOINT = "step-00000004"


def _bundles() -> list[Files]:
    torch.manual_seed(0)
    pixels = Preprocessing.ours((32, 32))
    config = BundleConfig(
        architecture="mobilefacenet",
        num_features=8,
        width=0.125,
        face=FaceConfig(preprocessing=pixels),
    )
    network = create("mobilefacenet", 8, (32, 32), 0.125)
    with tempfile.TemporaryDirectory() as place:
        write_weights(Path(place) / "model.safetensors", network)
        write_golden(Path(place), TorchEmbedder(network, pixels, "", "cpu"), (32, 32))
        written = dict(take_in(Path(place)))
    threshold = {
        "threshold": 0.3, "tar": 0.9, "set": "pairs", "digest": "0" * 64,
        "genuine": 300, "impostors": 3_000,
    }  # fmt: skip
    thresholds = {
        "distance": "cosine",
        "rule": "same person where cosine > threshold",
        "note": "",
        "false_accept_rates": {"1e-2": threshold, "1e-3": None},
        "best_accuracy": None,
    }
    written |= {
        "README.md": b"a card",
        "config.json": config.model_dump_json().encode(),
        "thresholds.json": json.dumps(thresholds).encode(),
        "evaluation.json": b'{"sets": {}}',
        "lineage.json": b'{"job": "try"}',
        "model.onnx": small_graphs()[0]["teacher.onnx"],
    }
    return [_signed(written)]


def _signed(files: Files) -> Files:
    sums = [
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in sorted(files.items())
        if isinstance(content, bytes) and name != "SHA256SUMS"
    ]
    return {**files, "SHA256SUMS": "".join(sums).encode()}


def _sign(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Update the checksums: an attacker can do so too."""
    files |= _signed(files)


def _checkpoints() -> list[Files]:
    torch.manual_seed(0)
    state = {
        "engine": {"learner": nn.Linear(2, 2).state_dict(), "optimiser": {"weight": {"step": 3}}},
        "loop": {"rate_scale": 0.1, "retries": 1, "latest": {"loss_arcface": 3.5}},
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return [_sealed({f"{_CHECKPOINT}/training.pt": buffer.getvalue()})]


def _sealed(files: Files) -> Files:
    content = files.get(f"{_CHECKPOINT}/training.pt")
    digest = hashlib.sha256(content if isinstance(content, bytes) else b"").hexdigest()
    manifest = json.dumps({"training.pt": digest}).encode()
    return {**files, f"{_CHECKPOINT}/manifest.json": manifest}


def _seal(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    files |= _sealed(files)


@reader("bundle", _bundles, [_sign, _sign, _sign], share=0.1)
def read(folder: Path) -> None:
    """Pull the bundle and check its golden embeddings."""
    place = folder.with_name("pulled")
    deliver(folder, place)
    BundleEmbedder(place, "torch").check_golden()


@reader("training checkpoint", _checkpoints, [_seal, _seal], share=0.2)
def read_checkpoint(folder: Path) -> None:
    """Resume from the checkpoint, or start from the beginning."""
    network = nn.Linear(2, 2)
    found = newest_checkpoint(folder, check_state)
    if found is not None:
        with of_this_training(found):
            network.load_state_dict(read_state(found)["engine"]["learner"])
