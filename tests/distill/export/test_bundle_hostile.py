"""Damaged or malicious bundles: each is refused with a one-line error, and no code runs."""

import hashlib
import json
import os
import resource
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from typer.testing import CliRunner

from curation.errors import UserError
from distill.cli.main import app
from distill.export.bundle_files import check_bundle
from distill.export.checksums import write_sums
from distill.export.embedder import BundleEmbedder
from distill.export.formats.onnx import OnnxExporter
from distill.export.golden import add_golden_features, add_golden_outputs
from distill.export.latency import put_latencies
from distill.export.remeasured import check_describable, read_object
from distill.export.safe_tensors import read_arrays


@pytest.fixture
def bundle(small_bundle: Path, tmp_path: Path) -> Path:
    """A copy that tests may change."""
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


def sign(bundle: Path) -> None:
    """Update the checksums, as an attacker who changes a file could do."""
    (bundle / "SHA256SUMS").unlink()
    write_sums(bundle)


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "golden/golden.safetensors"])
def test_a_changed_file_is_refused(bundle: Path, name: str):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: its SHA-256 differs from that in SHA256SUMS"):
        BundleEmbedder(bundle)


def test_a_missing_file_is_refused(bundle: Path):
    (bundle / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"model\.onnx: missing"):
        BundleEmbedder(bundle)


def test_a_file_that_is_not_listed_is_not_read(bundle: Path):
    sums = (bundle / "SHA256SUMS").read_text().splitlines(keepends=True)
    (bundle / "SHA256SUMS").write_text("".join(line for line in sums if "config" not in line))
    with pytest.raises(UserError, match=r"does not list config\.json"):
        BundleEmbedder(bundle)


@pytest.mark.parametrize(("path", "why"), [("", "not a bundle"), ("none", "no such folder")])
def test_a_folder_without_checksums_is_not_a_bundle(tmp_path: Path, path: str, why: str):
    with pytest.raises(UserError, match=why):
        BundleEmbedder(tmp_path / path)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "golden/../../secret", "a\\b"])
def test_names_outside_the_folder_are_refused(bundle: Path, name: str):
    secret = bundle.parent / "secret"
    secret.write_text("secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    with (bundle / "SHA256SUMS").open("a") as file:
        file.write(f"{digest}  {name}\n")
    with pytest.raises(UserError, match="leaves the bundle"):
        BundleEmbedder(bundle)


@pytest.mark.parametrize("linked", ["model.onnx", "golden", "SHA256SUMS"])
def test_links_are_refused(bundle: Path, linked: str):
    elsewhere = bundle.parent / "elsewhere"
    (bundle / linked).rename(elsewhere)
    (bundle / linked).symlink_to(elsewhere)
    with pytest.raises(UserError, match="a link, which a bundle cannot have"):
        BundleEmbedder(bundle)


def test_a_pipe_in_place_of_a_file_is_not_read(bundle: Path):
    (bundle / "README.md").unlink()
    os.mkfifo(bundle / "README.md")
    with pytest.raises(UserError, match=r"README\.md: not a plain file"):
        BundleEmbedder(bundle)


def test_a_link_to_a_whole_bundle_is_accepted(bundle: Path):
    link = bundle.parent / "link"
    link.symlink_to(bundle)
    assert BundleEmbedder(link).config.num_features == 16


@pytest.mark.parametrize(
    "text", ["nonsense\n", "ab  model.onnx\n", f"{'0' * 64}  a\n" * 2, f"{'0' * 64}  a\x1b[2J\n"]
)
def test_a_malformed_list_is_refused(bundle: Path, text: str):
    (bundle / "SHA256SUMS").write_text(text)
    with pytest.raises(UserError, match=r"SHA256SUMS, line|missing"):
        BundleEmbedder(bundle)


def test_a_huge_list_is_refused(bundle: Path):
    (bundle / "SHA256SUMS").write_text(f"{'0' * 64}  a\n" * 10_000)
    with pytest.raises(UserError, match="at most 65,536 are allowed"):
        BundleEmbedder(bundle)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_random_lists_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "SHA256SUMS").write_bytes(content)
    with pytest.raises(UserError):
        check_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda config: config.update(command="rm"), "command"),
        (lambda config: config.update(num_features="16"), "num_features"),
        (lambda config: config.update(num_features=-1), "num_features"),
        (lambda config: config.update(width=float("inf")), "Infinity"),
        (lambda config: config.update(width=-1.0), "width"),
        (lambda config: config.update(width=1e300), "width"),
        (lambda config: config.update(num_features=2**62), "num_features"),
        (lambda config: config.update(schema_version=2), "schema_version"),
        (lambda config: config.update(architecture="../x y"), "architecture"),
        (lambda config: config["face"].update(mirror="twice"), "face.mirror"),
        (lambda config: config["face"].pop("preprocessing"), "face.preprocessing"),
        (lambda config: config["face"]["preprocessing"].update(size=[0, 1]), "size"),
        (lambda config: config["face"]["preprocessing"].update(size=[10**9, 1]), "size"),
        (lambda config: config["face"]["preprocessing"].update(colour=["RGB"]), "colour"),
        (lambda config: config["face"]["alignment"].update(points=[[1, 2]]), "points"),
        (lambda config: config.pop("face"), "face"),
    ],
)
def test_an_invalid_config_names_its_key(bundle, change, key):
    change_json(bundle / "config.json", change)
    sign(bundle)
    with pytest.raises(UserError, match=rf"config\.json: .*{key}"):
        BundleEmbedder(bundle)


@pytest.mark.parametrize(("key", "value"), [("mean", "127.5"), ("std", 0), ("mean", [1, 2])])
def test_the_place_of_a_fault_is_as_in_the_file(bundle: Path, key: str, value: object):
    change_json(
        bundle / "config.json",
        lambda config: config["face"]["preprocessing"].update({key: value}),
    )
    sign(bundle)
    with pytest.raises(UserError, match=rf"config\.json: face\.preprocessing\.{key}: must be"):
        BundleEmbedder(bundle)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff\xfe", b'{"a":' * 100_000, b"null", b"NaN"]
)
def test_malformed_bundle_json_is_refused(bundle: Path, content: bytes):
    (bundle / "thresholds.json").write_bytes(content)
    sign(bundle)
    with pytest.raises(UserError, match=r"thresholds\.json: "):
        BundleEmbedder(bundle)


def test_a_threshold_with_another_type_is_refused(bundle: Path):
    change_json(
        bundle / "thresholds.json",
        lambda value: value["false_accept_rates"]["1e-2"].update(threshold="0.5"),
    )
    sign(bundle)
    with pytest.raises(UserError, match=r"false_accept_rates\.1e-2\.threshold"):
        BundleEmbedder(bundle)


@pytest.mark.parametrize("kept", [0, 7, 100, 20_000])
def test_truncated_networks_are_refused(bundle: Path, kept: int):
    for name in ("model.onnx", "model.safetensors"):
        (bundle / name).write_bytes((bundle / name).read_bytes()[:kept])
    sign(bundle)
    for runtime in ("onnx", "torch"):
        with pytest.raises(UserError, match=r"model\."):
            BundleEmbedder(bundle, runtime)


def test_weights_that_are_not_finite_are_refused(bundle: Path):
    arrays = read_arrays(bundle / "model.safetensors")
    name = next(name for name, array in arrays.items() if array.ndim == 4)
    arrays[name] = np.full_like(arrays[name], np.nan)
    save_file(arrays, bundle / "model.safetensors")
    sign(bundle)
    with pytest.raises(UserError, match=f"'{name}' has values that are not finite numbers"):
        BundleEmbedder(bundle, "torch")


def test_weights_of_another_network_are_refused(bundle: Path):
    save_file({"weights": np.zeros((2, 2), np.float32)}, bundle / "model.safetensors")
    sign(bundle)
    with pytest.raises(UserError, match="weights of another network"):
        BundleEmbedder(bundle, "torch")


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int32])
def test_weights_with_another_type_are_refused(bundle: Path, kind: type):
    arrays = read_arrays(bundle / "model.safetensors")
    save_file({k: v.astype(kind) for k, v in arrays.items()}, bundle / "model.safetensors")
    sign(bundle)
    with pytest.raises(UserError, match=r"holds torch\.\w+, the network's is torch"):
        BundleEmbedder(bundle, "torch")


def test_a_config_with_another_width_makes_no_network(bundle: Path):
    change_json(bundle / "config.json", lambda config: config.update(width=2.0))
    sign(bundle)
    with pytest.raises(UserError, match="weights of another network"):
        BundleEmbedder(bundle, "torch")


def test_a_network_of_gigabytes_is_not_built(bundle: Path):
    """It would take 17 GB before its weights turned out not to fit."""
    enormous = {"architecture": "timm/eva02_enormous_patch14_clip_224", "width": 1.0}
    change_json(bundle / "config.json", lambda config: config.update(enormous))
    sign(bundle)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"weights of another network .* have 17,\d{3},"):
        BundleEmbedder(bundle, "torch")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB


def test_a_config_with_another_dimension_is_refused(bundle: Path):
    change_json(bundle / "config.json", lambda config: config.update(num_features=32))
    sign(bundle)
    with pytest.raises(UserError, match=r"gives 16 dimensions, config\.json says 32"):
        BundleEmbedder(bundle)


def test_an_unknown_backbone_is_refused(bundle: Path):
    change_json(bundle / "config.json", lambda config: config.update(architecture="os.system"))
    sign(bundle)
    with pytest.raises(UserError, match=r"os\.system"):
        BundleEmbedder(bundle, "torch")


def test_an_unknown_runtime_is_refused(bundle: Path):
    with pytest.raises(UserError, match="no runtime 'ncnn'; there are: onnx, torch"):
        BundleEmbedder(bundle, "ncnn")


PICTURE = np.zeros((1, 32, 32, 3), np.uint8)
OUTPUT = np.zeros((1, 16), np.float32)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": PICTURE[:0], "embeddings": OUTPUT[:0]}, "it lacks 1 to 64 uint8 images"),
        ({"images": PICTURE.astype(float), "embeddings": OUTPUT}, "it lacks 1 to 64 uint8 images"),
        ({"images": np.repeat(PICTURE, 65, 0), "embeddings": OUTPUT}, "it lacks 1 to 64"),
        ({"images": PICTURE}, "it lacks 1 to 64 uint8 images"),
        ({"images": PICTURE, "embeddings": OUTPUT[:, :8]}, r"embeddings is float32 \[1, 8\], not"),
        ({"images": PICTURE, "embeddings": OUTPUT[0]}, r"\[16\], not finite float32 \[1, 16\]"),
        ({"images": PICTURE, "embeddings": OUTPUT.astype(int)}, "embeddings is int64"),
        ({"images": PICTURE, "embeddings": OUTPUT * np.nan}, "not finite float32"),
    ],
    ids=["none", "floats", "many", "no-outputs", "narrow", "one-axis", "integers", "nan"],
)
def test_invalid_golden_outputs_are_refused(bundle: Path, arrays: dict, words: str):
    save_file(arrays, bundle / "golden" / "golden.safetensors")
    sign(bundle)
    with pytest.raises(UserError, match=rf"golden\.safetensors: .*{words}"):
        BundleEmbedder(bundle).check_golden()
    network = BundleEmbedder(bundle).network
    for add in (partial(add_golden_features, mirror="sum"), partial(add_golden_outputs, name="x")):
        with pytest.raises(UserError, match=rf"golden\.safetensors: .*{words}"):
            add(bundle, embedder=network)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F4", "O", "BF16"])
def test_safetensors_with_odd_numbers_are_refused(bundle: Path, kind: str):
    told = {"dtype": kind, "shape": [1, 4], "data_offsets": [0, 4]}
    header = json.dumps({"images": told}).encode()
    path = bundle / "golden" / "golden.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    sign(bundle)
    with pytest.raises(UserError, match=r"golden\.safetensors: "):
        BundleEmbedder(bundle).check_golden()


@pytest.mark.parametrize("end", ["input", "output"])
def test_a_graph_with_other_names_is_refused(bundle: Path, end: str):
    model = onnx.load(bundle / "model.onnx")
    value = getattr(model.graph, end)[0]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["other" if name == value.name else name for name in names]
    value.name = "other"
    onnx.save(model, bundle / "model.onnx")
    sign(bundle)
    with pytest.raises(UserError, match=r"model\.onnx: its input and output are .*'other'"):
        BundleEmbedder(bundle)


@pytest.mark.parametrize("length", [2**23, 2**62])
def test_a_safetensors_header_with_a_wrong_size_is_refused(tmp_path: Path, length: int):
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}" * 100)
    with pytest.raises(UserError, match="its header claims"):
        read_arrays(path)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_random_safetensors_are_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "random.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"random\.safetensors"):
        read_arrays(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("std", "a"),
        ("digest", None),
        ("accuracy", 1e308),
        ("accuracy_interval", [None, 1]),
        ("tar_at_far", [[]]),
    ],
    ids=["text", "nothing", "huge", "half-an-interval", "list"],
)
def test_scores_in_another_format_give_a_clear_error(bundle: Path, key: str, value: object):
    (name, report), *_ = read_object(bundle / "evaluation.json")["sets"].items()
    change_json(
        bundle / "evaluation.json", lambda told: told["sets"].update({name: {**report, key: value}})
    )
    sign(bundle)
    refused = pytest.raises(UserError, match=r"evaluation\.json: its scores have an unexpected")
    with refused:
        check_describable(bundle)
    with refused:
        put_latencies(bundle, [])


def test_rates_that_no_bundle_can_have_are_not_shown(bundle: Path):
    rates = {"<script>": next(iter(check_bundle(bundle).thresholds.false_accept_rates.values()))}
    told = {name: each and each.model_dump(mode="json") for name, each in rates.items()}
    change_json(
        bundle / "evaluation.json",
        lambda evaluation: evaluation["thresholds"].update(false_accept_rates=told),
    )
    sign(bundle)
    with pytest.raises(UserError, match=r"evaluation\.json: its scores have an unexpected"):
        check_describable(bundle)


def test_names_that_no_config_can_have_do_not_damage_a_bundle(bundle: Path):
    change_json(
        bundle / "evaluation.json",
        lambda told: told["sets"].update({"\x1b[2J": next(iter(told["sets"].values()))}),
    )
    sign(bundle)
    with pytest.raises(UserError, match=r"evaluation\.json: its scores have an unexpected"):
        check_describable(bundle)
    result = CliRunner().invoke(app, ["export", str(bundle), "--to", "onnx-fp16"])
    assert "its scores have an unexpected" in str(result.exception)
    assert BundleEmbedder(bundle).check_golden() > 0.9999


@pytest.mark.parametrize(
    "command",
    [
        ("latency",),
        ("export", "--to", "onnx-fp16"),
        ("threshold", "pairs.bin", "--into", "new"),
    ],
    ids=lambda command: command[0],
)
def test_bad_scores_are_refused_before_long_work(bundle, drawn_folder, monkeypatch, command):
    change_json(bundle / "evaluation.json", lambda told: told.update(sets={"a": []}))
    sign(bundle)
    monkeypatch.chdir(drawn_folder)
    works = ("export.latency.latencies", "export.more_formats.add_formats")
    for work in (*works, "evaluation.evaluate_sets.evaluate"):
        monkeypatch.setattr(f"distill.{work}", lambda *a, **k: pytest.fail("it began"))
    name, *options = command
    result = CliRunner().invoke(app, [name, str(bundle), *options])
    assert f"{bundle / 'evaluation.json'}: its scores have an unexpected" in str(result.exception)


def test_markup_in_an_evaluation_is_escaped_in_the_card(bundle: Path):
    hostile = "a\n\n# Heading\n\n<script>|x\u202e"

    def change(told: dict) -> None:
        told["thresholds"]["note"] = hostile
        told["warnings"] = [{"step": hostile, "text": hostile}]
        next(iter(told["sets"].values()))["reason"] = hostile

    change_json(bundle / "evaluation.json", change)
    sign(bundle)
    put_latencies(bundle, [])
    card = (bundle / "README.md").read_text()
    assert card.count("Heading") == 4
    assert "\n# Heading" not in card
    assert "<script>" not in card
    assert "\u202e" not in card


@pytest.mark.parametrize("change", ["garbage", "outside"])
def test_a_harmful_graph_is_refused_when_the_bundle_changes(bundle: Path, change: str):
    path = bundle / "model.onnx"
    if change == "garbage":
        path.write_bytes(b"\xff" * 100)
    else:
        model = onnx.load(path)
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../../etc/hostname")
        path.write_bytes(model.SerializeToString())
    sign(bundle)
    with pytest.raises(UserError, match=r"model\.onnx: "):
        put_latencies(bundle, [])
    with pytest.raises(UserError, match=r"model\.onnx: "):
        OnnxExporter().run(bundle)
