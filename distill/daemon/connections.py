"""Connections to the daemon's socket: their owner, and limits on time and number."""

import asyncio
import json
import os
import socket
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from distill.daemon.address import CREDENTIALS

REQUEST_SECONDS = 10.0
"""Time limit of a whole request, from the start of the connection or the previous response"""
UNREAD_SECONDS = 30.0
"""Time limit for reading a response"""
MOST_CONNECTIONS = 64
"""Above this number, an idle connection is closed; if all are active, the new one is refused."""
_IDLE_SECONDS = 0.5  # data that came with a connection may not have been read yet


class BoundedProtocol(H11Protocol):
    """HTTP that drops connections which send no request in time or do not read the response."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    since = 0.0
    """When it started to wait for a request, by the loop's clock"""

    def connection_made(self, transport: Any) -> None:
        """Start its time limit."""
        super().connection_made(transport)
        self._wait_for_request()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Also called for a connection that was closed before it started."""
        for timer in (self._deadline, self._unread):
            if timer is not None:
                timer.cancel()
        if self.transport is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive part of a request, or several; the time limit runs until one is complete."""
        crowded = sum(each.at_work for each in self._all()) >= MOST_CONNECTIONS
        self.app = _too_busy if crowded else self.config.loaded_app
        super().data_received(data)
        if self._whole() and self._deadline is not None:
            self._deadline.cancel()

    def on_response_complete(self) -> None:
        """The next request may already have arrived."""
        self._wait_for_request()
        super().on_response_complete()
        if self.at_work and self._deadline is not None:
            self._deadline.cancel()

    def pause_writing(self) -> None:
        """Wait for the peer to read, within a time limit."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer has read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def send_400_response(self, msg: str) -> None:
        """Every error is one line of JSON, even for an invalid request."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # a response is already being sent
            return
        body = json.dumps({"error": "this is not an HTTP request"}).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        answer = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    @property
    def at_work(self) -> bool:
        """Whether the daemon owes a response that the peer would read."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return answering and self._whole() and not self.flow.write_paused

    def _whole(self) -> bool:
        """Whether a complete request has been received."""
        return self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)

    def _wait_for_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.since = self.loop.time()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _make_room(self) -> None:
        """Close the connection that has been idle longest, or the newest if all are active."""
        everybody = self._all()
        now = self.loop.time()
        idle = [each for each in everybody if not each.at_work and now - each.since > _IDLE_SECONDS]
        if len(everybody) > MOST_CONNECTIONS and idle:
            min(idle, key=lambda each: each.since).transport.abort()
        elif len(everybody) > 2 * MOST_CONNECTIONS:
            self.transport.abort()

    def _all(self) -> list["BoundedProtocol"]:
        return [each for each in self.connections if isinstance(each, BoundedProtocol)]


class OwnerOnlyProtocol(BoundedProtocol):
    """HTTP for processes of the daemon's own user and root, regardless of the socket's mode."""

    def connection_made(self, transport: Any) -> None:
        """Ask the kernel for the peer's user before reading a byte."""
        peer = transport.get_extra_info("socket")
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        _, user, _ = CREDENTIALS.unpack(credentials)
        if user not in (os.getuid(), 0):
            transport.abort()
            return
        super().connection_made(transport)


async def _too_busy(scope: Scope, receive: Receive, send: Send) -> None:
    from distill.daemon.problems import problem

    words = f"the daemon is busy with {MOST_CONNECTIONS} requests; try again in a moment"
    await problem(words, 503, {"Connection": "close"})(scope, receive, send)
