"""The log of a review: durable, and read with suspicion."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curation.errors import UserError
from curation.review.events import MOST_LINES
from curation.review.log import DECISIONS_LOG, DecisionLog
from curation.review.review import Review
from tests.curation.review.review_harness import Clock, decide, log_lines, open_review


class TestLog:
    def test_unreadable_events_are_not_written(self, folder, clock):
        review = open_review(folder, clock)
        event = decide(review, "misplaced-47", "reject")
        log = DecisionLog(folder / "train.findings" / DECISIONS_LOG)
        lines = tuple(f"drop {image} 0" for image in range(MOST_LINES + 1))
        with log.alone(), pytest.raises(UserError, match="cannot be saved: lines: must"):
            log.append(replace(event, id="large", lines=lines))
        assert open_review(folder, clock).progress().decided == 1

    def test_an_incomplete_line_is_ignored_and_removed(self, folder, clock):
        review = open_review(folder, clock)
        decide(review, "misplaced-47", "reject")
        path = folder / "train.findings" / DECISIONS_LOG
        with path.open("ab") as file:
            file.write(log_lines(folder)[0][:70])
        again = open_review(folder, clock)
        assert again.progress().decided == 1
        decide(again, "misplaced-46", "reject")
        assert open_review(folder, clock).progress().decided == 2
        assert len(log_lines(folder)) == 2

    @pytest.mark.parametrize(
        "line",
        [
            b"no json",
            b"{}",
            b'{"id":"a","at":"","who":"b","case":"misplaced-47","findings":"misplaced-1"}',
            b'{"id":"a","at":"","who":"b","case":"misplaced-47","findings":"misplaced-1",'
            b'"choice":"accept","lines":["drop x y"]}',
            b'{"id":"a","at":"","who":"b","case":"misplaced-47","findings":"misplaced-1",'
            b'"choice":"burn"}',
            b'{"id":"a","at":"","who":"b","case":"misplaced-47","findings":"misplaced-1",'
            b'"choice":"accept","more":1}',
            b"[" * 100_000,
            b'"\\ud800"',
            b"\xff\xfe",
        ],
    )
    def test_a_damaged_line_is_named(self, folder, clock, line):
        path = folder / "train.findings" / DECISIONS_LOG
        path.write_bytes(line + b"\n")
        with pytest.raises(UserError, match=r"jsonl line 1 is damaged: .*; correct") as said:
            open_review(folder, clock)
        assert len(str(said.value)) < 700

    def test_a_log_that_is_a_pipe_is_refused(self, folder, clock):
        os.mkfifo(folder / "train.findings" / DECISIONS_LOG)
        with pytest.raises(UserError, match="named pipe"):
            open_review(folder, clock)

    def test_a_removed_log_is_detected(self, review, folder):
        decide(review, "misplaced-47", "reject")
        (folder / "train.findings" / DECISIONS_LOG).unlink()
        with pytest.raises(UserError, match="removed or replaced"):
            decide(review, "misplaced-46", "reject")

    def test_decisions_of_earlier_findings_are_set_aside(self, review, folder, clock):
        decide(review, "misplaced-47", "reject")
        path = folder / "train.findings" / DECISIONS_LOG
        known = review.cases.findings[0].identity.encode()
        path.write_bytes(path.read_bytes().replace(known, b"misplaced-0123456789ab"))
        again = open_review(folder, clock)
        assert again.is_open(again.look("misplaced-47"))
        assert again.progress().set_aside == 1

    def test_a_killed_writer_loses_no_acknowledged_decision(self, folder):
        script = (
            "import sys; from pathlib import Path\n"
            "from curation.noise.findings import Findings\n"
            "from curation.review.review import Review\n"
            "from curation.store import Store\n"
            "folder = Path(sys.argv[1])\n"
            "review = Review(Store(folder / 'train.lmdb'), Findings(folder / 'train.findings'))\n"
            "for n in range(10**6):\n"
            "    case = review.look('misplaced-47')\n"
            "    identity = review.cases.findings[0].identity\n"
            "    review.decide(f'{sys.argv[2]}-{n}', 'ada', 'misplaced-47', identity, 1 << 40,"
            " 'unsure')\n"
            "    print(n, flush=True)\n"
        )
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(folder), name], stdout=subprocess.PIPE, text=True
            )
            for name in ("a", "b")
        ]
        told = 0
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(20):
                told += bool(writer.stdout.readline())
        for writer in writers:
            writer.kill()
            told += len((writer.stdout.read() if writer.stdout else "").splitlines())
            writer.wait()
            if writer.stdout:
                writer.stdout.close()
        review = open_review(folder, Clock())
        assert 40 <= told <= len(review.standing) <= told + 2
        decide(review, "misplaced-46", "accept")
        lines = log_lines(folder)
        assert len({json.loads(line)["id"] for line in lines}) == len(lines)


class TestHostileLog:
    """Another process may write anything into the log."""

    def event(self, review: Review, number: int, **more: Any) -> dict[str, Any]:
        identity = review.cases.findings[0].identity
        done = {"choice": "accept", "confirmed": True, "lines": ["drop 47 5"]}
        return {
            "id": f"e{number}",
            "at": "",
            "who": "x",
            "case": "misplaced-47",
            "findings": identity,
            **({} if "undoes" in more else done),
            **more,
        }

    def written(self, folder: Path, clock: Clock, *events: dict[str, Any]) -> Review:
        text = "".join(f"{json.dumps(event)}\n" for event in events)
        (folder / "train.findings" / DECISIONS_LOG).write_text(text)
        return open_review(folder, clock)

    @pytest.mark.parametrize(
        "undoes", [[1], [2, 1], [2, 3, 1]], ids=["itself", "each-other", "in-a-ring"]
    )
    def test_undos_in_a_circle_change_nothing(self, review, folder, clock, undoes):
        events = [self.event(review, 0)]
        events += [self.event(review, n, undoes=f"e{u}") for n, u in enumerate(undoes, 1)]
        again = self.written(folder, clock, *events)
        assert again.decision(again.look("misplaced-47")).id == "e0"
        again.undo("u", "ada", "e0")
        assert again.is_open(again.look("misplaced-47"))

    def test_a_long_chain_of_undos_is_read_in_linear_time(self, review, folder, clock):
        events = [self.event(review, 0)]
        events += [self.event(review, n, undoes=f"e{n - 1}") for n in range(1, 3000)]
        began = time.process_time()
        again = self.written(folder, clock, *events)
        assert time.process_time() - began < 30
        with pytest.raises(UserError, match="was undone and restored 100 times; decide it again"):
            again.undo("u", "ada", "e2999")

    def test_many_decisions_on_one_image_are_read_in_linear_time(self, review, folder, clock):
        events = [self.event(review, n, case=f"misplaced-{n}") for n in range(5000)]
        began = time.process_time()
        again = self.written(folder, clock, *events)
        assert again.conflicts() == []
        assert time.process_time() - began < 30

    def test_a_circle_of_merges_does_not_stop_other_merges(self, review, folder, clock):
        merges = ["merge 2 3", "merge 3 2"]
        again = self.written(folder, clock, self.event(review, 1, lines=merges))
        decide(again, "divided-0", "change", ("merge 0 2",))
        assert again.progress().decided == 2

    @pytest.mark.parametrize("key", ["against", "undoes"])
    def test_a_reference_of_megabytes_is_refused(self, review, folder, clock, key):
        event = self.event(review, 1, **{key: "x" * (4 << 20)})
        with pytest.raises(UserError, match=f"line 1 is damaged: {key}: .* at most 200"):
            self.written(folder, clock, event)
