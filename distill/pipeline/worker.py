"""One rank of a training: ``torchrun ... -m distill.pipeline.worker DESCRIPTION.json``.

Runs under any launcher that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Its
messages and its log lie beside the description. Exit status 0: done, or stopped and saved.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from curation.errors import UserError
from distill.notices import Notice
from distill.training.messages import Messenger, log_file
from distill.training.torchrun import die_with_parent


def main(arguments: list[str]) -> int:
    """Carry out the description as the rank that the environment names."""
    die_with_parent()
    [description] = map(Path, arguments)
    rank = int(os.environ["RANK"])
    _write_to(log_file(description.parent, rank))
    messenger = Messenger(description.parent, rank)
    stop = _StopOnSignal()
    messenger.send_ready()

    from distill.pipeline.training import TrainingDescription, carry_out
    from distill.signals import Stopped
    from distill.training.distributed import process_group
    from distill.training.divergence import Diverged
    from distill.training.meter import Watch

    def progress(done: int, total: int) -> None:
        messenger.send("progress", [done, total])

    def metrics(values: dict[str, Any]) -> None:
        messenger.send("metrics", values)

    def warn(notice: Notice) -> None:
        messenger.send("warning", [notice.key, notice.text])

    training = TrainingDescription.model_validate_json(description.read_text())
    try:
        with process_group():
            latest = carry_out(training, *training.open(), Watch(metrics, progress, stop, warn))
        messenger.send("done", latest)
    except Stopped:
        messenger.send("stopped", True)
    except UserError as error:
        messenger.send("diverged" if isinstance(error, Diverged) else "error", str(error))
        return 1
    return 0


def _write_to(log: Path) -> None:
    """From now on everything that this process prints goes to the end of ``log``."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


class _StopOnSignal:
    """True once SIGTERM or SIGINT has come."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self) -> bool:
        return self.asked

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
