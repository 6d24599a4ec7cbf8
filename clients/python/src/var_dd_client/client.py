"""The client for ordinary programs and notebooks. ``var_dd_client.aio`` has the same for asyncio."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from . import wire
from .conversation import Address, Conversation, check_end
from .errors import ConnectionLost, Refused
from .types import Event, Job, Model, Plan, Result

MAX_MESSAGE = 64 << 20
"""Largest message taken from the server, in bytes."""

WALK_TIMEOUT_S = 150.0
"""Longest wait for a walk, in seconds: a little more than the server takes for one."""


class Client:
    """A VAR-DD server.

    >>> with Client("http://127.0.0.1:8080") as client:             # doctest: +SKIP
    ...     for event in client.generate("snowman", plan="2 steps"):
    ...         print(event)
    """

    def __init__(self, base_url: str = "http://127.0.0.1:8080", *, timeout_s: float = 30.0) -> None:
        self._address = Address(base_url)
        self._timeout_s = timeout_s
        self._http = httpx.Client(timeout=timeout_s)
        self._models: tuple[Model, ...] | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that the server has loaded; the first one is the default. Asked for once."""
        if self._models is None:
            info = self._get("api/info")
            self._models = tuple(Model.from_wire(model) for model in info["models"])
        return self._models

    def model(self, name: str | None = None) -> Model:
        """A model by name, or the default one.

        Raises ``ValueError`` with the names that there are.
        """
        if name is None:
            return self.models[0]
        for model in self.models:
            if model.name == name:
                return model
        names = ", ".join(model.name for model in self.models)
        raise ValueError(f"no model is named {name!r}; there are {names}")

    def generate(
        self,
        class_: str | int,
        *,
        plan: str | Plan | None = None,
        seed: int | None = None,
        count: int = 1,
        model: str | None = None,
        last_frame_first: bool = False,
    ) -> Iterator[Event]:
        """Draws pictures and yields what happens, frames included, as it happens.

        ``class_`` and ``plan`` are names or numbers and values; the server picks a seed where there
        is none. Raises ``ValueError`` for names that there are none of, ``Refused`` where the server
        refuses, ``ConnectionLost`` where it cannot be reached. A job that fails ends with ``Failed``.
        """
        for _, event in self._run(
            self._conversation(class_, plan, seed, count, model, last_frame_first)
        ):
            yield event

    def draw(
        self,
        class_: str | int,
        *,
        plan: str | Plan | None = None,
        seed: int | None = None,
        count: int = 1,
        model: str | None = None,
    ) -> Result:
        """Draws pictures and returns when they are finished.

        Raises what ``generate`` raises, and ``JobEnded`` where the job ends without them.
        """
        return self._finish(self._conversation(class_, plan, seed, count, model, False))

    def walk(
        self,
        corners: Sequence[tuple[str | int, int]],
        points: Sequence[Sequence[float]],
        *,
        plan: str | Plan | None = None,
        model: str | None = None,
        format: str = "gif",
        picture_ms: int = 80,
        deadline_s: float | None = None,
    ) -> bytes:
        """A closed walk between corners as an animation that begins anew after its last point.

        ``corners`` are two to four classes with a seed each, ``points`` the weights of the corners
        for each picture (2 to 96 of them, each adding up to 1), ``format`` is ``"gif"``,
        ``"apng"`` or ``"mp4"`` (a video, which its player repeats or not). The server keeps
        nothing. Raises ``ValueError`` for names that there are none of, ``Refused`` where the
        server refuses or the deadline passes.
        """
        of = self.model(model)
        body = wire.walk(
            [(of.class_number(class_), seed) for class_, seed in corners],
            points,
            of.presets[0].plan if plan is None else of.plan(plan),
            model=model,
            format=format,
            picture_ms=picture_ms,
            deadline_s=deadline_s,
        )
        return self._ask("POST", "api/loop", json=body, timeout=WALK_TIMEOUT_S).content

    def watch(self, job: Job | str) -> Iterator[Event]:
        """Follows a job, live or kept, from its first event on."""
        for _, event in self._run(Conversation(self._address, request=None, job=self._job(job))):
            yield event

    def result(self, job: Job | str) -> Result:
        """A job with all its frames; waits for its end."""
        return self._finish(Conversation(self._address, request=None, job=self._job(job)))

    def view(self, job: Job | str) -> dict[str, Any]:
        """A job as ``GET /api/results/{id}`` tells of it."""
        return self._get(f"api/results/{_id(job)}")

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest finished results of everybody."""
        return self._get(f"api/results?limit={limit}")["results"]

    def cancel(self, job: Job) -> None:
        """Stops a job of one's own."""
        self._own("POST", f"api/results/{job.id}/cancel", job)

    def delete(self, job: Job) -> None:
        """Deletes a result of one's own."""
        self._own("DELETE", f"api/results/{job.id}", job)

    def _conversation(
        self,
        class_: str | int,
        plan: str | Plan | None,
        seed: int | None,
        count: int,
        model: str | None,
        last_frame_first: bool,
    ) -> Conversation:
        of = self.model(model)
        request = wire.request(
            of.class_number(class_),
            of.presets[0].plan if plan is None else of.plan(plan),
            model=model,
            seed=seed,
            count=count,
            last_frame_first=last_frame_first,
        )
        return Conversation(self._address, request=request, job=None)

    def _run(self, conversation: Conversation) -> Iterator[tuple[Result, Event]]:
        while not conversation.over:
            try:
                with connect(
                    self._address.socket, open_timeout=self._timeout_s, max_size=MAX_MESSAGE
                ) as socket:
                    for message in conversation.opening():
                        socket.send(message)
                    while not conversation.over:
                        for event in conversation.received(socket.recv()):
                            assert conversation.result is not None
                            yield conversation.result, event
            except (OSError, WebSocketException, TimeoutError) as error:
                time.sleep(conversation.lost(error))

    def _finish(self, conversation: Conversation) -> Result:
        for result, event in self._run(conversation):
            check_end(result.job, event)
        assert conversation.result is not None
        return conversation.result

    def _job(self, job: Job | str) -> Job:
        if isinstance(job, Job):
            return job
        return Job(job, "", {}, self._address.at(f"r/{job}"))

    def _get(self, path: str) -> Any:
        return self._ask("GET", path).json()

    def _own(self, method: str, path: str, job: Job) -> None:
        self._ask(method, path, headers={"Authorization": f"Bearer {job.owner_token}"})

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, self._address.at(path), **more)
        except httpx.TransportError as error:
            raise ConnectionLost(f"{self._address.base} cannot be reached: {error}") from error
        return checked(answer)


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is a good one; raises ``Refused`` where not."""
    if answer.is_success:
        return answer
    try:
        body = answer.json()
    except ValueError:
        body = None
    raise Refused.of(body, f"{answer.request.url} answered {answer.status_code}")


def _id(job: Job | str) -> str:
    return job.id if isinstance(job, Job) else job
