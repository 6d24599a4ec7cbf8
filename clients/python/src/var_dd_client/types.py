"""What the server offers, is asked for and tells, as plain values.

The fields are those of the wire protocol (``docs/protocol.md`` of the project); unknown ones that a
newer server sends are ignored.
"""

from __future__ import annotations

import base64
import html
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

__all__ = [
    "Event",
    "Failed",
    "FewStep",
    "Finished",
    "Frame",
    "Job",
    "Model",
    "PassBegan",
    "PassEnded",
    "Plan",
    "Preset",
    "Queued",
    "Result",
    "Started",
    "Teacher",
    "TeacherInvolved",
    "Timings",
]


@dataclass(frozen=True)
class FewStep:
    """The student alone: one pass for each entry of ``t_list``, which begins with 0 and rises.

    Tokens of scales before ``loss_split_t`` are codewords, from it on regressed vectors.
    """

    t_list: tuple[int, ...]
    loss_split_t: int

    def to_wire(self) -> dict[str, Any]:
        """The plan as the server reads it."""
        return {
            "kind": "few_step",
            "t_list": list(self.t_list),
            "loss_split_t": self.loss_split_t,
        }


@dataclass(frozen=True)
class TeacherInvolved:
    """A draft by the student, scales ``teacher_start … b − 1`` by the teacher, the rest by the
    student again; ``t_list`` is ``(a, b)``."""

    t_list: tuple[int, int]
    loss_split_t: int
    teacher_start: int
    cfg: float = 2.0
    top_k: int = 900
    top_p: float = 0.95
    causal_prefix: bool = False

    def to_wire(self) -> dict[str, Any]:
        """The plan as the server reads it."""
        return {
            "kind": "teacher_involved",
            "t_list": list(self.t_list),
            "loss_split_t": self.loss_split_t,
            "teacher_start": self.teacher_start,
            "cfg": self.cfg,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "causal_prefix": self.causal_prefix,
        }


@dataclass(frozen=True)
class Teacher:
    """The teacher alone, one pass for each scale."""

    cfg: float = 2.0
    top_k: int = 900
    top_p: float = 0.95

    def to_wire(self) -> dict[str, Any]:
        """The plan as the server reads it."""
        return {"kind": "teacher", "cfg": self.cfg, "top_k": self.top_k, "top_p": self.top_p}


Plan = Union[FewStep, TeacherInvolved, Teacher]


def plan_from_wire(wire: dict[str, Any]) -> Plan:
    """A plan as the server writes it.

    Raises ``ValueError`` for a kind of plan that this package does not know.
    """
    kind = wire.get("kind")
    if kind == "few_step":
        return FewStep(tuple(wire["t_list"]), wire["loss_split_t"])
    if kind == "teacher_involved":
        first, last = wire["t_list"]
        return TeacherInvolved(
            (first, last),
            wire["loss_split_t"],
            wire["teacher_start"],
            wire["cfg"],
            wire["top_k"],
            wire["top_p"],
            wire.get("causal_prefix", False),
        )
    if kind == "teacher":
        return Teacher(wire["cfg"], wire["top_k"], wire["top_p"])
    raise ValueError(f"plan of unknown kind {kind!r}; a newer version of this package may know it")


@dataclass(frozen=True)
class Preset:
    """A plan that the server offers by name, with the published FID where there is one."""

    name: str
    plan: Plan
    fid: float | None = None


@dataclass(frozen=True)
class Model:
    """A model that the server has loaded."""

    name: str
    image_size: int
    """Side of a picture in pixels."""
    patch_nums: tuple[int, ...]
    """Side of each scale's token map."""
    classes: tuple[str, ...]
    presets: tuple[Preset, ...]
    has_teacher: bool
    device: str
    dtype: str

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Model:
        """A model as ``GET /api/info`` tells of it."""
        presets = tuple(
            Preset(preset["name"], plan_from_wire(preset["plan"]), preset.get("fid"))
            for preset in wire["plans"]
        )
        return cls(
            wire["name"],
            wire["image_size"],
            tuple(wire["patch_nums"]),
            tuple(wire["classes"]),
            presets,
            wire["has_teacher"],
            wire["device"],
            wire["dtype"],
        )

    def class_number(self, name: str | int) -> int:
        """The number of a class given by number or name; case does not count.

        Raises ``ValueError`` with the nearest names where there is none.
        """
        if isinstance(name, int):
            if 0 <= name < len(self.classes):
                return name
            raise ValueError(f"class {name} is out of range; there are 0 to {len(self.classes) - 1}")
        wanted = name.strip().casefold()
        folded = [known.casefold() for known in self.classes]
        if wanted in folded:
            return folded.index(wanted)
        # ImageNet's names are lists of synonyms: "goldfish, Carassius auratus".
        for number, known in enumerate(folded):
            if wanted in (part.strip() for part in known.split(",")):
                return number
        raise ValueError(f"no class is named {name!r}{_nearest(name, self.classes)}")

    def plan(self, plan: str | Plan) -> Plan:
        """A plan given as such or by the name of a preset.

        Raises ``ValueError`` with the names that there are.
        """
        if not isinstance(plan, str):
            return plan
        for preset in self.presets:
            if preset.name.casefold() == plan.strip().casefold():
                return preset.plan
        names = ", ".join(repr(preset.name) for preset in self.presets)
        raise ValueError(f"no plan is named {plan!r}; there are {names}")


def _nearest(name: str, names: tuple[str, ...]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return "; did you mean " + " or ".join(repr(found) for found in near) + "?" if near else ""


@dataclass(frozen=True)
class Timings:
    """Where the time of a job went, in milliseconds from its acceptance."""

    queue_ms: float
    transformer_ms: float
    decode_ms: float
    first_frame_ms: float
    last_frame_ms: float

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Timings:
        """Timings as the server writes them."""
        return cls(*(float(wire[name]) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Job:
    """A job that the server has accepted."""

    id: str
    owner_token: str = field(repr=False)
    """Secret; it alone cancels or deletes."""
    request: dict[str, Any] = field(repr=False)
    """The request as it runs: model and seed filled in."""
    url: str
    """The result's page."""


@dataclass(frozen=True)
class Queued:
    """The job waits, with ``position`` others before it. What came before it is void."""

    seq: int
    position: int


@dataclass(frozen=True)
class Started:
    """The device took the job. What came before it is void."""

    seq: int
    request: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class PassBegan:
    """A pass began: ``kind`` is ``student``, ``draft``, ``teacher`` or ``kept``; it shows the scales
    ``first_scale … end_scale − 1``."""

    seq: int
    number: int
    of: int
    kind: str
    first_scale: int
    end_scale: int
    at_ms: float


@dataclass(frozen=True)
class PassEnded:
    """A network pass ended."""

    seq: int
    number: int
    at_ms: float


@dataclass(frozen=True)
class Frame:
    """The picture of one scale: all scales up to this one, decoded."""

    seq: int
    job: str
    picture: int
    """Which picture of the job, from 0."""
    number: int
    """Which pass, from 0."""
    scale: int
    width: int
    height: int
    media_type: str
    last: bool
    """Whether this is the finished picture, a lossless PNG."""
    at_ms: float
    """Milliseconds from the job's acceptance."""
    data: bytes = field(repr=False)
    """The encoded picture."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the encoded picture as it is; returns the path."""
        path = Path(path)
        path.write_bytes(self.data)
        return path

    def image(self) -> Any:
        """The picture as a ``PIL.Image``; needs Pillow."""
        import io

        from PIL import Image

        return Image.open(io.BytesIO(self.data))

    def _repr_html_(self) -> str:
        return _img(self, 256)


@dataclass(frozen=True)
class Finished:
    """All pictures are there and kept."""

    seq: int
    timings: Timings


@dataclass(frozen=True)
class Failed:
    """The job ended without its pictures: ``state`` is ``failed``, ``cancelled`` or ``expired``."""

    seq: int
    state: str
    reason: str


Event = Union[Queued, Started, PassBegan, PassEnded, Frame, Finished, Failed]


@dataclass
class Result:
    """A job with everything that was received of it. Notebooks show its pictures and strip."""

    job: Job
    frames: list[Frame] = field(default_factory=list, repr=False)
    timings: Timings | None = None

    @property
    def pictures(self) -> list[Frame]:
        """The finished pictures, in order."""
        return sorted((frame for frame in self.frames if frame.last), key=lambda f: f.picture)

    def strip(self, picture: int = 0) -> list[Frame]:
        """The frames of one picture in the order of passes and scales."""
        mine = (frame for frame in self.frames if frame.picture == picture)
        return sorted(mine, key=lambda f: (f.number, f.scale))

    def _add(self, event: Event) -> None:
        if isinstance(event, (Queued, Started)):
            self.frames.clear()  # the job starts over after a restart of the server
        elif isinstance(event, Frame):
            self.frames.append(event)
        elif isinstance(event, Finished):
            self.timings = event.timings

    def _repr_html_(self) -> str:
        pictures = "".join(_img(picture, 256) for picture in self.pictures)
        strip = "".join(
            f'<figure style="margin:0;text-align:center">{_img(frame, 64)}'
            f'<figcaption style="font-size:11px">{frame.at_ms:.0f} ms</figcaption></figure>'
            for frame in self.strip()
        )
        row = "display:flex;gap:6px;flex-wrap:wrap;align-items:end"
        link = html.escape(self.job.url, quote=True)
        return (
            f'<div><div style="{row}">{pictures}</div>'
            f'<div style="{row};margin-top:6px">{strip}</div>'
            f'<a href="{link}" style="font-size:12px">{link}</a></div>'
        )


def _img(frame: Frame, side: int) -> str:
    data = base64.b64encode(frame.data).decode("ascii")
    return (
        f'<img alt="pass {frame.number + 1}, scale {frame.scale + 1}" width="{side}" '
        f'src="data:{frame.media_type};base64,{data}">'
    )
