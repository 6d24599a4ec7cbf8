"""The bytes of the protocol: messages to send, and events out of what arrives. No input, no output."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from .errors import Refused, VarDDError
from .types import (
    Event,
    Failed,
    Finished,
    Frame,
    PassBegan,
    PassEnded,
    Plan,
    Queued,
    Started,
    Timings,
)

PROTOCOL_VERSION = 1
"""Version of the protocol that this package speaks."""

MAX_SEED = 2**53 - 1
"""Largest seed, the largest integer that every reader of JSON keeps exact."""

_MAGIC = b"VDF1"


def hello(client_key: str | None = None) -> str:
    """The first message of a connection.

    Under a ``client_key``, 16 to 255 random characters, a request may be asked again.
    """
    message: dict[str, Any] = {"type": "hello", "version": PROTOCOL_VERSION}
    if client_key is not None:
        message["client_key"] = client_key
    return json.dumps(message)


def generate(tag: int, request: dict[str, Any]) -> str:
    """Asks for a job."""
    return json.dumps({"type": "generate", "tag": tag, "request": request})


def watch(job: str, after: int | None) -> str:
    """Follows a job from the event after ``after`` on; from its first where that is None."""
    message: dict[str, Any] = {"type": "watch", "job": job}
    if after is not None:
        message["after"] = after
    return json.dumps(message)


def request(
    class_number: int,
    plan: Plan,
    *,
    model: str | None,
    seed: int | None,
    count: int,
    last_frame_first: bool,
) -> dict[str, Any]:
    """The body of a request.

    Raises ``ValueError`` for a seed out of range.
    """
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed {seed} is out of range; it must be from 0 to {MAX_SEED}")
    body: dict[str, Any] = {"class": class_number, "plan": plan.to_wire(), "count": count}
    if model is not None:
        body["model"] = model
    if seed is not None:
        body["seed"] = seed
    if last_frame_first:
        body["last_frame_first"] = True
    return body


def walk(
    corners: Sequence[tuple[int, int]],
    points: Sequence[Sequence[float]],
    plan: Plan,
    *,
    model: str | None,
    format: str,
    picture_ms: int,
    deadline_s: float | None,
) -> dict[str, Any]:
    """The body of a walk: corners by class number and seed, points by the weights of the corners.

    Raises ``ValueError`` for fewer than two corners or points, and for a seed out of range.
    """
    if len(corners) < 2 or len(points) < 2:
        raise ValueError(
            f"a walk needs two corners and two points at least, not {len(corners)} and {len(points)}"
        )
    # The points say how near each picture is to the corners.
    blend = [
        {"class": class_number, "seed": seed, "weight": 1 / len(corners)}
        for class_number, seed in corners
    ]
    class_number, seed = corners[0]
    body = request(class_number, plan, model=model, seed=seed, count=1, last_frame_first=False)
    body["explore"] = {"blend": blend}
    if deadline_s is not None:
        body["deadline_ms"] = round(deadline_s * 1000)
    weights = [list(point) for point in points]
    return {"request": body, "weights": weights, "format": format, "picture_ms": picture_ms}


def read_message(text: str) -> dict[str, Any]:
    """A control message of the server.

    Raises ``VarDDError`` for what is none.
    """
    try:
        message = json.loads(text)
    except ValueError as error:
        raise VarDDError(f"the server sent a text that is no JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise VarDDError("the server sent a message without a type")
    return message


def read_event(message: dict[str, Any]) -> Event | None:
    """The event in a message of type ``event``; None for a kind that this version does not know."""
    seq, event = message["seq"], message["event"]
    kind = event["type"]
    if kind == "queued":
        return Queued(seq, event["position"])
    if kind == "started":
        return Started(seq, event["request"])
    if kind == "pass_began":
        of = event["of"]
        return PassBegan(
            seq,
            event["pass"],
            event["passes"],
            of["kind"],
            of["first_scale"],
            of["end_scale"],
            event["at_ms"],
        )
    if kind == "pass_ended":
        return PassEnded(seq, event["pass"], event["at_ms"])
    if kind == "finished":
        return Finished(seq, Timings.from_wire(event["timings"]))
    if kind == "failed":
        return Failed(seq, "failed", str(Refused.of(event.get("error"), "no reason given")))
    if kind == "cancelled":
        return Failed(seq, "cancelled", "its owner stopped it")
    if kind == "expired":
        return Failed(seq, "expired", "nobody watched it, or its deadline passed, while it waited")
    return None


def read_frame(message: bytes) -> Frame:
    """A binary message: ``VDF1``, length of the header, header as JSON, picture.

    Raises ``VarDDError`` for what is none.
    """
    if len(message) < 8 or message[:4] != _MAGIC:
        raise VarDDError("the server sent a binary message that is no frame")
    (length,) = struct.unpack_from("<I", message, 4)
    if 8 + length > len(message):
        raise VarDDError(f"a frame of {len(message)} bytes is cut off")
    header = json.loads(message[8 : 8 + length])
    return Frame(
        header["seq"],
        header["job"],
        header["picture"],
        header["pass"],
        header["scale"],
        header["width"],
        header["height"],
        header["media_type"],
        header["last"],
        header["at_ms"],
        bytes(message[8 + length :]),
    )
