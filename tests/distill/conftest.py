"""Shared fixtures: a small bundle (an export takes seconds), two ranks."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import distill.export.formats
from curation.store import Store
from curation.workspace import Workspace
from distill.backbones import create
from distill.evaluation.thresholds import recommended_thresholds
from distill.export.bundle import export_bundle
from distill.export.config import BundleConfig, FaceConfig
from distill.export.exporter import EXPORTERS
from teachers.preprocessing import Preprocessing

DROPPED_IN_FORMAT = """
import torch

from distill.export.exporter import Exporter, exporter


@exporter("{name}")
class Dropped(Exporter):
    card = "`{name}/` is the same network for {name}."

    def export(self, folder, source):
        (folder / "{writes}").mkdir()
        (folder / "{writes}" / "net.txt").write_text(f"{{source.size}}")
        torch.save(source.network, folder / "{writes}" / "net.bin")

    def run(self, folder):
        network = torch.load(folder / "{writes}" / "net.bin", weights_only=False)
        return lambda pixels: network(torch.from_numpy(pixels)).detach().numpy() * {factor}
"""


@pytest.fixture(scope="session")
def start_two_ranks() -> Callable[..., None]:
    """Runs a script with its arguments on two ranks of torchrun, one thread each."""

    def start(script: Path, *arguments: Path, **environment: str) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        rank = Path(__file__).with_name("one_rank.py")
        subprocess.run(
            [*command, "--nproc-per-node", "2", str(rank), str(script), *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            check=True,
            capture_output=True,
        )

    return start


@pytest.fixture
def workspace(tmp_path: Path, drawn_store: Store, drawn_folder: Path) -> Workspace:
    """A workspace with the drawn images and their pairs, and nothing else."""
    from small_job import make_workspace  # imports all of the pipeline

    return make_workspace(tmp_path / "workspace", drawn_store, drawn_folder)


@pytest.fixture(scope="session")
def lived_in() -> Callable[[nn.Module], nn.Module]:
    """Gives batch normalisation trained statistics, because fresh ones make folding trivial."""

    def live(network: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
        return network.eval()

    return live


@pytest.fixture(scope="session")
def small_network(lived_in: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return lived_in(create("mobilefacenet", embedding=16, input_size=(32, 32), width=0.125))


@pytest.fixture(scope="session")
def small_config() -> BundleConfig:
    preprocessing = Preprocessing(colour="BGR", mean=127.5, std=128.0, size=(32, 32))
    return BundleConfig(
        architecture="mobilefacenet",
        num_features=16,
        width=0.125,
        face=FaceConfig(preprocessing=preprocessing),
    )


@pytest.fixture(scope="session")
def small_evaluation() -> dict:
    """An evaluation on one pair set."""
    digest = "ab" * 32
    rates = {
        f"1e-{n}": {"tar": None, "cosine_threshold": None, "reason": "insufficient pairs"}
        for n in range(3, 9)
    }
    report = {
        "kind": "pairs",
        "digest": digest,
        "pairs": 2000,
        "genuine": 1000,
        "impostors": 1000,
        "accuracy": 0.875,
        "std": 0.01,
        "threshold": 1.2,
        "cosine_threshold": 0.4,
        "tar": 0.87,
        "far": 0.12,
        "val": {"far_wanted": 1e-3, "far": 0.0, "val": 0.5, "std": 0.1},
        "tar_at_far": {"1e-2": {"tar": 0.75, "cosine_threshold": 0.5}, **rates},
    }
    sets = {"easy": report}
    return {"embedder": digest, "sets": sets, "thresholds": recommended_thresholds(sets)}


@pytest.fixture(scope="session")
def small_bundle(
    tmp_path_factory: pytest.TempPathFactory, small_network, small_config, small_evaluation
) -> Path:
    """A read-only bundle; copy it before changing anything."""
    return export_bundle(
        tmp_path_factory.mktemp("bundles") / "small",
        small_network,
        small_config,
        small_evaluation,
        {"job": "small"},
    )


@pytest.fixture
def drop_in_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Writes a file into the package of formats, and removes it afterwards."""
    room = tmp_path / "formats"
    room.mkdir()
    paths = [*distill.export.formats.__path__, str(room)]
    monkeypatch.setattr(distill.export.formats, "__path__", paths)
    before = set(EXPORTERS)

    def drop(name: str, factor: str = "1", writes: str = "letters") -> None:
        (room / f"{name}_format.py").write_text(
            DROPPED_IN_FORMAT.format(name=name, factor=factor, writes=writes)
        )

    yield drop
    for name in set(EXPORTERS) - before:
        del EXPORTERS[name]
    for path in room.glob("*.py"):
        sys.modules.pop(f"distill.export.formats.{path.stem}", None)
