"""The client for asyncio: as ``var_dd_client.Client``, with ``async`` where it waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from . import wire
from .client import MAX_MESSAGE, WALK_TIMEOUT_S, checked
from .conversation import Address, Conversation, check_end
from .errors import ConnectionLost
from .types import Event, Job, Model, Plan, Result


class AsyncClient:
    """A VAR-DD server.

    >>> async with AsyncClient() as client:                          # doctest: +SKIP
    ...     async for event in client.generate("snowman", plan="2 steps"):
    ...         print(event)
    """

    def __init__(self, base_url: str = "http://127.0.0.1:8080", *, timeout_s: float = 30.0) -> None:
        self._address = Address(base_url)
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(timeout=timeout_s)
        self._models: tuple[Model, ...] | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def models(self) -> tuple[Model, ...]:
        """The models that the server has loaded; the first one is the default. Asked for once."""
        if self._models is None:
            info = (await self._ask("GET", "api/info")).json()
            self._models = tuple(Model.from_wire(model) for model in info["models"])
        return self._models

    async def model(self, name: str | None = None) -> Model:
        """A model by name, or the default one.

        Raises ``ValueError`` with the names that there are.
        """
        models = await self.models()
        if name is None:
            return models[0]
        for model in models:
            if model.name == name:
                return model
        names = ", ".join(model.name for model in models)
        raise ValueError(f"no model is named {name!r}; there are {names}")

    async def generate(
        self,
        class_: str | int,
        *,
        plan: str | Plan | None = None,
        seed: int | None = None,
        count: int = 1,
        model: str | None = None,
        last_frame_first: bool = False,
    ) -> AsyncIterator[Event]:
        """Draws pictures and yields what happens, as ``Client.generate`` does."""
        conversation = await self._conversation(class_, plan, seed, count, model, last_frame_first)
        async for _, event in self._run(conversation):
            yield event

    async def draw(
        self,
        class_: str | int,
        *,
        plan: str | Plan | None = None,
        seed: int | None = None,
        count: int = 1,
        model: str | None = None,
    ) -> Result:
        """Draws pictures and returns when they are finished, as ``Client.draw`` does."""
        return await self._finish(
            await self._conversation(class_, plan, seed, count, model, False)
        )

    async def walk(
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
        """A closed walk between corners as an animated file, as ``Client.walk`` draws it."""
        of = await self.model(model)
        body = wire.walk(
            [(of.class_number(class_), seed) for class_, seed in corners],
            points,
            of.presets[0].plan if plan is None else of.plan(plan),
            model=model,
            format=format,
            picture_ms=picture_ms,
            deadline_s=deadline_s,
        )
        answer = await self._ask("POST", "api/loop", json=body, timeout=WALK_TIMEOUT_S)
        return answer.content

    async def watch(self, job: Job | str) -> AsyncIterator[Event]:
        """Follows a job, live or kept, from its first event on."""
        conversation = Conversation(self._address, request=None, job=self._job(job))
        async for _, event in self._run(conversation):
            yield event

    async def result(self, job: Job | str) -> Result:
        """A job with all its frames; waits for its end."""
        return await self._finish(Conversation(self._address, request=None, job=self._job(job)))

    async def view(self, job: Job | str) -> dict[str, Any]:
        """A job as ``GET /api/results/{id}`` tells of it."""
        return (await self._ask("GET", f"api/results/{self._job(job).id}")).json()

    async def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest finished results of everybody."""
        return (await self._ask("GET", f"api/results?limit={limit}")).json()["results"]

    async def cancel(self, job: Job) -> None:
        """Stops a job of one's own."""
        await self._own("POST", f"api/results/{job.id}/cancel", job)

    async def delete(self, job: Job) -> None:
        """Deletes a result of one's own."""
        await self._own("DELETE", f"api/results/{job.id}", job)

    async def _conversation(
        self,
        class_: str | int,
        plan: str | Plan | None,
        seed: int | None,
        count: int,
        model: str | None,
        last_frame_first: bool,
    ) -> Conversation:
        of = await self.model(model)
        request = wire.request(
            of.class_number(class_),
            of.presets[0].plan if plan is None else of.plan(plan),
            model=model,
            seed=seed,
            count=count,
            last_frame_first=last_frame_first,
        )
        return Conversation(self._address, request=request, job=None)

    async def _run(self, conversation: Conversation) -> AsyncIterator[tuple[Result, Event]]:
        while not conversation.over:
            try:
                async with connect(
                    self._address.socket, open_timeout=self._timeout_s, max_size=MAX_MESSAGE
                ) as socket:
                    for message in conversation.opening():
                        await socket.send(message)
                    while not conversation.over:
                        for event in conversation.received(await socket.recv()):
                            assert conversation.result is not None
                            yield conversation.result, event
            except (OSError, WebSocketException, TimeoutError) as error:
                await asyncio.sleep(conversation.lost(error))

    async def _finish(self, conversation: Conversation) -> Result:
        async for result, event in self._run(conversation):
            check_end(result.job, event)
        assert conversation.result is not None
        return conversation.result

    def _job(self, job: Job | str) -> Job:
        if isinstance(job, Job):
            return job
        return Job(job, "", {}, self._address.at(f"r/{job}"))

    async def _own(self, method: str, path: str, job: Job) -> None:
        await self._ask(method, path, headers={"Authorization": f"Bearer {job.owner_token}"})

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, self._address.at(path), **more)
        except httpx.TransportError as error:
            raise ConnectionLost(f"{self._address.base} cannot be reached: {error}") from error
        return checked(answer)
