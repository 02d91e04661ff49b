"""Metrics as TensorBoard event files, if a spec asks for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.training.meter import Watch


@contextmanager
def event_files(folder: Path, wanted: bool, watch: Watch) -> Iterator[Watch]:
    """A watch that also writes every number to ``folder`` by iteration.

    A training that resumes from a checkpoint hides what it had written beyond it.
    """
    if not wanted:
        yield watch
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = None

    def metrics(values: dict[str, Any]) -> None:
        nonlocal writer
        step = values["iteration"]
        writer = writer or SummaryWriter(str(folder), purge_step=step)
        for name, value in values.items():
            if name != "iteration" and value is not None:  # null stands for a non-finite number
                writer.add_scalar(name.replace("loss_", "loss/", 1), value, step)
        watch.metrics(values)

    try:
        yield replace(watch, metrics=metrics)
    finally:
        if writer is not None:
            writer.close()
