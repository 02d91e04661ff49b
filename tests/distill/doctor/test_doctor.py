"""`distill doctor`: the findings of each check, and that no check can hang or break it."""

import json
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

import distill.doctor.checks
from curation.registry import import_files
from curation.workspace import Workspace
from distill.cli.main import app
from distill.daemon.opening import open_queue
from distill.doctor import examination
from distill.doctor.checks import clock, disk, gpu, packages, process, slurm
from distill.doctor.children import NoAnswerError, ask, ask_python
from distill.doctor.examination import Diagnosis, Verdict, check, examine, ok, wrong

OK, WARNING, WRONG = Verdict.OK, Verdict.WARNING, Verdict.WRONG


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test's own checks are registered."""
    import_files("distill.doctor.checks")
    monkeypatch.setattr(examination, "CHECKS", {})


def program(folder: Path, name: str, script: str) -> None:
    """Write a program that replaces one of the system's."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, the only one on PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_each_finding_has_the_name_of_its_check(no_checks: None, workspace: Workspace) -> None:
    @check("two things")
    def two(given: Workspace):
        yield ok("one")
        yield wrong(str(given.root.name), "do this")

    assert list(examine(workspace)) == [
        ("two things", Diagnosis(OK, "one")),
        ("two things", Diagnosis(WRONG, "workspace", "do this")),
    ]


def test_a_check_that_breaks_or_hangs_is_a_finding(no_checks: None, workspace: Workspace) -> None:
    @check("breaks")
    def breaks(given: Workspace):
        yield ok("so far")
        raise KeyError("x")

    @check("hangs", seconds=0.1)
    def hangs(given: Workspace):
        time.sleep(300)
        yield ok("never")

    began = time.monotonic()
    found = list(examine(workspace))
    assert time.monotonic() - began < 60
    assert [(name, each.verdict) for name, each in found][-1] == ("hangs", WRONG)
    assert "KeyError: 'x'" in found[-2][1].text
    assert "no answer in" in found[-1][1].text


def test_a_file_added_to_the_package_is_a_check(
    no_checks: None, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dropped_check.py").write_text(
        "from distill.doctor.examination import check, ok\n"
        "@check('dropped')\ndef dropped(workspace):\n    yield ok('in')\n"
    )
    monkeypatch.setattr(distill.doctor.checks, "__path__", [str(tmp_path)])
    assert list(examine(workspace)) == [("dropped", Diagnosis(OK, "in"))]
    sys.modules.pop("distill.doctor.checks.dropped_check")


def run(workspace: Workspace, *options: str):
    return CliRunner().invoke(app, ["doctor", "--workspace", str(workspace.root), *options])


def test_the_exit_status_says_whether_jobs_would_fail(
    no_checks: None, workspace: Workspace
) -> None:
    check("good")(lambda given: [ok("well")])
    assert run(workspace).exit_code == 0
    check("bad")(lambda given: [wrong("broken", "mend it")])
    ran = run(workspace, "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout) == [
        {"check": "good", "verdict": "ok", "text": "well", "next": ""},
        {"check": "bad", "verdict": "wrong", "text": "broken", "next": "mend it"},
    ]
    shown = run(workspace)
    assert "bad: mend it" in shown.stdout
    assert "1 of 2 checks failed" in shown.stderr
    assert not workspace.root.exists()


@pytest.mark.parametrize(
    ("finding", "verdict", "words"),
    [
        (clock.judge_clock(2e9, 0.01), OK, "2033-05-18 03:33:20 UTC"),
        (clock.judge_clock(2e9, -3.0), WARNING, "jumped by -3.00 s"),
        (clock.judge_clock(1e9, 0.0), WRONG, "it is set to 2001-09-09"),
        (clock.judge_skew(0.1), OK, "agree with this machine's clock"),
        (clock.judge_skew(-90.0), WARNING, "clock by -90.0 s"),
        (disk.judge_room(Path("/x"), 5 << 40), OK, "5,497.6 GB free at /x"),
        (disk.judge_room(Path("/x"), 2 << 30), WARNING, "2.1 GB free"),
        (disk.judge_room(Path("/x"), 0), WRONG, "0 MB free"),
        (disk.judge_speed(2e8), OK, "writes 200 MB a second"),
        (disk.judge_speed(1e6), WARNING, "writes 1 MB a second"),
        (gpu.judge_shared(64 << 20), WARNING, "/dev/shm has 64 MiB"),
        (gpu.judge_shared(8 << 30), OK, "8.6 GB"),
        (slurm.judge_partitions("a 2 up gpu:8\nb 1 down (null)\n"), OK, "partitions a (2 nodes)"),
        (slurm.judge_partitions("b 1 down (null)\n"), WARNING, "no partition is up"),
        (slurm.judge_partitions("\x1b[31m\n"), WARNING, "no partition is up"),
    ],
)
def test_measurements_are_judged(finding: Diagnosis, verdict: Verdict, words: str) -> None:
    assert finding.verdict is verdict
    assert words in finding.text
    assert bool(finding.next) is (verdict is not OK)


TORCH = {"version": "2.14", "cuda": "13.0", "reason": "", "devices": 2, "nccl": True,
         "nccl_version": "2.27.3"}  # fmt: skip


@pytest.mark.parametrize(
    ("told", "gpus", "verdicts", "words"),
    [
        ({"devices": 0, "reason": "no driver"}, 0, [OK], "built for CUDA 13.0"),
        ({"cuda": None, "devices": 0}, 0, [OK], "built for CPUs"),
        ({}, 2, [OK, OK], "NCCL 2.27.3"),
        ({}, 1, [OK], "torch 2.14"),
        ({"cuda": None, "devices": 0, "nccl": False}, 2, [WRONG, WRONG], "no NCCL"),
        ({"devices": 0, "reason": "the driver is too old"}, 1, [WRONG], "the driver is too old"),
        ({"devices": 1}, 2, [WARNING, OK], "sees 1 of 2 GPUs"),
    ],
)
def test_torch_is_judged_by_the_existing_gpus(
    told: dict, gpus: int, verdicts: list[Verdict], words: str
) -> None:
    found = list(gpu.judge_torch({**TORCH, **told}, gpus))
    assert [each.verdict for each in found] == verdicts
    assert words in " ".join(each.text for each in found)


def test_the_memory_of_each_gpu_is_reported(programs: Path, workspace: Workspace) -> None:
    lines = ["0, NVIDIA H200, 143771, 143000, 570.86", "1, NVIDIA H200, 143771, 900, 570.86",
             "2, NVIDIA GB10, [N/A], [N/A], 580.95", "warning: something",
             "3, NVIDIA T4G, [Not Supported], [Not Supported], 470.57"]  # fmt: skip
    program(programs, "nvidia-smi", "\n".join(f"echo '{line}'" for line in lines))
    found = list(gpu.gpus(workspace))
    assert [each.verdict for each in found] == [OK, WARNING, OK, OK]
    assert found[1].text == "GPU 1: NVIDIA H200, driver 570.86, 900 of 143,771 MiB free"


def test_a_driver_that_does_not_answer_is_wrong(programs: Path, workspace: Workspace) -> None:
    assert [each.verdict for each in gpu.gpus(workspace)] == [OK]  # there is no GPU
    program(programs, "nvidia-smi", "echo 'has failed: no communication with the driver'; exit 9")
    (found,) = gpu.gpus(workspace)
    assert (found.verdict, "no communication with the driver" in found.text) == (WRONG, True)


def test_slurm_is_checked_if_it_is_installed(programs: Path, workspace: Workspace) -> None:
    assert [each.text for each in slurm.slurm(workspace)] == [
        "not installed: jobs run on this machine"
    ]
    program(programs, "sbatch", "true")
    (found,) = slurm.slurm(workspace)
    assert (found.verdict, found.text.startswith("squeue, scancel")) == (WRONG, True)
    for name in ("squeue", "scancel", "scontrol"):
        program(programs, name, "true")
    program(programs, "sinfo", "echo 'gpu 4 up gpu:8(S:0-1)'")
    assert [each.text for each in slurm.slurm(workspace)] == ["partitions gpu (4 nodes)"]
    program(programs, "sinfo", "echo 'sinfo: error: cannot contact the controller' >&2; exit 1")
    (found,) = slurm.slurm(workspace)
    assert (found.verdict, "cannot contact the controller" in found.text) == (WARNING, True)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_process_without_an_answer_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/pid; wait"
    began = time.monotonic()
    with pytest.raises(NoAnswerError, match="no answer in 1 s"):
        ask(["/bin/sh", "-c", script], 1.0)
    assert time.monotonic() - began < 60
    pid = int((tmp_path / "pid").read_text())
    while is_running(pid):  # a killed process may take a moment to end
        assert time.monotonic() - began < 60
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import os; os.kill(os.getpid(), 11)", "it printed nothing"),
        ("print('hello')", "its output is not the expected JSON"),
        ("print('x' * 9_000_000)", "its output is not the expected JSON"),
    ],
)
def test_a_failed_import_is_reported_in_one_line(code: str, words: str) -> None:
    with pytest.raises(NoAnswerError, match=words):
        ask_python(code)


def test_output_of_a_package_is_ignored() -> None:
    assert ask_python("print('[INFO] loading'); print('{\"a\": 1}')") == {"a": 1}


def test_the_workspace_is_reported(workspace: Workspace) -> None:
    assert [each.verdict for each in process.daemon(workspace)] == [OK]
    assert [each.verdict for each in disk.file_system(workspace)] == [OK]
    assert not workspace.root.exists(), "nothing is made to be looked at"
    open_queue(workspace).close()
    (workspace.daemon / "queue.sqlite").write_bytes(b"no database" * 1000)
    (found,) = process.daemon(workspace)
    assert (found.verdict, "is damaged" in found.text) == (WRONG, True)


def test_a_path_too_long_for_other_programs_is_a_warning(tmp_path: Path) -> None:
    (found,) = process.socket_path(Workspace(tmp_path / ("x" * 120)))
    assert (found.verdict, "curl cannot" in found.text) == (WARNING, True)


def test_measuring_the_disk_leaves_no_files(workspace: Workspace) -> None:
    found = list(disk.disk(workspace))
    assert found[0].text.endswith(f"free at {workspace.root.parent}")
    assert list(workspace.root.parent.iterdir()) == []


def test_a_version_that_is_not_allowed_is_wrong(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["numpy<1", "no-such-package>=2", "typer>=0.1", "mxnet==1.9.1; extra == 'mxnet'"]
    monkeypatch.setattr(packages, "requires", lambda name: wanted)
    found = [each.text for each in packages.versions(workspace)]
    assert found[0].startswith("numpy is ")
    assert found[0].endswith("; allowed: <1")
    assert found[1:] == ["no-such-package is not installed; allowed: >=2"]


@pytest.mark.slow
def test_every_check_answers_here(workspace: Workspace) -> None:
    ran = run(workspace, "--json")
    names = {each["check"] for each in json.loads(ran.stdout)}
    assert names >= {"clock", "disk", "file system", "gpu", "torch", "faiss", "versions"}
    assert names >= {"deepspeed", "jpeg", "daemon", "socket", "ports", "open files", "slurm"}
    assert "the check itself failed" not in ran.stdout
