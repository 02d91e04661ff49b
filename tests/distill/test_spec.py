"""Job specs are validated before anything runs: every mistake is one line that names the key."""

import json
import re

import pytest

from curation.errors import UserError
from distill.pipeline.fit import check_job
from distill.pipeline.planning import plan
from distill.spec import JobSpec
from distill.spec_checks import evaluation_sets
from distill.spec_text import FORMS, SpecFile

GOOD = """
name = "try"
[data]
train = "drawn/train"
evaluate = ["pairs"]
[teacher.network]
backbone = "iresnet18"
embedding = 16
input_size = [32, 32]
width = 0.125
[teacher.stage]
epochs = 1
losses = { arcface = {} }
[student]
backbone = "mobilefacenet"
input_size = [32, 32]
[[stage]]
epochs = 1
losses = { arcface = {}, angular = {} }
"""


def load(text, workspace):
    """Read and check a spec, with batches that few images can fill unless the text sets them."""
    for table in ("train", "teacher.train"):
        if f"[{table}" not in text and (table == "train" or "[teacher.network]" in text):
            text += f"\n[{table}]\nbatch_size = 8\n"
    spec = SpecFile.parse(text)
    check_job(spec, workspace)
    return spec.job


def test_a_good_spec_has_every_default_filled_in(workspace):
    spec = load(GOOD, workspace)
    assert spec.train.learning_rate == 0.1
    assert spec.generations.count == 1
    assert [step.name for step in plan(spec)] == [
        "teach", "embed", "generation 1", "evaluate", "export",
    ]  # fmt: skip


def test_generations_and_stages_are_separate_steps(workspace):
    more = "\n[[stage]]\nepochs = 1\nlosses = { arcface = {} }\n[generations]\ncount = 2\n"
    names = [step.name for step in plan(load(GOOD + more, workspace)) if step.kind == "distil"]
    assert names == [
        "generation 1 stage 1", "generation 1 stage 2",
        "generation 2 stage 1", "generation 2 stage 2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "try"', 'name = "../try"', ["name:", "is not a job name"]),
        ('name = "try"', "", ["'name' is missing"]),
        ("epochs = 1", 'epochs = "1"',
         [":12:10: teacher.stage.epochs: must be a whole number, got '1'"]),
        ("epochs = 1", "epoch = 1",
         [":12:1: teacher.stage: unknown key 'epoch'", "epochs, losses", "mean 'epochs'"]),
        ('evaluate = ["pairs"]', "evaluate = 3", ["data.evaluate"]),
        ('evaluate = ["pairs"]', 'evaluate = ["pairs", "lfw", "pairs"]',
         [":5:29: data.evaluate 3: 'pairs' occurs twice"]),
        ("[student]", '[resources]\npartition = "a b"\n[student]',
         [":15:13: resources.partition: 'a b' is not a word of"]),
        ("[student]", "[student", [":14:9: not TOML: Expected ']'"]),
        ("[student]", "[pupil]", ["unknown key 'pupil'", "student"]),
        ('train = "drawn/train"', 'train = "drawn/tran"', ["'drawn/tran'", "drawn/train"]),
        ('train = "drawn/train"', 'train = "../.."', ["outside the workspace"]),
        ('evaluate = ["pairs"]', 'evaluate = ["../../x"]', ["outside the workspace"]),
        ('evaluate = ["pairs"]', 'evaluate = ["lfw"]', [":5:13: data.evaluate 1:", "drawn/lfw"]),
        ('"mobilefacenet"', '"mobilenet"', ["'mobilenet' is not known", "mobilefacenet"]),
        ("angular = {}", "angularr = {}",
         [":19:26: stage 1: losses.angularr", "did you mean 'angular'"]),
        ("losses = { arcface = {} }", "losses = { angular = {} }", ["a teacher has no teacher"]),
        ("losses = { arcface = {}, angular = {} }",
         "losses = { arcface = {}, intra = {} }\n[train.centres]\nsharded = true",
         [":19:26: stage 1: losses.intra: needs", "centres.sharded is true",
          "softmax, sphereface, subcentre"]),
        ("losses = { arcface = {} }",
         "losses = { inter = {} }\n[teacher.train.centres]\nsharded = true",
         [":13:12: teacher.stage.losses.inter: needs", "or set sharded = false"]),
        ("losses = { arcface = {}, angular = {} }",
         'losses = { arcface = {} }\n[train]\nengine = "deepspeed"\ncentres = { sharded = true }',
         ["train.centres: ", 'need engine = "torch"']),
        ("input_size = [32, 32]", "input_size = [30, 32]", ["not a multiple of", "stride"]),
        ('backbone = "mobilefacenet"', 'backbone = "mobilefacenet"\nembedding = 8',
         [":16:13: student.embedding: 8 is not the teacher's 16"]),
        ("[[stage]]", '[[stage]]\noptimiser = "kept"',
         [":18:13: stage 1: optimiser", 'allowed: "fresh"']),
        ("[[stage]]", "[[stage]]\nlearning_rate = 1e-5",
         [":18:17: stage 1: learning_rate: 1e-05 is below", "train.final_learning_rate = 0.0001"]),
        ("[student]", '[train]\noptimiser = "adamw"\nmomentum = 0.9\n[student]',
         [":16:12: train.momentum: needs", "betas"]),
        ('backbone = "mobilefacenet"', 'backbone = "mobilefacenet"\nembedding = 1000000000',
         [":16:13: student.embedding: 1000000000 is above 8192"]),
        ('backbone = "mobilefacenet"', 'backbone = "mobilefacenet"\nwidth = 1e6',
         [":16:9: student.width: 1000000.0 is above 8"]),
        ("[student]", "[train]\ndecode_threads = 10000000\n[student]",
         [":15:18: train.decode_threads: 10000000 is above 256"]),
        ("[student]", "[train]\nmilestones = [0.5]\n[student]",
         [":15:14: train.milestones: needs", 'schedule = "step"']),
    ],
)  # fmt: skip
def test_each_error_is_one_line_with_the_allowed_values(workspace, old, new, words):
    assert old in GOOD
    with pytest.raises(UserError) as error:
        load(GOOD.replace(old, new), workspace)
    message = str(error.value)
    assert all(line.startswith("  ") for line in message.split("\n")[1:])
    assert re.match(r"spec\.toml:\d+:\d+: ", message)
    for word in words:
        assert word in message


def test_a_student_over_its_budget_is_refused_before_training(workspace):
    within = 'backbone = "mobilefacenet"\nbudget = { mflops = 100, size_mib = 4, embedding = 16 }'
    load(GOOD.replace('backbone = "mobilefacenet"', within), workspace)
    with pytest.raises(UserError, match=r"student.budget: mobilefacenet .* mflops .* over 10;"):
        load(GOOD.replace('backbone = "mobilefacenet"', within.replace("100", "10")), workspace)
    with pytest.raises(
        UserError, match=r"student.budget: unknown key 'flops' \(allowed here: mflops"
    ):
        load(GOOD.replace('backbone = "mobilefacenet"', within.replace("mf", "f")), workspace)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (
            'from = "../../etc/passwd.onnx"\npreprocessing = { colour = "RGB", mean = 0, std = 1 }',
            "outside the workspace",
        ),
        ('from = "none.onnx"\npreprocessing = { colour = "RGB", mean = 0, std = 1 }', "no file"),
        ('from = "none.onnx"', "preprocessing belongs to an .onnx file"),
        ('from = "none"', "nor a finished job"),
        ("", "give one of from"),
    ],
)
def test_a_teacher_comes_from_inside_the_workspace(workspace, teacher, words):
    student = GOOD[GOOD.index("[student]") :]
    head = GOOD[: GOOD.index("[teacher.network]")]
    with pytest.raises(UserError, match=words):
        load(f"{head}[teacher]\n{teacher}\n{student}", workspace)


def test_distillation_needs_a_teacher(workspace):
    head, student = GOOD[: GOOD.index("[teacher.network]")], GOOD[GOOD.index("[student]") :]
    with pytest.raises(
        UserError, match=r"spec.toml:11:26: stage 1: losses.angular: needs a \[teacher\]"
    ):
        load(head + student, workspace)


def test_a_link_out_of_the_workspace_is_refused(workspace, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (workspace.datasets / "drawn" / "linked.lmdb").symlink_to(tmp_path / "elsewhere")
    (workspace.datasets / "away").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="outside the workspace"):
        load(GOOD.replace('"drawn/train"', '"away/train"'), workspace)
    with pytest.raises(UserError, match="outside the workspace"):
        load(GOOD.replace('"drawn/train"', '"drawn/linked"'), workspace)


def test_evaluation_sets_are_pairs_or_image_sets(workspace):
    spec = load(GOOD.replace('["pairs"]', '["pairs", "drawn/train"]'), workspace)
    names = {name: each.path.name for name, each in evaluation_sets(spec, workspace).items()}
    assert names == {"pairs": "pairs.bin", "drawn/train": "train.lmdb"}


def test_the_rest_of_a_failed_redirection_is_called_empty():
    """The shell creates the file before `distill init` refuses its options."""
    with pytest.raises(UserError, match=r"^jobs/mine\.toml is empty; `distill init` prints a spec"):
        SpecFile.parse("", "jobs/mine.toml")


def test_a_byte_order_mark_is_ignored(tmp_path):
    (tmp_path / "a.toml").write_text(GOOD, "utf-8-sig")
    assert SpecFile.read(tmp_path / "a.toml").text == GOOD


@pytest.fixture
def listed(workspace, drawn_store):
    """The workspace with a list of alternating genuine and impostor pairs."""
    starts = drawn_store.offsets[:-1].tolist()
    firsts = [start + image for start in starts for image in (0, 2)]
    others = [*firsts[2:], 0, 0]
    lines = [f"{a} {a + 1} 1\n{a} {b} 0\n" for a, b in zip(firsts, others, strict=True)]
    (workspace.datasets / "drawn" / "mine.txt").write_text("".join(lines))
    return workspace


def test_a_list_of_pairs_of_a_set_is_an_evaluation_set(listed):
    spec = load(GOOD.replace('["pairs"]', '["mine.txt:train"]'), listed)
    [source] = evaluation_sets(spec, listed).values()
    assert source.is_pairs
    found = source.open()
    assert found.name == "mine-train"
    assert found.same.tolist() == [True, False] * (len(found) // 2)
    spec = load(GOOD.replace('["pairs"]', '["drawn/mine.txt:drawn/train"]'), listed)
    assert list(evaluation_sets(spec, listed).values()) == [source]


def test_a_bare_name_is_beside_the_training_set_or_unique(workspace):
    def found(name: str) -> str:
        spec = load(GOOD.replace('["pairs"]', f'["{name}"]'), workspace)
        (source,) = evaluation_sets(spec, workspace).values()
        return source.path.relative_to(workspace.datasets).as_posix()

    pairs = (workspace.datasets / "drawn" / "pairs.bin").read_bytes()
    for other in ("street/hard.bin", "street/pairs.bin"):
        (workspace.datasets / other).parent.mkdir(exist_ok=True)
        (workspace.datasets / other).write_bytes(pairs)
    assert found("pairs") == "drawn/pairs.bin"
    assert found("hard") == "street/hard.bin"
    (workspace.datasets / "office").mkdir()
    (workspace.datasets / "office" / "hard.bin").write_bytes(pairs)
    said = "data.evaluate 1: several data sets have a 'hard'; allowed: office/hard, street/hard"
    with pytest.raises(UserError, match=said):
        found("hard")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other.txt:train", r"list of pairs 'other.txt' is not in the workspace \(no file "),
        ("mine.txt:trian", "set of a list of pairs 'drawn/trian' is not in the workspace"),
        ("mine.txt", "add the store or view whose images it names, such as mine.txt:drawn/train"),
        ("../../mine.txt:train", "is outside the workspace"),
    ],
    ids=["no list", "no set", "no name of a set", "outside"],
)
def test_a_missing_list_is_refused_first(listed, name, words):
    with pytest.raises(UserError, match=f"data.evaluate 1: .*{words}"):
        load(GOOD.replace('["pairs"]', f'["{name}"]'), listed)


def test_a_link_out_of_the_workspace_is_named(listed, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk") / "drawn"
    (listed.datasets / "drawn").rename(elsewhere)
    (listed.datasets / "drawn").symlink_to(elsewhere)
    said = f"'drawn/train' is outside the workspace .*, because a link leads to {elsewhere}/train; "
    with pytest.raises(UserError, match=said + "copy that into the workspace, or move"):
        load(GOOD, listed)


def test_a_line_of_a_list_that_is_wrong_is_named_first(listed):
    (listed.datasets / "drawn" / "mine.txt").write_text("0 99999 1\n")
    with pytest.raises(UserError, match=r"data.evaluate 1: 'mine.txt:train': .*mine.txt: line 1"):
        load(GOOD.replace('["pairs"]', '["mine.txt:train"]'), listed)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name = " + b"[" * 5000, b"\x00"])
def test_garbage_is_refused_in_one_line(workspace, content):
    path = workspace.root / "garbage.toml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        SpecFile.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "spoilt",
    [
        "".join(f"k{i} = 1\n" for i in range(6_000)) + GOOD,
        "a" * 60_000 + " = 1\n" + GOOD,
        '"' + "a b" * 20_000 + '" = 1\n' + GOOD,
        GOOD.replace("drawn/train", "a\\u0000b/c"),
        GOOD.replace("drawn/train", "../" + "a" * 20_000 + "/b"),
        GOOD.replace("mobilefacenet", "m" * 20_000),
        GOOD.replace("epochs = 1", "epochs = " + "9" * 5_000),
        GOOD + "[generations]\nseeds = [" + "1," * 20_000 + "]",
        GOOD + "[train]\nlearning_rate = nan",
        GOOD + "[train]\nlearning_rate = 1e999",
        GOOD + "".join(f"[train.{'a.' * 30}k{i}]\n" for i in range(800)),
    ],
    ids=lambda text: text[:12],
)
def test_specs_of_any_size_are_refused_in_a_few_words(workspace, spoilt):
    with pytest.raises(UserError) as error:
        load(spoilt, workspace)
    message = str(error.value)
    assert len(message) < 2_000
    assert all(line.startswith("  ") for line in message.split("\n")[1:])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("angular = {}", "angular.project = 1", "19:44: stage 1: losses.angular.project: must"),
        ("losses = { arcface = {}, angular = {} }",
         '[stage.losses."arcface"]\n  "margin"\t= 28.6',
         "20:14: stage 1: losses.arcface.margin: 28.6"),
        ("losses = { arcface = {}, angular = {} }",
         "losses.arcface.margin = 28.6", "19:25: stage 1: losses.arcface.margin: 28.6 is"),
        ("arcface = {}, a", "arcface = { margn = 1 }, a",
         "19:24: stage 1: losses.arcface: unknown key 'margn'"),
        ("losses = { arcface = {}, angular = {} }", 'losses = ["arcface"]',
         "19:10: stage 1: losses: must be a table"),
        ("[[stage]]", "[stage]", "17:2: stage: must be a list, such as [[stage]]"),
        ('["pairs"]', '[ # both\n  "pairs",\n  "pears",\n]', "7:3: data.evaluate 2: evaluation"),
        ('"mobilefacenet"\ninput_size = [32, 32]', '"mobilefacenet"\ninput_size = [32, 30]',
         "16:14: student.input_size: mobilefacenet: input size 32x30"),
        ('"mobilefacenet"\ninput_size = [32, 32]', '"mobilefacenet"\ninput_size = [32]',
         "16:14: student.input_size: value 2 is missing"),
        ('"mobilefacenet"', '"timm/resnet18"\nwidth = 0.5', "16:9: student.width: timm's"),
        ('"mobilefacenet"', '"timm/resnet81"', "15:12: student.backbone: backbone 'timm/res"),
        ("[[stage]]\nepochs = 1", "[[stage]]\nepochs = 1\nepochs = 2",
         "19:1: 'epochs' is given twice, first in line 18"),
        ("[student]", "[data]\n[student]", "14:2: 'data' is given twice, first in line 3"),
        ("[[stage]]\nepochs = 1", "[[stage]]\nepochs =", "18:9: not TOML: Invalid value"),
        ("[student]", "[train]\nbatch_size = 1000000\n[student]",
         "15:14: train.batch_size: 1000000 is above 48"),
        ("[student]", "[generations]\nseeds = [\n1,\n\n-3]\n[student]",
         "18:1: generations.seeds 2: -3"),
        ("[teacher.network]", '[[teacher.ensemble]]\nfrom = "a"\n[[teacher.ensemble]]\nfrom = 1\n'
         "[teacher.network]", "9:8: teacher.ensemble 2: from: must"),
    ],
)  # fmt: skip
def test_every_kind_of_fault_names_line_and_column(workspace, old, new, said):
    assert old in GOOD
    with pytest.raises(UserError) as error:
        load(GOOD.replace(old, new, 1), workspace)
    assert str(error.value).startswith(f"spec.toml:{said}"), error.value


def test_a_number_or_a_list_of_numbers_is_reported_once(workspace):
    head, student = GOOD[: GOOD.index("[teacher.network]")], GOOD[GOOD.index("[student]") :]
    teacher = (
        '[teacher]\nfrom = "a.onnx"\npreprocessing = {{ colour = "RGB", mean = {}, std = 1.0 }}\n'
    )
    for mean, said in (('"x"', "must be a number, got 'x'"),
                       ("[1.0, 2.0]", "value 3 is missing")):  # fmt: skip
        with pytest.raises(UserError) as error:
            load(head + teacher.format(mean) + student, workspace)
        assert str(error.value) == f"spec.toml:8:42: teacher.preprocessing.mean: {said}"


def test_every_pattern_of_a_spec_is_explained_in_words():
    patterns = set(
        re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', json.dumps(JobSpec.model_json_schema()))
    )
    assert {json.loads(each) for each in patterns} == set(FORMS)
