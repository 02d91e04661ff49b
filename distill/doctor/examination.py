"""The registry of checks, and their concurrent execution with time limits."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from curation.registry import check_unused, import_files
from curation.workspace import Workspace

CHECK_SECONDS = 20.0


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    """Jobs run, but slower, or only some of them"""
    WRONG = "wrong"
    """Jobs would fail"""


@dataclass(frozen=True)
class Diagnosis:
    """One finding of a check; ``next`` is the remedy."""

    verdict: Verdict
    text: str
    next: str = ""


def ok(text: str) -> Diagnosis:
    return Diagnosis(Verdict.OK, text)


def warning(text: str, then: str) -> Diagnosis:
    return Diagnosis(Verdict.WARNING, text, then)


def wrong(text: str, then: str) -> Diagnosis:
    return Diagnosis(Verdict.WRONG, text, then)


Check = Callable[[Workspace], Iterable[Diagnosis]]


@dataclass(frozen=True)
class _Entry:
    check: Check
    seconds: float


CHECKS: dict[str, _Entry] = {}


def check(name: str, seconds: float = CHECK_SECONDS) -> Callable[[Check], Check]:
    """Register a check under its name. A check that exceeds ``seconds`` is abandoned as wrong."""

    def enter(function: Check) -> Check:
        before = CHECKS.get(name)
        check_unused("check", name, before and before.check, function)
        CHECKS[name] = _Entry(function, seconds)
        return function

    return enter


def examine(workspace: Workspace) -> Iterator[tuple[str, Diagnosis]]:
    """The findings of all checks, with their names, in order."""
    import_files("distill.doctor.checks")
    running = [_Running(name, entry, workspace) for name, entry in CHECKS.items()]
    for each in running:
        for finding in each.findings():
            yield each.name, finding


@dataclass
class _Running:
    """One running check, in a thread that is not joined at exit.

    An unresponsive file server can block it in a way that no signal interrupts.
    """

    name: str
    entry: _Entry
    workspace: Workspace
    began: float = field(default_factory=time.monotonic)
    found: list[Diagnosis] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.found += self.entry.check(self.workspace)
        except Exception as error:
            text = f"the check itself failed: {type(error).__name__}: {error}"
            self.found.append(wrong(text, "please report this"))

    def findings(self) -> list[Diagnosis]:
        """Wait for the findings, up to the check's time limit."""
        self._thread.join(max(0.0, self.began + self.entry.seconds - time.monotonic()))
        if self._thread.is_alive():
            text = f"no answer in {self.entry.seconds:.0f} s"
            return [wrong(text, "look for a file server, a driver or a network that hangs")]
        return self.found
