"""Memory of this process's control group: its limit, usage and OOM kills (Linux)."""

from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 1 << 60
"""Version 1 reports a number of about this size if there is no limit."""


@dataclass(frozen=True)
class MemoryGroup:
    """The files of one group, in version 2 or 1 of the interface."""

    folder: Path
    version: int

    @property
    def limit(self) -> int | None:
        """Bytes, or ``None`` without a limit."""
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        text = _text(self.folder / name).strip()
        return int(text) if text.isdigit() and int(text) < _NO_LIMIT else None

    @property
    def used(self) -> int:
        """Bytes that the kernel cannot reclaim, without the page cache."""
        name = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        text = _text(self.folder / name).strip()
        prefix = "" if self.version == 2 else "total_"
        numbers = _numbers(self.folder / "memory.stat")
        cache = (numbers.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
        return max(0, (int(text) if text.isdigit() else 0) - sum(cache))

    @property
    def kills(self) -> int:
        """The number of processes in it that the kernel killed because memory ran out."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return _numbers(self.folder / name).get("oom_kill", 0)


def memory_group(
    own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> MemoryGroup | None:
    """This process's group, or the nearest visible ancestor with a limit."""
    for line in _text(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", "", ""][:3]
        if controllers == "":
            found = _nearest(mounted, path, 2, "memory.max")
        elif "memory" in controllers.split(","):
            found = _nearest(mounted / "memory", path, 1, "memory.limit_in_bytes")
        else:
            continue
        if found is not None:
            return found
    return None


def _nearest(mounted: Path, path: str, version: int, file: str) -> MemoryGroup | None:
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for depth in range(len(parts), -1, -1):
        group = MemoryGroup(mounted.joinpath(*parts[:depth]), version)
        if (group.folder / file).exists() and group.limit is not None:
            return group
    return None


def _numbers(path: Path) -> dict[str, int]:
    pairs = [line.split() for line in _text(path).splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
