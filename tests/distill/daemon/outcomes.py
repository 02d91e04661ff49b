"""How attempts end in the tests of the queue."""

from distill.daemon.outcome import Outcome, judge_loss
from distill.daemon.states import Event

SUCCESS = Outcome(event=Event.SUCCEED, exit_status=0)
FAILURE = Outcome(event=Event.FAIL, reason="no memory left", exit_status=1)
CANCELLED = Outcome(event=Event.CANCEL, reason="cancelled by the user")
LOST = judge_loss(rebooted=False, cancelled=False)
