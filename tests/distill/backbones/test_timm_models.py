"""Any timm model as a student: the stem, the head, and timm's weights from the local cache."""

import subprocess
import sys

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from curation.errors import UserError
from distill import timm_names
from distill.backbones import create, lookup
from distill.backbones.heads import GlobalDepthwiseHead
from distill.pipeline.architecture import Architecture
from distill.timm_names import NAMES_FILE

MODEL = "mobilenetv3_small_050"
REPOSITORY = "timm/mobilenetv3_small_050.lamb_in1k"


def test_the_names_kept_are_those_of_the_installed_timm():
    made_of, *names = NAMES_FILE.read_text().splitlines()
    assert made_of == f"# timm {timm.__version__}", "run `just timm-names`"
    assert names == sorted(timm.list_models()), "run `just timm-names`"


def test_timm_resolves_names_of_another_version(tmp_path, monkeypatch):
    (tmp_path / "names.txt").write_text("# timm 0.1\nresnet18_of_old\n")
    monkeypatch.setattr(timm_names, "NAMES_FILE", tmp_path / "names.txt")
    timm_names.timm_names.cache_clear()
    try:
        timm_names.check_timm("timm/resnet18.a1_in1k")
        with pytest.raises(UserError, match="'timm/resnet18_of_old' is not a model of timm"):
            timm_names.check_timm("timm/resnet18_of_old")
    finally:
        timm_names.timm_names.cache_clear()


def test_an_unknown_name_gets_a_suggestion_without_torch():
    script = (
        "import sys; from distill.catalogue import defaults_of\n"
        f"print(defaults_of('timm/{MODEL}') + defaults_of('timm-pretrained/{MODEL}.lamb_in1k'))\n"
        "try: defaults_of('timm/resnet81')\n"
        "except ValueError as error: print(error)\n"
        "print(sorted({'torch', 'timm'} & set(sys.modules)))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    entry = lookup(f"timm/{MODEL}")
    defaults, error, modules = said.stdout.splitlines()
    assert defaults == str((entry.embedding, entry.input_size) * 2)
    assert error.startswith("backbone 'timm/resnet81' is not a model of timm; did you mean 'res")
    assert modules == "[]"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def pretrained(cache):
    """The weights in the cache: random ones under timm's file name."""
    torch.manual_seed(7)
    weights = timm.create_model(MODEL).state_dict()
    repository = cache / f"models--{REPOSITORY.replace('/', '--')}"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    save_file(weights, snapshot / "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    return weights


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        (MODEL, (7, 7)),  # stride 32 of a 224 network, halved
        ("repvgg_a0", (7, 7)),  # both branches of the stem
        ("poolformer_s12", (7, 7)),  # an overlapping stem of stride 4, now 2
        ("convnext_atto", (3, 3)),  # patches of 4x4 stay
    ],
)
def test_convolutional_maps_have_the_size_they_were_made_for(name, grid):
    with torch.device("meta"):
        head = create(f"timm/{name}").head
    assert isinstance(head, GlobalDepthwiseHead)
    assert head.depthwise[0].kernel_size == grid


def test_a_network_that_was_built_for_our_size_keeps_its_stem():
    with torch.device("meta"):
        network = create(f"timm/{MODEL}", input_size=(224, 224)).network
    assert network.conv_stem.stride == (2, 2)


def test_a_network_of_one_size_is_built_for_ours():
    with torch.device("meta"):
        network = create("timm/vit_tiny_patch16_224").network
    assert network.patch_embed.grid_size == (7, 7)


def test_tokens_go_through_a_fully_connected_layer():
    with torch.device("meta"):
        head = create("timm/vit_tiny_patch16_224", embedding=64).head
    assert [tuple(p.shape) for p in head.parameters()] == [(64, 192), (64,), (64,)]


def test_every_parameter_learns():
    torch.manual_seed(0)
    network = create(f"timm/{MODEL}", embedding=8, input_size=(64, 64))
    network(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert network.training
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_a_size_that_the_network_cannot_take_is_refused():
    with torch.device("meta"), pytest.raises(UserError, match="does not take images of 112x112"):
        create("timm/maxvit_tiny_tf_224")


def test_pretrained_weights_come_from_the_cache(pretrained):
    network = create(f"timm-pretrained/{MODEL}", embedding=8, input_size=(32, 32)).network
    loaded = network.state_dict()
    assert set(pretrained) - set(loaded) == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(value, pretrained[name]) for name, value in loaded.items())


def test_without_the_prefix_weights_are_random_despite_a_cache(pretrained):
    torch.manual_seed(0)
    network = create(f"timm/{MODEL}", embedding=8, input_size=(32, 32)).network
    assert not torch.equal(network.conv_stem.weight, pretrained["conv_stem.weight"])


def test_missing_weights_are_named_with_a_command_to_fetch(cache):
    with pytest.raises(UserError, match=f"`hf download {REPOSITORY} model.safetensors`"):
        create(f"timm-pretrained/{MODEL}")


def test_missing_weights_are_found_before_training(cache):
    with pytest.raises(UserError, match="hf download"):
        Architecture(f"timm-pretrained/{MODEL}", 8, (32, 32), 1.0).check()


def test_a_model_without_published_weights_is_reported(cache):
    with pytest.raises(UserError, match="timm has no weights for it"):
        create("timm-pretrained/cspresnet50d")


def test_a_trained_network_is_rebuilt_without_timms_weights(cache):
    architecture = Architecture(f"timm-pretrained/{MODEL}", 8, (32, 32), 1.0).unweighted
    assert architecture.backbone == f"timm/{MODEL}"
    assert architecture.build().head.fc.out_features == 8


def test_other_names_stay(cache):
    assert Architecture("mobilefacenet", 8, (32, 32), 1.0).unweighted.backbone == "mobilefacenet"
