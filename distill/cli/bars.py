"""Progress on a terminal: how much, how fast, how long."""

from collections.abc import Iterator
from contextlib import contextmanager

from curation.progress import Progress


@contextmanager
def watch(title: str, unit: str, at_once: bool = True) -> Iterator[Progress]:
    """A bar on stderr for work that counts ``unit`` ("bytes", "images", ...).

    It shows at once, or else when the work first says how far it is.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bars.add_task(title, total=None, amount="")

    def move(done: int, total: int) -> None:
        bars.start()  # does nothing where it has started
        speed = bars.tasks[0].finished_speed or bars.tasks[0].speed or 0.0
        amount = f"{_amount(done, unit)} of {_amount(total, unit)}, {_amount(speed, unit)}/s"
        bars.update(task, completed=done, total=total, amount=amount)

    if at_once:
        bars.start()
    try:
        yield move
        if at_once and not bars.finished:
            bars.update(task, completed=1, total=1)
    finally:
        if bars.live.is_started:
            bars.stop()


def _amount(count: float, unit: str) -> str:
    if unit != "bytes":
        return f"{count:,.0f}"
    for prefix in ("", "k", "M"):
        if count < 1000:
            return f"{count:.0f} {prefix}B"
        count /= 1000
    return f"{count:,.1f} GB"
