"""Conditions that the runner monitors while a job runs, to stop it before something worse happens.

The runner does not depend on the daemon, which may be dead. It stops a job by TERM: the job writes
a checkpoint, and the exit record states the reason.
"""

import threading
import time
from collections.abc import Callable, Iterator

from distill.daemon.attempts import Attempt
from distill.daemon.cgroup import memory_group
from distill.daemon.demand import resources_in
from distill.daemon.records import Stop
from distill.daemon.room import least_room, lowest_room, newest_checkpoint_bytes, room_of
from distill.daemon.stalls import Silence, StallNote, in_minutes
from distill.daemon.supervision import StopRequest, note
from distill.resources import Resources, in_gigabytes

LOOK_SECONDS = 1.0
"""Seconds between two checks of the runner"""
FULL = 0.97
"""Share of the memory limit; the rest is for writing the checkpoint"""
_FAMILY_SECONDS = 5.0
"""Seconds between two searches for new processes, which read the whole process table"""


class Guards:
    """The guards of one attempt; ``look`` is called about once per ``LOOK_SECONDS``."""

    def __init__(
        self, attempt: Attempt, resources: Resources, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run = attempt.run
        self._resources = resources
        self._clock = clock
        self._began = clock()
        self._memory = _Memory(resources.memory_bytes, clock)
        self._silence = Silence(attempt.run, clock)
        self._stall_note = StallNote(attempt)

    def look(self) -> Stop | None:
        """Why the job must be stopped now, or ``None``."""
        guards = (self.disk, self._memory.look, self._time, self._stall)
        return next((stop for guard in guards if (stop := guard()) is not None), None)

    def disk(self) -> Stop | None:
        """A stop if the disk has barely room for another checkpoint."""
        place, checkpoint = room_of(self._run), newest_checkpoint_bytes(self._run)
        free = place.free
        if free >= lowest_room(place) + checkpoint:
            return None
        wanted = least_room(place) + 2 * checkpoint
        reason = f"the disk of {self._run} had {in_gigabytes(free)} left"
        return Stop(why="disk", reason=reason, disk=wanted)

    @property
    def killed_for_memory(self) -> bool:
        """Whether the kernel has killed processes for lack of memory since the start."""
        return self._memory.kills_grew

    def _time(self) -> Stop | None:
        seconds = self._resources.seconds
        if seconds is None or self._clock() - self._began < seconds:
            return None
        reason = f"it ran for {self._resources.hours:g} h, its resources.hours"
        return Stop(why="time", reason=reason, fail=self._resources.on_time == "fail")

    def _stall(self) -> Stop | None:
        minutes = self._resources.stall_minutes
        if minutes is None:
            return None
        silent = self._silence.minutes()
        if self._resources.on_stall == "say":
            self._stall_note.update(silent, minutes)
            return None
        if silent < minutes:
            return None
        return Stop(why="stall", reason=f"it showed no sign of life for {in_minutes(minutes)}")


class _Memory:
    """Memory of the job's processes against its request, and of their control group."""

    def __init__(self, requested: int | None, clock: Callable[[], float]) -> None:
        self._requested = requested
        self._clock = clock
        self._group = memory_group()
        self._kills = 0 if self._group is None else self._group.kills
        self._family: list[object] = []
        self._searched_at = -_FAMILY_SECONDS

    @property
    def kills_grew(self) -> bool:
        return self._group is not None and self._group.kills > self._kills

    def look(self) -> Stop | None:
        for used, limit in self._measured():
            if used >= FULL * limit:
                reason = f"it used {in_gigabytes(used)} of {in_gigabytes(limit)} of memory"
                return Stop(why="memory", reason=reason)
        return None

    def _measured(self) -> Iterator[tuple[int, int]]:
        """Usage and limit, for each limit that exists."""
        limit = None if self._group is None else self._group.limit
        if self._requested is None and limit is None:
            return
        own = self._own()
        if self._requested is not None:
            yield own, self._requested
        # The group may contain other processes: only its largest user is stopped.
        if self._group is not None and limit is not None and own > limit / 2:
            yield self._group.used, limit

    def _own(self) -> int:
        import psutil

        from distill.pipeline.peak_memory import private_bytes

        if self._clock() - self._searched_at >= _FAMILY_SECONDS:
            self._searched_at = self._clock()
            self._family = psutil.Process().children(recursive=True)
        return sum(map(private_bytes, self._family))


class GuardWatch:
    """Stops the job, with ``grace`` seconds for a checkpoint, when a guard asks for it."""

    def __init__(self, guards: Guards, stop: StopRequest, grace: float) -> None:
        self.stopped: Stop | None = None
        self._guards, self._stop, self._grace = guards, stop, grace
        self._failed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="guards", daemon=True)

    def __enter__(self) -> "GuardWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def killed_for_memory(self) -> bool:
        return self._guards.killed_for_memory

    def look_at_end(self) -> None:
        """Check the disk: it may have filled up between two looks and made the job fail."""
        self._stopped_by(self._guards.disk)

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if self._stopped_by(self._guards.look):
                assert self.stopped is not None
                note(f"stopping the job: {self.stopped.reason}")
                self._stop.end_job()
                if not self._over.wait(self._grace):
                    self._stop.kill()
                return

    def _stopped_by(self, guard: Callable[[], Stop | None]) -> bool:
        """Whether there is a reason to stop now. A guard that raises is ignored."""
        if self.stopped is not None or self._stop.received:
            return False
        try:
            self.stopped = guard()
        except Exception as error:
            if not self._failed:
                note(f"cannot check whether the job must be stopped: {error!r:.300}")
            self._failed = True
        return self.stopped is not None


def guards_of(attempt: Attempt, spec: str) -> Guards:
    """The guards for the job with this spec, of which only the text is used here."""
    return Guards(attempt, resources_in(spec))
