"""A process that runs untrusted files ends with the process that started it."""

import atexit
import json
import subprocess
import time

from teachers.confined import _command, _environment


def serve():
    """Like a library whose threads never end."""
    atexit.register(time.sleep, 600)
    return lambda: (None, b""), "ready"


def test_a_library_that_hangs_at_exit_ends_with_its_parent():
    command = _command("many", f"{__name__}:serve", 1 << 32, 60)
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"{}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"] == "ready"
        process.stdin.close()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
