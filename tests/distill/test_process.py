"""Requests of a process to the operating system about itself."""

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
