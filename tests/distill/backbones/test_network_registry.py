"""A new file in the package is a network; names are unique."""

import json
import shutil
import sys

import pytest
from typer.testing import CliRunner

import distill.backbones
from curation.errors import UserError
from curation.registry import import_files
from curation.workspace import Workspace
from distill.backbones import NETWORKS
from distill.catalogue import catalogue
from distill.cli.main import app
from distill.network_spec import NetworkSpec
from distill.pipeline.architecture import Architecture
from distill.pipeline.fit import check_job
from distill.spec_text import SpecFile
from teachers.networks import NAMED_FAMILIES, register, register_named_family

NETWORK = """
from torch import nn

from teachers.networks import register


@register("dropped_in", family="dropped", embedding=24, input_size=(32, 32))
def dropped_in(embedding, input_size, width):
    height, wide = input_size
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * height * wide, embedding))
"""


SPEC = """
name = "x"
data = { train = "d/train" }
student = { backbone = "dropped_in" }
[[stage]]
epochs = 1
losses = { arcface = {} }
[train]
batch_size = 8
"""


@pytest.fixture
def dropped_in(tmp_path):
    """The package with one more file, as a new process finds it."""
    (tmp_path / "dropped.py").write_text(NETWORK)
    distill.backbones.__path__.append(str(tmp_path))
    import_files("distill.backbones")
    yield
    distill.backbones.__path__.pop()
    NETWORKS.pop("dropped_in", None)
    sys.modules.pop("distill.backbones.dropped", None)


def test_a_file_added_to_the_package_is_a_network(dropped_in):
    network = Architecture.resolve(NetworkSpec(backbone="dropped_in"))
    assert (network.embedding, network.input_size) == (24, (32, 32))
    assert not network.is_known
    assert network.build()[1].out_features == 24


def test_an_added_network_is_listed_with_its_counts(dropped_in):
    assert "dropped_in" in {row["name"] for row in catalogue()}
    listed = CliRunner().invoke(app, ["backbones", "--json"])
    (row,) = (row for row in json.loads(listed.stdout) if row["name"] == "dropped_in")
    assert (row["params"], row["embedding"]) == (24 * (3 * 32 * 32 + 1), 24)


def test_a_spec_may_name_a_network_that_was_dropped_in(dropped_in, tmp_path, drawn_store):
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(drawn_store.path, workspace.datasets / "d" / "train.lmdb")
    assert check_job(SpecFile.parse(SPEC), workspace).notices == []
    with pytest.raises(UserError, match=r"spec.toml:4:24: .* did you mean 'dropped_in'"):
        check_job(SpecFile.parse(SPEC.replace("dropped_in", "droped_in")), workspace)


def test_a_name_is_given_once_and_the_error_names_both_files():
    with pytest.raises(UserError, match=rf"'y2' .* distill\.backbones\.y2 and in {__name__}"):
        register("y2", family="y2", embedding=8)(lambda *settings: None)
    family = next(iter(NAMED_FAMILIES))
    with pytest.raises(UserError, match=rf"'{family}' .*\.timm_models and in {__name__}"):
        register_named_family(family)(lambda *settings: None)
