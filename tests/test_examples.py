"""The examples are well-formed, and every command in them exists and has the options used."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer

from distill.cli.main import app

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
COMMANDS = typer.main.get_command(app).commands

SERVICE_KEYS = {
    "Unit": {"Description"},
    "Service": {"Type", "Environment", "ExecStart", "KillMode", "OOMPolicy", "Restart",
                "RestartSec", "LimitNOFILE"},
    "Install": {"WantedBy"},
}  # fmt: skip
INSTRUCTIONS = {"FROM", "RUN", "COPY", "ENV", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD"}
SECTIONS = {"%files", "%post", "%environment", "%runscript"}
SBATCH = {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time",
          "requeue", "open-mode", "signal"}  # fmt: skip


def text(name: str) -> str:
    return (EXAMPLES / name).read_text()


def code(name: str) -> str:
    """The code without comments, with continued lines joined."""
    lines = [line for line in text(name).splitlines() if not line.lstrip().startswith("#")]
    return "\n".join(lines).replace("\\\n", " ")


def check_command(words: list[str]) -> None:
    """Check that the command and its options exist, and that the value of a choice is allowed."""
    verb, *rest = words
    assert verb in COMMANDS, words
    options = {name: each for each in COMMANDS[verb].params for name in each.opts}
    for word in rest:
        name = word.partition("=")[0]
        assert not name.startswith("-") or name in options, words


def commands(name: str) -> list[list[str]]:
    """Every `distill` command in an example, including its comments."""
    lines = re.sub(r"\\\n#?", " ", text(name))
    found = re.findall(r"(?:\bdistill|distill\.sif|face-distill) ([a-z]+\b[^#`\n&:]*)", lines)
    return [shlex.split(words) for words in found if words.split()[0] in COMMANDS]


def test_each_example_is_checked() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir()) == [
        "Dockerfile", "distill.def", "distill.service", "phone", "python", "student.ipynb",
        "two-nodes.sbatch",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["Dockerfile", "distill.def", "distill.service", "two-nodes.sbatch"]
)
def test_commands_of_examples_exist(name: str) -> None:
    found = [words for words in commands(name) if words[0] in COMMANDS]
    assert found, "each example runs one"
    for words in found:
        check_command(words)


def service() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text("distill.service"))
    return parser


def test_the_unit_lets_jobs_outlive_the_daemon() -> None:
    unit = service()
    assert {name: set(unit[name]) for name in unit.sections()} == SERVICE_KEYS
    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["OOMPolicy"] == "continue"
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/bin/distill")
    check_command(words)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "distill.service"
    program = re.search("ExecStart=(\\S+)", text("distill.service"))
    assert program
    unit.write_text(text("distill.service").replace(program[1], "/bin/true"))
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in ran.stderr.splitlines() if "distill.service" in line]
    assert (ran.returncode, said) == (0, [])


def test_the_container_file_copies_existing_paths() -> None:
    instructions = [line.split(maxsplit=1) for line in code("Dockerfile").splitlines() if line]
    assert {name for name, _ in instructions} <= INSTRUCTIONS
    assert instructions[0][0] == "FROM"
    for name, rest in instructions:
        if name == "COPY":
            *sources, _ = rest.split()
            assert [each for each in sources if not (ROOT / each).exists()] == []
        if name in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(rest), list), "no shell in between"
    entry = [rest for name, rest in instructions if name == "ENTRYPOINT"]
    assert entry == ['["distill"]']
    (command,) = [rest for name, rest in instructions if name == "CMD"]
    check_command(json.loads(command))


def test_the_apptainer_definition_has_known_sections() -> None:
    lines = code("distill.def").splitlines()
    assert [line.split(":")[0] for line in lines if line][:2] == ["Bootstrap", "From"]
    assert {line for line in lines if line.startswith("%")} == SECTIONS
    files = code("distill.def").split("%files")[1].split("%")[0].split("\n")
    pairs = [line.split() for line in files if line.strip()]
    assert [source for source, _ in pairs if not (ROOT / source).exists()] == []
    assert all(target == f"/opt/face-distill/{source}" for source, target in pairs)


@pytest.mark.parametrize("name", ["Dockerfile", "distill.def"])
def test_a_container_installs_jobs_and_curation(name: str) -> None:
    (named,) = re.findall(r"pip install [^\n]*\[([a-z,]+)\]", code(name))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = " ".join(line for extra in named.split(",") for line in extras[extra])
    assert {"torch", "fastapi", "faiss", "lmdb"} <= set(re.findall(r"[a-z]+", wanted))


def test_both_containers_copy_the_whole_package() -> None:
    copied = set(re.findall(r"^COPY (.*) \S+$", text("Dockerfile"), re.MULTILINE))
    assert {word for line in copied for word in line.split()} == {
        line.split()[0]
        for line in code("distill.def").split("%files")[1].split("%")[0].splitlines()
        if line.strip()
    }


def test_the_script_for_slurm_is_a_script_with_known_directives() -> None:
    subprocess.run(["bash", "-n", str(EXAMPLES / "two-nodes.sbatch")], check=True)
    lines = text("two-nodes.sbatch").splitlines()
    assert lines[0] == "#!/bin/bash"
    directives = [line for line in lines if line.startswith("#SBATCH")]
    names = [re.fullmatch(r"#SBATCH --([a-z-]+)(=\S+)?", line) for line in directives]
    assert {name[1] for name in names if name} == SBATCH
    assert None not in names
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(map(lines.index, directives)) < first_command, "sbatch reads no further"


def test_torchrun_accepts_the_options_of_the_examples() -> None:
    from torch.distributed.run import parse_args

    script = code("two-nodes.sbatch")
    words = shlex.split(script[script.index("torchrun ") : script.index(" &\n")])
    parsed = parse_args([word.replace("$SLURM_NNODES", "2") for word in words[1:]])
    assert (parsed.nnodes, parsed.max_restarts, parsed.training_script) == ("2", 0, "distill")
    assert parsed.training_script_args == ["run", "$spec"]


def test_the_script_runs_as_far_as_slurm_lets_it(tmp_path: Path) -> None:
    """Uses substitutes of Slurm's and torch's programs that record their arguments."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in ("scontrol", "srun", "distill"):
        program = bin_folder / name
        answer = "printf 'n1\\nn2\\n'" if name == "scontrol" else "true"
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/said\n{answer}\n')
        program.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[1-2]",
             "SLURM_CPUS_PER_TASK": "4", "SLURM_GPUS_ON_NODE": "4",
             "PATH": f"{bin_folder}:/usr/bin:/bin"}  # fmt: skip
    script = str(EXAMPLES / "two-nodes.sbatch")
    subprocess.run(["bash", script, "jobs/a b.toml"], env=slurm, cwd=tmp_path, check=True)
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0] == "distill check jobs/a b.toml"
    assert "--nnodes 2 --nproc-per-node 4" in said[-1]
    assert said[-1].endswith("--rdzv-id 7 --rdzv-endpoint n1:29500 -m distill run jobs/a b.toml")
    assert subprocess.run(["bash", script], env=slurm, capture_output=True).returncode == 1
    (bin_folder / "srun").write_text("#!/bin/sh\nexit 3\n")
    assert subprocess.run(["bash", script, "a"], env=slurm, cwd=tmp_path).returncode == 3
