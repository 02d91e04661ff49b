"""Runs a script as one rank and ends as the commands do: ``one_rank.py SCRIPT ARGUMENTS``."""

import runpy
import sys
from pathlib import Path

from distill.process import leave

sys.argv = sys.argv[1:]
sys.path[0] = str(Path(sys.argv[0]).parent)
runpy.run_path(sys.argv[0], run_name="__main__")
leave(0)
