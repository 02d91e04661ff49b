"""Weights are matched to a network by name, and every key is accounted for."""

import time

import pytest
import torch
from safetensors.torch import save_file
from weight_samples import equal, full_size, refused, small, weights

from curation.errors import UserError
from teachers.checkpoints import load_checkpoint, recognise


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [
        ((), ""),
        (("state_dict",), "module."),
        (("net_state_dict",), ""),
        (("backbone",), "net."),
        (("model_ema",), "module.backbone."),
        (("checkpoint", "anything", "net"), "encoder._orig_mod."),
        ((), "a.b.c.d."),
    ],
)
@pytest.mark.parametrize("name", ["adaface_ir18", "iresnet18"])
def test_weights_are_found_in_any_wrapper(path, name, wrapper, prefix):
    state = weights(name)
    content = {prefix + key: value for key, value in state.items()}
    for key in reversed(wrapper):
        content = {key: content, "epoch": 3, "optimiser": {"state": [torch.zeros(2)]}}
    torch.save(content, path)
    network = small(name)
    report = load_checkpoint(network, path)
    assert equal(network, state)
    assert (report.loaded, report.prefix) == (len(state), prefix)
    assert report.part == ".".join((*wrapper, prefix)).strip(".")
    assert (report.ignored, report.absent) == ((), ())


@pytest.mark.parametrize("flat", [False, True])
def test_of_two_stored_networks_the_user_chooses_one(path, flat):
    first, average = weights(), {key: value + 1 for key, value in weights().items()}
    both = {"model": first, "model_ema": average}
    if flat:
        both = {f"{name}.{key}": v for name, state in both.items() for key, v in state.items()}
    torch.save({"state": both}, path)
    message = refused(path)
    assert "holds this network 2 times with different weights" in message
    assert 'choose one: part = "state.model' in message
    for part, state in (("model_ema", average), ("state.model", first)):
        network = small()
        assert load_checkpoint(network, path, part).part.endswith(part)
        assert equal(network, state)
    with pytest.raises(UserError, match="has no part 'ema'"):
        load_checkpoint(small(), path, "ema")


def test_equal_copies_are_one(path):
    torch.save({"model": weights(), "model_ema": weights()}, path)
    load_checkpoint(small(), path)


def test_an_average_counts_its_steps(path):
    averaged = torch.optim.swa_utils.AveragedModel(small(seed=1))
    torch.save(averaged.state_dict(), path)
    assert load_checkpoint(small(), path).ignored == ("n_averaged",)


def test_the_length_of_other_embeddings_is_named(path):
    state = weights()
    length = next(len(each) for key, each in state.items() if key.startswith("output_layer.3"))
    ends = ("output_layer.3.", "output_layer.4.")
    for key in [key for key in state if key.startswith(ends) and state[key].ndim]:
        state[key] = torch.cat([state[key], state[key]])
    torch.save(state, path)
    said = f"the embeddings of this file have {2 * length} values: set embedding = {2 * length} in"
    assert said in refused(path)


def test_only_the_user_can_omit_other_layers(path):
    named = {f"backbone.{key}": value for key, value in weights().items()}
    torch.save(named | {"neck.weight": torch.zeros(8, 8)}, path)
    message = refused(path)
    assert "has 'neck.weight'" in message
    assert 'set part = "backbone"' in message
    load_checkpoint(small(), path, "backbone")


def test_many_prefixes_are_distinguished_in_a_short_time(tmp_path):
    path = tmp_path / "weights.safetensors"
    words = ("module", "model", "net", "backbone")
    names = (".".join(words[(i >> 2 * j) % 4] for j in range(7)) for i in range(8_000))
    save_file({f"{name}.k{i}": torch.zeros(1) for i, name in enumerate(names)}, path)
    began = time.process_time()
    assert "no registered network fits" in refused(path)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("counters", [False, True], ids=["values", "counters-too"])
def test_half_precision_becomes_the_networks(path, counters):
    state, network = weights(), small()
    cast = {k: v.half() if counters or v.is_floating_point() else v for k, v in state.items()}
    torch.save(cast, path)
    load_checkpoint(network, path)
    loaded = network.state_dict()["output_layer.3.weight"]
    assert loaded.dtype == torch.float32
    assert torch.allclose(loaded, state["output_layer.3.weight"], atol=1e-3)


def test_insightfaces_training_checkpoint_is_read(path):
    state, network = weights("iresnet18"), small("iresnet18")
    classifier = {"weight": torch.zeros(5, 8)}
    torch.save(
        {"epoch": 1, "state_dict_backbone": state, "state_dict_softmax_fc": classifier}, path
    )
    load_checkpoint(network, path)
    assert equal(network, state)
    assert not network.features.weight.requires_grad


def test_a_classifier_named_like_a_layer_is_ignored(path):
    """MagFace's: the network is under features.module, the classifier is another fc."""
    state = weights("iresnet18")
    named = {f"features.module.{key}": value for key, value in state.items()}
    torch.save({"state_dict": named | {"fc.weight": torch.zeros(8, 5)}}, path)
    network = small("iresnet18")
    assert load_checkpoint(network, path).ignored == ("fc.weight",)
    assert equal(network, state)


def test_batch_counters_may_be_absent(path):
    state = weights()
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    torch.save({key: value for key, value in state.items() if key not in counters}, path)
    report = load_checkpoint(small(), path)
    assert set(report.absent) == counters
    assert report.loaded == len(state) - len(counters)


def test_superfluous_keys_may_be_skipped(path):
    torch.save({**weights(), "fc2.weight": torch.zeros(2, 8)}, path)
    assert "has 'fc2.weight'; save the state dict without them" in refused(path)


def test_missing_unexpected_and_misshapen_keys_are_named(path):
    state = weights()
    del state["body.0.res_layer.0.weight"], state["body.1.res_layer.0.bias"]
    state["body.0.extra.weight"] = torch.zeros(1)
    state["output_layer.3.weight"] = torch.zeros(8, 3)
    torch.save(state, path)
    message = refused(path)
    assert "lacks 'body.0.res_layer.0.weight' and 1 more" in message
    assert "has 'body.0.extra.weight'," in message
    assert "has other shapes: 'output_layer.3.weight' (8x3, not 8x256)" in message
    assert "no registered network fits" in message


def test_a_prefix_that_only_some_keys_have_stays(path):
    state = weights()
    torch.save({("module." if i else "") + k: v for i, (k, v) in enumerate(state.items())}, path)
    assert "lacks 'input_layer.0.weight', has 'input_layer.0.weight'" in refused(path)


def test_the_networks_that_a_file_does_fit_are_named(path):
    torch.save({f"net.{k}": v for k, v in full_size("treb1en_ir50").items()}, path)
    assert recognise(path) == ("treb1en_ir50",)
    message = refused(path)
    assert message.endswith("these are the keys of treb1en_ir50")
    assert "not weights of this IRBackbone" in message


def test_a_file_of_no_registered_network_is_not_recognised(path):
    torch.save({"body.0.weight": torch.zeros(3)}, path)
    assert recognise(path) == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_in_the_network_are_refused(path, value):
    state = weights()
    bad = state["body.1.res_layer.1.weight"].double()
    bad[0, 0, 0, 0] = value
    torch.save(state | {"body.1.res_layer.1.weight": bad}, path)
    assert "'body.1.res_layer.1.weight' has values that are not finite" in refused(path)


def test_quantised_weights_are_refused(path):
    state = weights()
    torch.save(state | {"output_layer.3.bias": torch.zeros(8, dtype=torch.int8)}, path)
    assert "'output_layer.3.bias' holds torch.int8" in refused(path)
