"""The bytes of the protocol, without a server."""

from __future__ import annotations

import json

import pytest

from var_dd_client import FewStep, Teacher, TeacherInvolved, VarDDError, wire
from var_dd_client.conversation import ATTEMPTS, Address, Conversation, pause_s
from var_dd_client.errors import ConnectionLost
from var_dd_client.types import plan_from_wire


def frame(seq: int = 3, **more) -> bytes:
    header = {
        "job": "0" * 32,
        "seq": seq,
        "picture": 0,
        "pass": 0,
        "scale": 1,
        "width": 64,
        "height": 64,
        "media_type": "image/png",
        "last": False,
        "at_ms": 1.5,
        "encode_ms": 0.5,
        **more,
    }
    head = json.dumps(header).encode()
    return b"VDF1" + len(head).to_bytes(4, "little") + head + b"picture"


def test_plans_survive_the_wire():
    for plan in [
        FewStep((0, 5), 5),
        TeacherInvolved((0, 5), 5, 4, causal_prefix=True),
        Teacher(1.5, 0, 0.0),
    ]:
        assert plan_from_wire(plan.to_wire()) == plan
    with pytest.raises(ValueError, match="unknown kind"):
        plan_from_wire({"kind": "many_step"})


def test_a_frame_is_read_and_a_cut_one_refused():
    read = wire.read_frame(frame())
    assert (read.scale, read.data) == (1, b"picture")
    for broken in [b"", b"VDF2" + frame()[4:], frame()[:40]]:
        with pytest.raises(VarDDError):
            wire.read_frame(broken)


def test_a_connection_that_breaks_goes_on_after_the_last_event():
    talk = Conversation(Address("http://host:1"), request={"class": 0}, job=None)
    assert json.loads(talk.opening()[1])["type"] == "generate"
    accepted = {"type": "accepted", "tag": 1, "job": "0" * 32, "owner_token": "t", "request": {}}
    talk.received(json.dumps(accepted))
    assert len(talk.received(frame(seq=3))) == 1
    assert talk.lost(OSError("gone")) == pause_s(1)
    assert json.loads(talk.opening()[1]) == {"type": "watch", "job": "0" * 32, "after": 3}
    assert talk.received(frame(seq=3)) == [], "seen before"
    assert len(talk.received(frame(seq=4))) == 1


def test_a_request_whose_answer_was_lost_is_asked_again_under_the_same_key():
    talk = Conversation(Address("http://host:1"), request={"class": 0}, job=None)
    asked = talk.opening()
    hello = json.loads(asked[0])
    assert hello["type"] == "hello" and 16 <= len(hello["client_key"]) <= 255
    for attempt in range(1, ATTEMPTS + 1):
        talk.received(json.dumps({"type": "hello", "version": 1}))
        assert talk.lost(OSError("gone")) == pause_s(attempt)
        assert talk.opening() == asked
    with pytest.raises(ConnectionLost, match="attempts"):
        talk.lost(OSError("gone"))
    other = Conversation(Address("http://host:1"), request={"class": 0}, job=None)
    assert other.opening()[0] != asked[0]


def test_a_server_that_stays_away_is_given_up():
    talk = Conversation(Address("host:1"), request={"class": 0}, job=None)
    talk.received(
        json.dumps(
            {"type": "accepted", "tag": 1, "job": "0" * 32, "owner_token": "t", "request": {}}
        )
    )
    with pytest.raises(ConnectionLost, match="attempts"):
        for _ in range(100):
            talk.lost(OSError("gone"))


def test_a_server_may_live_under_a_path():
    address = Address("https://example.org/play")
    assert address.at("/api/info") == "https://example.org/play/api/info"
    assert address.socket == "wss://example.org/play/api/ws"
