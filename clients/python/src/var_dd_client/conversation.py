"""One job over WebSockets as a state machine without sockets, shared by both clients.

A connection that breaks is opened again, and the job goes on from the last event that was seen. A
request whose answer was lost is asked again under the same key, so that it is drawn once.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from . import wire
from .errors import ConnectionLost, JobEnded, Refused
from .types import Event, Failed, Finished, Job, Result

ATTEMPTS = 6
"""How often a lost connection is opened again in a row before it is given up; for a request that was
not answered, in all."""


def pause_s(attempt: int) -> float:
    """How long to wait before an attempt (from 1): 0.25 s, twice as long each time, at most 5 s."""
    return min(0.25 * 2 ** (attempt - 1), 5.0)


class Address:
    """Addresses on one server, which may live under a path of its own."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base if "//" in base else f"http://{base}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{base!r} is no server; give it as in http://127.0.0.1:8080")
        path = parts.path if parts.path.endswith("/") else parts.path + "/"
        self.base = urlunsplit((parts.scheme, parts.netloc, path, "", ""))

    def at(self, path: str) -> str:
        """The address of a path, as ``api/info``."""
        return urljoin(self.base, path.lstrip("/"))

    @property
    def socket(self) -> str:
        """The address of the WebSocket."""
        return "ws" + self.at("api/ws").removeprefix("http")


class Conversation:
    """Asks for one job, or follows one, and collects what happens."""

    TAG = 1

    def __init__(self, address: Address, *, request: dict[str, Any] | None, job: Job | None) -> None:
        self._address = address
        self._request = request
        self._key = secrets.token_hex(16)
        self.result: Result | None = None if job is None else Result(job)
        self._after: int | None = None
        self._attempt = 0
        self.over = False

    def opening(self) -> list[str]:
        """What to send on a new connection."""
        if self.result is not None:
            return [wire.hello(), wire.watch(self.result.job.id, self._after)]
        assert self._request is not None
        return [wire.hello(self._key), wire.generate(self.TAG, self._request)]

    def received(self, message: str | bytes) -> list[Event]:
        """The events in what the server sent.

        Raises ``Refused`` where it refuses the job.
        """
        if isinstance(message, bytes):
            event: Event | None = wire.read_frame(message)
        else:
            event = self._control(wire.read_message(message))
        if self.result is not None:
            # A greeting is no answer: until there is one all attempts count together, so that a
            # request is not asked without end.
            self._attempt = 0
        if event is None or self.result is None:
            return []
        if self._after is not None and event.seq <= self._after:
            return []
        self._after = event.seq
        self.result._add(event)
        self.over = isinstance(event, (Finished, Failed))
        return [event]

    def _control(self, message: dict[str, Any]) -> Event | None:
        kind = message["type"]
        if kind == "accepted":
            job = message["job"]
            page = self._address.at(f"r/{job}")
            self.result = Result(Job(job, message["owner_token"], message["request"], page))
        elif kind == "rejected":
            raise Refused.of(message.get("error"), "the server refused the job")
        elif kind == "error":
            raise Refused.of(message.get("error"), "the server refused a message")
        elif kind == "event":
            return wire.read_event(message)
        return None

    def lost(self, error: Exception) -> float:
        """Seconds to wait before the connection is opened again.

        Raises ``ConnectionLost`` after too many attempts.
        """
        self._attempt += 1
        if self._attempt > ATTEMPTS:
            what = "gave no answer" if self.result is None else "was lost and not reached again"
            raise ConnectionLost(
                f"{self._address.base} {what} in {ATTEMPTS} more attempts: {error}"
            ) from error
        return pause_s(self._attempt)


def check_end(job: Job, event: Event) -> None:
    """Raises ``JobEnded`` where a job ended without its pictures."""
    if isinstance(event, Failed):
        raise JobEnded(job.id, event.state, event.reason)


__all__ = ["ATTEMPTS", "Address", "Conversation", "check_end", "pause_s"]
