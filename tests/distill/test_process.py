"""Requests of a process to the operating system about itself."""

import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("ends", ["pass", "1 / 0"])
def test_lasting_imports_are_never_garbage_collected(ends: str) -> None:
    """This holds even if one fails; later garbage is collected as usual."""
    code = f"""
import gc
from distill.process import lasting_imports
try:
    with lasting_imports():
        assert not gc.isenabled()
        lasting = [[]]
        {ends}
except ZeroDivisionError:
    pass
assert gc.isenabled() and gc.get_freeze_count() > 0
assert not any(each is lasting for each in gc.get_objects())
later = []
later.append(later)
del later
assert gc.collect() >= 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)


ABORTS = """
import builtins, os
class Last:
    def __del__(self, abort=os.abort):
        abort()
builtins.last = Last()
"""


def test_leaving_skips_the_teardown_but_not_exit_functions() -> None:
    code = f"""{ABORTS}
import atexit
from distill.process import leave
atexit.register(print, "exit function")
print("printed")
leave(3)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (3, "printed\nexit function\n")


@pytest.mark.parametrize(
    ("loads", "status"),
    [("distill.training.distributed", 0), ("json", -signal.SIGABRT)],
    ids=["with ranks", "without ranks"],
)
def test_a_command_that_loads_ranks_has_no_teardown(loads: str, status: int) -> None:
    """A thread of gloo would abort it there, in place of the object that does so in this test."""
    code = f"""{ABORTS}
import sys, {loads}
from distill.cli.main import main
sys.argv = ["distill", "--version"]
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == status
    assert ended.stdout.startswith("distill ")
