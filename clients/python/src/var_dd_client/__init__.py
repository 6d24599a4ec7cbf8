"""Client of the VAR-DD playground: few-step image generation, watched scale by scale.

>>> from var_dd_client import Client, Frame                          # doctest: +SKIP
>>> with Client() as client:
...     for event in client.generate("snowman", plan="2 steps", seed=5):
...         if isinstance(event, Frame):
...             print(event.number, event.scale, event.at_ms)
"""

from .aio import AsyncClient
from .client import Client
from .errors import ConnectionLost, JobEnded, Refused, VarDDError
from .types import (
    Event,
    Failed,
    FewStep,
    Finished,
    Frame,
    Job,
    Model,
    PassBegan,
    PassEnded,
    Plan,
    Preset,
    Queued,
    Result,
    Started,
    Teacher,
    TeacherInvolved,
    Timings,
)

__all__ = [
    "AsyncClient",
    "Client",
    "ConnectionLost",
    "Event",
    "Failed",
    "FewStep",
    "Finished",
    "Frame",
    "Job",
    "JobEnded",
    "Model",
    "PassBegan",
    "PassEnded",
    "Plan",
    "Preset",
    "Queued",
    "Refused",
    "Result",
    "Started",
    "Teacher",
    "TeacherInvolved",
    "Timings",
    "VarDDError",
]

__version__ = "0.2.0"
