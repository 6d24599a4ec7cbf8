"""The clients against the real server."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from var_dd_client import (
    AsyncClient,
    Client,
    ConnectionLost,
    FewStep,
    Finished,
    Frame,
    PassBegan,
    PassEnded,
    Queued,
    Refused,
    Started,
    Teacher,
)

PNG = b"\x89PNG\r\n\x1a\n"
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.fixture
def client(shared_server):
    with Client(shared_server.url) as client:
        yield client


def test_events_come_in_order_and_end_with_the_timings(client):
    events = list(client.generate("snowman", plan="2 steps", seed=5))
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    assert isinstance(events[-1], Finished)
    assert events[-1].timings.last_frame_ms >= events[-1].timings.first_frame_ms > 0
    for kind in (Queued, Started, PassBegan, PassEnded, Frame):
        assert any(isinstance(event, kind) for event in events), kind
    last = [event for event in events if isinstance(event, Frame) and event.last]
    assert len(last) == 1 and last[0].data.startswith(PNG)


def test_a_request_gives_the_same_picture_again_by_whatever_client(client, shared_server):
    first = client.draw("snowman", plan="1 step", seed=7)

    async def again():
        async with AsyncClient(shared_server.url) as other:
            return await other.draw("snowman", plan="1 step", seed=7)

    second = asyncio.run(again())
    assert first.job.id != second.job.id
    assert first.pictures[0].data == second.pictures[0].data


def test_a_strip_has_a_frame_for_each_scale_in_order(client):
    model = client.model()
    result = client.draw(3, seed=1, count=2)
    assert len(result.pictures) == 2
    for picture in range(2):
        scales = [frame.scale for frame in result.strip(picture)]
        assert scales == list(range(len(model.patch_nums)))


def test_a_plan_of_ones_own_and_a_kept_result(client):
    drawn = client.draw(0, plan=FewStep((0, 2, 4), 3), seed=2)
    kept = client.result(drawn.job.id)
    assert [frame.data for frame in kept.pictures] == [frame.data for frame in drawn.pictures]
    assert client.view(drawn.job)["state"] == "finished"
    assert drawn.job.id in [result["id"] for result in client.recent()]


def test_both_clients_tell_of_results_alike(client, shared_server):
    job = client.draw("snowman", seed=6).job

    async def told():
        async with AsyncClient(shared_server.url) as other:
            return await other.view(job), await other.view(job.id), await other.recent(1)

    view, by_id, recent = asyncio.run(told())
    assert view == by_id == client.view(job) and view["state"] == "finished"
    assert recent == client.recent(1)


def test_a_walk_is_an_animation_the_same_by_both_clients(client, shared_server):
    corners = [("snowman", 5), ("house", 7)]
    points = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.5, 0.5]]
    animation = client.walk(corners, points, format="apng", picture_ms=100)
    assert animation.startswith(PNG) and animation.count(b"fcTL") == len(points)

    async def again():
        async with AsyncClient(shared_server.url) as other:
            return await other.walk(corners, points, format="apng", picture_ms=100)

    assert asyncio.run(again()) == animation
    assert client.walk(corners, points).startswith(b"GIF89a")
    assert client.walk(corners, points, format="mp4")[4:8] == b"ftyp"
    with pytest.raises(ValueError, match="two corners"):
        client.walk(corners[:1], points)
    with pytest.raises(Refused) as refused:
        client.walk(corners, [*points, [0.7, 0.7]])
    assert refused.value.code == "invalid_explore" and "weights[4]" in str(refused.value)


def test_the_owner_deletes_a_result_and_nobody_else(client):
    job = client.draw(0, seed=3).job
    stranger = type(job)(job.id, "wrong", job.request, job.url)
    with pytest.raises(Refused) as refused:
        client.delete(stranger)
    assert refused.value.code == "not_owner"
    client.delete(job)
    with pytest.raises(Refused) as refused:
        client.view(job)
    assert refused.value.code == "not_found"


def test_what_the_server_refuses_is_told_with_its_code(client):
    with pytest.raises(Refused) as refused:
        list(client.generate(0, plan=FewStep((0, 99), 3)))
    assert refused.value.code == "invalid_plan"
    with pytest.raises(Refused) as refused:
        list(client.generate(0, count=99))
    assert refused.value.code == "count_out_of_range"


def test_names_are_looked_up_and_the_nearest_offered(client):
    model = client.model()
    assert model.class_number("SNOWMAN") == model.class_number(model.class_number("snowman"))
    with pytest.raises(ValueError, match="snowman"):
        client.draw("snwoman")
    with pytest.raises(ValueError, match="1 step"):
        client.draw("snowman", plan="one step")
    with pytest.raises(ValueError, match="out of range"):
        client.draw("snowman", seed=2**53)
    with pytest.raises(ValueError, match="there are"):
        client.model("no such model")


def test_a_job_goes_on_after_the_server_was_killed(server):
    with Client(server.url) as client:
        frames, restarted = [], False
        for event in client.generate("house", plan=Teacher(top_k=200), seed=4, count=8):
            if isinstance(event, Queued):
                frames.clear()
            if isinstance(event, Frame):
                frames.append(event)
                if not restarted:
                    restarted = True
                    server.kill()
                    server.start()
        assert restarted
        assert isinstance(event, Finished)
        assert len([frame for frame in frames if frame.last]) == 8


def test_a_server_that_is_not_there_is_named():
    with Client("http://127.0.0.1:9") as client, pytest.raises(ConnectionLost, match="127.0.0.1:9"):
        client.draw(0)
    with pytest.raises(ValueError, match="as in http"):
        Client("ftp://example.org")


def test_a_notebook_shows_pictures_and_strip(client):
    result = client.draw("tree", seed=6)
    shown = result._repr_html_()
    assert shown.count("<img") == len(result.pictures) + len(result.strip())
    assert result.job.id in shown
    assert result.job.owner_token not in shown and result.job.owner_token not in repr(result)


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_every_example_runs(example, shared_server, tmp_path):
    done = subprocess.run(
        [sys.executable, example, shared_server.url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        # The package itself and what the tests have it with.
        env={"PYTHONPATH": os.pathsep.join([str(example.parents[1] / "src"), *sys.path])},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\bms\b", done.stdout), done.stdout
