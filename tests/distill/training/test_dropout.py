"""Dropout before the embedding: in training only."""

import copy

import pytest
import torch
from small_training import make_network

from curation.errors import UserError
from distill.backbones import create
from distill.spec_text import parse_spec
from distill.training.dropout import drop_before_embedding, embedding_layer_of
from teachers.networks import NETWORKS, head_parameters


def test_dropout_does_not_change_the_network_in_evaluation():
    network = make_network().eval()
    dropping = copy.deepcopy(network)
    drop_before_embedding(dropping, 0.4)
    pictures = torch.randn(2, 3, 32, 32)
    assert torch.equal(dropping(pictures), network(pictures))
    assert dropping.state_dict().keys() == network.state_dict().keys()


def test_dropout_zeroes_a_share_of_the_inputs_in_training():
    network = make_network().train()
    drop_before_embedding(network, 0.4)
    seen = []
    embedding_layer_of(network).register_forward_hook(lambda _, given, out: seen.append(given[0]))
    torch.manual_seed(0)
    network(torch.randn(64, 3, 32, 32))
    network(torch.randn(64, 3, 32, 32))
    for values in seen:
        assert (values == 0).float().mean() == pytest.approx(0.4, abs=0.05)
    assert ((seen[0] == 0) != (seen[1] == 0)).any()


POOLED = {"mobilefacenet_m", "mobilefacenet_s"}
"""Networks whose embedding is the output of the global operator"""


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - POOLED))
def test_every_network_has_a_layer_for_dropout(name):
    with torch.device("meta"):
        network = create(name, 96)
    layer = embedding_layer_of(network)
    assert layer.weight in set(head_parameters(network))


@pytest.mark.parametrize("name", sorted(POOLED))
def test_dropout_without_an_embedding_layer_is_refused(name):
    with torch.device("meta"):
        network = create(name)
    with pytest.raises(UserError, match="no layer between its pooled features"):
        embedding_layer_of(network)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_drops_nothing_or_all_is_refused(share):
    spec = (
        'name = "x"\ndata = { train = "d/train" }\n'
        f'student = {{ backbone = "mobilefacenet", dropout = {share} }}\n'
        "[[stage]]\nepochs = 1\nlosses = { arcface = {} }\n"
    )
    with pytest.raises(UserError, match=r"student\.dropout"):
        parse_spec(spec, "job.toml")
