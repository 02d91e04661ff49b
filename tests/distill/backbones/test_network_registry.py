"""A file in the room is a network; a name is given once."""

import sys

import pytest

import distill.backbones
from curation.errors import UserError
from curation.registry import import_files
from distill.backbones import NETWORKS
from distill.pipeline.architecture import Architecture
from distill.spec import NetworkSpec
from teachers.networks import NAMED_FAMILIES, register, register_named_family

NETWORK = """
from torch import nn

from teachers.networks import register


@register("dropped_in", family="dropped", embedding=24, input_size=(32, 32))
def dropped_in(embedding, input_size, width):
    height, wide = input_size
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * height * wide, embedding))
"""


def test_a_file_dropped_into_the_room_is_a_network(tmp_path, monkeypatch):
    (tmp_path / "dropped.py").write_text(NETWORK)
    monkeypatch.setattr(distill.backbones, "__path__", [*distill.backbones.__path__, str(tmp_path)])
    try:
        import_files("distill.backbones")
        network = Architecture.resolve(NetworkSpec(backbone="dropped_in"))
        assert (network.embedding, network.input_size) == (24, (32, 32))
        assert not network.is_known
        assert network.build()[1].out_features == 24
    finally:
        NETWORKS.pop("dropped_in", None)
        sys.modules.pop("distill.backbones.dropped", None)


def test_a_name_is_given_once_and_the_error_names_both_files():
    with pytest.raises(UserError, match=rf"'y2' .* distill\.backbones\.y2 and in {__name__}"):
        register("y2", family="y2", embedding=8)(lambda *settings: None)
    family = next(iter(NAMED_FAMILIES))
    with pytest.raises(UserError, match=rf"'{family}' .*\.timm_models and in {__name__}"):
        register_named_family(family)(lambda *settings: None)
