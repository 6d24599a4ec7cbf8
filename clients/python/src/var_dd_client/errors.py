"""What can go wrong, as exceptions."""

from __future__ import annotations

from typing import Any

__all__ = ["ConnectionLost", "JobEnded", "Refused", "VarDDError"]


class VarDDError(Exception):
    """Base of everything that this package raises itself."""


class Refused(VarDDError):
    """The server refused a request and said why.

    ``code`` is stable (``queue_full``, ``class_out_of_range``, …); the message is for people.
    ``retry_after_s`` says when to try again, where that helps.
    """

    def __init__(self, code: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    @classmethod
    def of(cls, body: Any, fallback: str) -> Refused:
        """The exception for an error body of the server; ``fallback`` where it is none."""
        if isinstance(body, dict) and isinstance(body.get("code"), str):
            return cls(body["code"], str(body.get("message", "")), body.get("retry_after_s"))
        return cls("internal", fallback)


class JobEnded(VarDDError):
    """A job ended without its pictures: it failed, was cancelled, or expired."""

    def __init__(self, job: str, state: str, reason: str) -> None:
        super().__init__(f"job {job} {state}: {reason}")
        self.job = job
        self.state = state
        self.reason = reason


class ConnectionLost(VarDDError):
    """The server could not be reached (any more), however often it was tried."""
