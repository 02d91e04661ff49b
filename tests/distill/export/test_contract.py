"""A bundle states its use and origin in config.json, in ONNX metadata and on its model card."""

import json
import shutil
from pathlib import Path

import onnx
import pytest
from timm.models._hub import load_model_config_from_path

from curation.errors import UserError
from curation.workspace import Workspace
from distill.export.bundle import export_bundle, write_json
from distill.export.bundle_files import check_bundle
from distill.export.checksums import write_sums
from distill.export.config import BundleConfig, TimmConfig
from distill.export.markdown import fenced, plain
from distill.export.remeasured import put_thresholds
from distill.pipeline.licences import licences
from distill.spec_errors import SpecError
from distill.spec_text import parse_spec
from teachers.preprocessing import Preprocessing

SPEC = 'name = "small"  # ```` <script>\n'
TERMS = [
    {"of": "weights", "name": "small", "licence": "CC-BY-NC-4.0", "through": []},
    {
        "of": "data",
        "name": "ms1m/clean",
        "licence": "no sale | <b>ever</b>",
        "through": [],
    },
    {"of": "teacher", "name": "r100", "licence": None, "through": []},
    {"of": "data", "name": "glint/all", "licence": None, "through": ["r100"]},
]
LINEAGE = {
    "job": "small",
    "spec": SPEC,
    "data": [{"name": "ms1m/clean", "digest": "c" * 64, "images": 5000, "identities": 90}],
    "licences": TERMS,
    "steps": [
        {"name": "embed", "id": "e" * 64},
        {"name": "generation 1 stage 1", "id": "distil-0000000000000001"},
        {"name": "generation 2 stage 1", "id": "distil-0000000000000002"},
    ],
    "provenance": {"spec": "d" * 64, "teacher": {"r100": "f" * 64}},
}


@pytest.fixture(scope="module")
def evaluation(small_evaluation: dict) -> dict:
    """An evaluation with intervals and the scores of the teacher and the first generation."""
    report = json.loads(json.dumps(small_evaluation["sets"]["easy"]))
    report["accuracy_interval"] = [0.86, 0.89]
    report["tar_at_far"]["1e-2"] |= {"interval": [0.7, 0.8], "threshold_interval": [0.48, 0.52]}
    thresholds = json.loads(json.dumps(small_evaluation["thresholds"]))
    thresholds["false_accept_rates"]["1e-2"] |= {
        "interval": [0.7, 0.8],
        "threshold_interval": [0.48, 0.52],
    }
    better = {**report, "accuracy": 0.95, "accuracy_interval": [0.94, 0.96]}
    networks = {"teacher": {"sets": {"easy": better}}, "generation 1": {"sets": {"easy": report}}}
    return {"sets": {"easy": report}, "thresholds": thresholds, "networks": networks}


@pytest.fixture(scope="module")
def told(tmp_path_factory, small_network, small_config, evaluation: dict) -> Path:
    destination = tmp_path_factory.mktemp("told") / "small"
    return export_bundle(destination, small_network, small_config, evaluation, LINEAGE)


def metadata(bundle: Path) -> dict[str, str]:
    model = onnx.load(bundle / "model.onnx")
    return {each.key: each.value for each in model.metadata_props}


def test_the_onnx_file_states_its_contract(told: Path):
    said = metadata(told)
    assert said["input"].startswith("image: float32 [N, 3, 32, 32], NCHW: an aligned face")
    assert (said["colour"], said["output_length"], said["distance"]) == ("BGR", "16", "cosine")
    assert said["scale"] == "(pixel - 127.5) / 128.0, of pixels 0 ... 255"
    assert said["mirror"] == "sum: normalise(f(image) + f(mirrored image))"
    assert json.loads(said["template"])["points"][0] == [38.2946, 51.6963]
    threshold = json.loads(said["thresholds"])["false_accept_rates"]["1e-2"]
    assert (threshold["impostors"], threshold["interval"]) == (1000, [0.7, 0.8])
    assert json.loads(said["data"])[0]["images"] == 5000
    assert json.loads(said["licences"]) == TERMS
    scores = json.loads(said["scores"])["easy"]
    assert (scores["student"]["accuracy"]["value"], scores["teacher"]["accuracy"]["value"]) == (
        0.875,
        0.95,
    )
    lineage = json.loads(said["lineage"])
    assert [each["name"] for each in lineage["generations"]] == ["generation 1", "generation 2"]
    assert (lineage["job"], lineage["spec"], lineage["teachers"]) == (
        "small",
        "d" * 64,
        {"r100": "f" * 64},
    )


def test_the_config_states_the_same_contract(told: Path):
    config, said = json.loads((told / "config.json").read_text()), metadata(told)
    assert config["thresholds"] == json.loads((told / "thresholds.json").read_text())
    assert config["origin"]["licences"] == json.loads(said["licences"])
    assert config["origin"]["scores"] == json.loads(said["scores"])
    assert config["sizes"]["parameters"] > 1000
    assert config["origin"]["generations"][0]["accuracy"] == {"easy": 0.875}


def test_the_card_states_the_same_and_escapes_texts_of_specs(told: Path):
    card = (told / "README.md").read_text()
    assert 'license: "cc-by-nc-4.0"' in card.split("---")[1]
    assert "| ms1m/clean | 5,000 | 90 | `cccccccccccccccc` |" in card
    assert "no sale \\| &lt;b&gt;ever&lt;/b&gt; |" in card
    assert "| teacher r100 | unknown |" in card
    assert "| data glint/all, of r100 | unknown |" in card
    assert "| easy | accuracy | 0.8750 (0.8600 to 0.8900) | 0.9500 (0.9400 to 0.9600) |" in card
    assert (
        "| 1e-2 | 0.5000 (0.4800 to 0.5200) | 0.7500 (0.7000 to 0.8000) | easy | 1,000 / 1,000 |"
        in card
    )
    assert f"`````toml\n{SPEC.strip()}\n`````" in card
    assert "(38.2946, 51.6963)" in card


@pytest.mark.parametrize("text", ["a | b", "<script>", "![x](y)", "*a* _b_", "one\ntwo", "`c`"])
def test_no_text_becomes_markdown(text: str):
    found = plain(text)
    assert "\n" not in found
    assert "<" not in found
    assert all(found[i - 1] == "\\" for i in range(len(found)) if found[i] in "|*_`[]!")


def test_a_fence_is_longer_than_any_in_the_text():
    assert fenced("a ```` b", "toml").splitlines()[0] == "`````toml"


def test_measured_thresholds_reach_every_file(told: Path, evaluation: dict, tmp_path: Path):
    copy = Path(shutil.copytree(told, tmp_path / "copy"))
    thresholds = json.loads(json.dumps(evaluation["thresholds"]))
    thresholds["false_accept_rates"]["1e-2"]["threshold"] = 0.625
    put_thresholds(copy, evaluation["sets"], thresholds)
    config, _ = check_bundle(copy)
    found = config.thresholds.false_accept_rates["1e-2"].threshold
    in_onnx = json.loads(metadata(copy)["thresholds"])["false_accept_rates"]["1e-2"]["threshold"]
    assert found == in_onnx == 0.625
    assert "| 1e-2 | 0.6250 (" in (copy / "README.md").read_text()


def test_thresholds_that_differ_are_refused(told: Path, tmp_path: Path):
    copy = Path(shutil.copytree(told, tmp_path / "copy"))
    thresholds = json.loads((copy / "thresholds.json").read_text())
    thresholds["false_accept_rates"]["1e-2"]["threshold"] = 0.1
    write_json(copy / "thresholds.json", thresholds)
    write_sums(copy)
    with pytest.raises(UserError, match=r"thresholds are not those of thresholds\.json"):
        check_bundle(copy)


def test_an_older_bundle_lacks_fields_and_still_opens(small_bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(small_bundle, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    for key in ("model_type", "num_classes", "sizes", "thresholds", "origin"):
        del config[key]
    write_json(copy / "config.json", config)
    write_sums(copy)
    assert check_bundle(copy).config.origin is None


def test_timm_loads_the_network_from_a_folder(told: Path, small_config: BundleConfig, tmp_path):
    pretrained, architecture, _ = load_model_config_from_path(told)
    assert (architecture, pretrained["num_classes"]) == ("mobilefacenet", 0)
    assert "mean" not in pretrained  # the network uses BGR, which timm cannot express
    ours = Preprocessing.ours((32, 32))
    face = small_config.face.model_copy(update={"preprocessing": ours})
    update = {"face": face, "pretrained_cfg": TimmConfig.of(ours)}
    write_json(
        tmp_path / "config.json", small_config.model_copy(update=update).model_dump(mode="json")
    )
    pretrained, architecture, _ = load_model_config_from_path(tmp_path)
    assert (pretrained["mean"], pretrained["std"]) == ([0.5] * 3, [0.5] * 3)
    assert pretrained["input_size"] == [3, 32, 32]


JOB = """
name = "next"
data = { train = [{ set = "a/b" }, { set = "c/d" }] }
student = { backbone = "mobilefacenet" }
teacher = { from = "before" }
stage = [{ epochs = 1, losses = { angular = {} } }]
"""


def test_a_student_inherits_the_licences_of_its_teacher(told: Path, tmp_path: Path):
    workspace = Workspace(tmp_path)
    (tmp_path / "runs" / "before").mkdir(parents=True)
    shutil.copytree(told, tmp_path / "runs" / "before" / "bundle")
    spec = parse_spec(JOB + '[licence]\ndata = { "a/b" = "MIT" }\nweights = "Apache-2.0"', "x.toml")
    found = [tuple(each.values()) for each in licences(spec, workspace)]
    assert found == [
        ("weights", "next", "Apache-2.0", []),
        ("data", "a/b", "MIT", []),
        ("data", "c/d", None, []),
        ("teacher", "before", "CC-BY-NC-4.0", []),
        ("data", "ms1m/clean", "no sale | <b>ever</b>", ["before"]),
        ("teacher", "r100", None, ["before"]),
        ("data", "glint/all", None, ["before", "r100"]),
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('data = { "x/y" = "MIT" }', "licence.data.x/y: there is no such data; allowed: a/b, c/d"),
        ('teacher = { other = "MIT" }', "there is no such teacher; allowed: before"),
        ("data = 3", "must be a text"),
        ('weights = "a\\nb"', "licence.weights"),
        ('of = "x"', "licence: unknown key 'of'"),
    ],
)
def test_a_licence_without_a_subject_is_refused(table: str, words: str):
    with pytest.raises((SpecError, UserError), match=words.replace(".", r"\.")):
        parse_spec(JOB + f"[licence]\n{table}", "x.toml")
