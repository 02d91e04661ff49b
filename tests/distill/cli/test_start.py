"""Ctrl-C while a command's modules are imported."""

import subprocess
import sys

import pytest

STOPPED = """
import os, signal, sys

class Stop:
    def find_spec(self, name, *others):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Stop())
from distill.cli import start
start.{}()
"""


@pytest.mark.parametrize("command", ["curate", "distill"])
def test_ctrl_c_during_imports_is_one_line(command):
    ended = subprocess.run(
        [sys.executable, "-c", STOPPED.format(command)], capture_output=True, text=True
    )
    assert ended.returncode == 130
    assert ended.stderr == "error: interrupted; run the same command again\n"


@pytest.mark.parametrize("command", ["curate", "distill"])
def test_a_command_starts(command):
    code = (
        f"import sys; from distill.cli.start import {command} as run; sys.argv[1:] = ['-h']; run()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
