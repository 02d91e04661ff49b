"""The examples of docs/how-to work: each is a file added to its package."""

import re
import sys
import tomllib
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import pytest
import torch

import distill.backbones
import distill.losses
from curation.registry import import_files
from distill.backbones import NETWORKS, create
from distill.counting import count_network
from distill.export import exporter
from distill.losses import LOSSES, settings
from distill.losses.settings import names
from distill.spec_text import parse_spec
from tests.distill.backbones import test_every_network as every_network

EVERY_NETWORK = [
    name
    for name, test in vars(every_network).items()
    if name.startswith("test_")
    and list(signature(test).parameters) == ["name"]
    and "catalogue" not in name  # it has only what `just backbones-page` has seen
]
PAGES = Path(__file__).parents[1] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files also register networks and losses."""
    for package in (distill.backbones, distill.losses):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield tmp_path
    NETWORKS.pop("tiny", None)
    LOSSES.pop("length", None)
    settings._SETTINGS.pop("length", None)
    for module in ("distill.backbones.tiny", "distill.losses.length"):
        sys.modules.pop(module, None)


def test_the_backbone_of_the_page_has_the_figures_that_it_states(room: Path) -> None:
    (code,) = blocks("add-a-backbone.md", "python")
    (room / "tiny.py").write_text(code)
    import_files("distill.backbones")
    network = create("tiny", embedding=64, input_size=(112, 112))
    assert network(torch.zeros(2, 3, 112, 112)).shape == (2, 64)
    paper = NETWORKS["tiny"].paper
    assert paper is not None
    assert paper.figures["params"].value == count_network("tiny").params


@pytest.mark.parametrize("property_of", EVERY_NETWORK)
def test_the_backbone_of_the_page_is_like_every_network(room: Path, property_of: str) -> None:
    (code,) = blocks("add-a-backbone.md", "python")
    (room / "tiny.py").write_text(code)
    import_files("distill.backbones")
    getattr(every_network, property_of)("tiny")


def test_the_loss_of_the_page_is_a_loss_of_a_spec(room: Path) -> None:
    (code,) = blocks("add-a-loss.md", "python")
    (room / "length.py").write_text(code)
    import_files("distill.losses")
    assert "length" in names()
    loss = LOSSES["length"].loss(wanted=10.0)
    assert loss(torch.full((3, 25), 2.0), torch.arange(3)).item() == 0


def test_the_format_of_the_page_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporter, "EXPORTERS", dict(exporter.EXPORTERS))
    (code,) = blocks("add-an-export-format.md", "python")
    exec(compile(code, "mine.py", "exec"), {"__name__": "mine"})
    reason = exporter.EXPORTERS["mine"].why_not_run()
    assert reason == "my_runtime is not installed: `pip install 'face-distill[mine]'`"


def test_several_missing_packages_are_named_once() -> None:
    reason = exporter.exporters()["onnx"].lacks(("no_such_b", "no_such_a", "no_such_b"))
    assert reason is not None
    assert reason.startswith("no_such_b and no_such_a are not installed: ")


def test_the_example_executor_of_the_page_is_tested() -> None:
    tested = (PAGES.parents[1] / "tests/distill/daemon/test_daemon_executors.py").read_text()
    (code,) = blocks("add-an-executor.md", "python")
    assert [line for line in code.splitlines() if line not in tested.splitlines()] == []


def test_every_toml_block_of_a_page_is_toml() -> None:
    found = [block for page in PAGES.glob("*.md") for block in blocks(page.name, "toml")]
    assert len(found) > 5
    assert all(tomllib.loads(block) for block in found)


def test_the_spec_of_the_fine_tuning_page_is_a_spec() -> None:
    (spec,) = blocks("fine-tune.md", "toml")
    parsed = parse_spec(spec, "spec.toml")
    assert [stage.freeze for stage in parsed.stage] == ["body", None]
