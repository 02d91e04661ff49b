import subprocess
import sys

import pytest

import distill.losses
from distill.losses import LOSSES, parse_losses
from distill.losses.registry import register
from distill.losses.settings import LossSettings, named, names

LOSS = """
from torch import nn

from distill.losses.registry import register
from distill.losses.settings import LossSettings, named


@named("dropped_in")
class DroppedInSettings(LossSettings):
    power: int = 2


@register("dropped_in")
class DroppedIn(nn.Module):
    def __init__(self, settings, embedding, identities):
        super().__init__()
        self.power = settings.power

    def forward(self, inputs):
        return inputs.embeddings.norm(dim=1).pow(self.power).mean()
"""
SPEC = """
name = "x"
[data]
train = "sample/train"
[student]
backbone = "mobilefacenet"
[[stage]]
epochs = 1
losses = { %s }
"""
PARSE = """
import sys
from distill.spec_text import parse_spec
spec = parse_spec(sys.stdin.read(), "spec.toml")
print({name: loss.weight for name, loss in spec.stage[0].losses.items()}, "torch" in sys.modules)
"""


def test_every_loss_has_settings_and_a_module():
    assert set(names()) == set(LOSSES)
    assert all(entry.settings.__module__.startswith("distill.losses") for entry in LOSSES.values())


def test_a_spec_has_typed_losses_without_torch():
    spec = SPEC % "arcface = { margin = 0.4 }, angular = {}"
    parsed = subprocess.run(
        [sys.executable, "-c", PARSE], input=spec, capture_output=True, text=True, check=True
    )
    assert parsed.stdout.strip() == "{'arcface': 1.0, 'angular': 7.0} False"


def test_a_file_dropped_into_the_room_is_a_loss(tmp_path, monkeypatch):
    (tmp_path / "dropped_in.py").write_text(LOSS)
    monkeypatch.setattr(distill.losses, "__path__", [*distill.losses.__path__, str(tmp_path)])
    try:
        settings = parse_losses({"dropped_in": {"power": 3}}, "losses")["dropped_in"]
        assert LOSSES["dropped_in"].build(settings, 8, 2).power == 3
    finally:
        forget("dropped_in")


def test_a_name_is_given_once_and_the_error_says_where():
    class Again(LossSettings):
        pass

    with pytest.raises(ValueError, match=r"'arcface'.* distill\.losses\.settings and in "):
        named("arcface")(Again)
    with pytest.raises(ValueError, match=r"'arcface'.* distill\.losses\.arcface and in "):
        register("arcface")(LOSSES["softmax"].build)


def forget(name):
    from distill.losses import settings

    settings._SETTINGS.pop(name, None)
    LOSSES.pop(name, None)
    sys.modules.pop(f"distill.losses.{name}", None)
