"""Losses are registered in their own files, with settings that are checked without torch."""

import subprocess
import sys

import pytest
import torch

import distill.losses
from curation.errors import UserError
from distill.losses import LOSSES, LossInputs, WeightedLosses
from distill.losses.loss import Loss, register
from distill.losses.settings import LossSettings, named, names
from distill.spec_text import parse_spec

LOSS = """
from distill.losses.loss import Loss, register
from distill.losses.settings import LossSettings


class DroppedInSettings(LossSettings):
    power: int = 2


@register("dropped_in")
class DroppedIn(Loss):
    settings: DroppedInSettings

    def formula(self, inputs):
        return inputs.embeddings.norm(dim=1).pow(self.settings.power).mean()
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


@pytest.fixture
def dropped_in(tmp_path, monkeypatch):
    (tmp_path / "dropped_in.py").write_text(LOSS)
    monkeypatch.setattr(distill.losses, "__path__", [*distill.losses.__path__, str(tmp_path)])
    yield
    forget("dropped_in")


def test_a_file_added_to_the_package_is_a_loss_of_a_spec(dropped_in):
    spec = parse_spec(SPEC % "arcface = {}, dropped_in = { power = 3, weight = 0.5 }", "x.toml")
    settings = spec.stage[0].losses
    assert (settings["dropped_in"].power, settings["dropped_in"].weight) == (3, 0.5)
    losses = WeightedLosses(settings, 8, 10)
    embeddings = torch.randn(4, 8)
    parts = losses(LossInputs(embeddings, torch.arange(4)))
    assert parts["dropped_in"] == embeddings.norm(dim=1).pow(3).mean()
    assert parts["total"].isfinite()


def test_a_file_added_to_the_package_is_a_loss_of_any_loop(dropped_in):
    embeddings = torch.randn(4, 8)
    loss = distill.losses.DroppedIn(power=1)(embeddings, torch.arange(4))
    assert loss == embeddings.norm(dim=1).mean()


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ("dropped_in = { powr = 3 }", "did you mean 'power'"),
        ("dropped_in = { power = 0.5 }", "dropped_in.power: must be a whole number"),
        ("droped_in = {}", "did you mean 'dropped_in'"),
    ],
)
def test_the_settings_of_a_loss_that_was_dropped_in_are_checked(dropped_in, losses, message):
    with pytest.raises(UserError, match=message):
        parse_spec(SPEC % losses, "x.toml")


def test_a_loss_takes_the_settings_of_its_name():
    class Settings(LossSettings):
        pass

    class Other(Loss):
        settings: Settings

    named("entered_only")(LossSettings)
    try:
        with pytest.raises(UserError, match="'entered_only' is registered in"):
            register("entered_only")(Other)
    finally:
        forget("entered_only")


def test_a_name_is_given_once_and_the_error_says_where():
    class Again(LossSettings):
        pass

    with pytest.raises(ValueError, match=r"'arcface'.* distill\.losses\.settings and in "):
        named("arcface")(Again)
    with pytest.raises(ValueError, match=r"'arcface'.* distill\.losses\.arcface and in "):
        register("arcface")(LOSSES["softmax"].loss)


def forget(name):
    from distill.losses import settings

    settings._SETTINGS.pop(name, None)
    LOSSES.pop(name, None)
    sys.modules.pop(f"distill.losses.{name}", None)
