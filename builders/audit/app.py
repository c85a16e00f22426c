"""The server of `stemloom audit`: a page on this machine alone, and what it asks for.

Every file that is served is named by the build's tables, and lies under its root wherever links lead. Titles go out
as JSON, never as HTML. Who may ask is `builders.audit.guard`'s affair.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import threading
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from builders.audit.clips import MAX_CLIP_S, MAX_NUDGE_S, clip, peaks, spectrogram, wav
from builders.audit.export import Form, exported
from builders.audit.guard import Guard
from builders.audit.songs import COLUMNS, OutsideError, SongBook, Track, UnknownError
from builders.audit.standing import content_ids_of, newest
from builders.audit.store import Store
from builders.audit.verdicts import VerdictLog
from curation.audit import REASONS, Judgement, Order, sample_of
from manifests.audited import AUDIT
from manifests.corpus import Corpus
from manifests.errors import AudioError, BuildError
from manifests.recipes import wrong_fields

PAGE = Path(__file__).parent / "page"
CACHE = "cache"

_KEPT = "private, max-age=3600"
_MOST_BYTES = 1 << 16
_MOST_PIXELS, _MOST_BINS, _MOST_FRAMES = 4096, 4000, 2**48
_AT_ONCE = 2
_TYPES = {
    ".flac": "audio/flac",
    ".wav": "audio/wav",
    ".wave": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".aac": "audio/aac",
    ".aif": "audio/aiff",
    ".aiff": "audio/aiff",
}


class Answer(BaseModel):
    """A verdict as the page sends it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    song_id: str
    stem: str | None = None
    verdict: Judgement
    reason: str | None = None
    note: Annotated[str, Field(max_length=10_000)] = ""
    nudge_frames: float = 0.0
    order: Order
    key: Annotated[str, Field(min_length=1, max_length=200)]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the person at the command line decides.

    Attributes
    ----------
    order : {'doubtful', 'random', 'title'}
        That the page starts with.
    within, confidence : float (0, 1)
        What is wanted of the interval; see `curation.audit.sample_of`.
    reviewer : str
        Whose verdicts these are.
    max_cache_bytes : int
        Of clips and pictures that are kept.
    """

    order: Order = "doubtful"
    within: float = 0.05
    confidence: float = 0.95
    reviewer: str = "unknown"
    max_cache_bytes: int = 1_000_000_000


def make_app(build: Path, token: str, settings: Settings | None = None, log: VerdictLog | None = None) -> Starlette:
    """The server as an ASGI application.

    Parameters
    ----------
    build : Path
        A finished build, of whose `audit` folder a `BuildLock` is held.
    token : str
        First part of every path.
    settings : Settings, optional
    log : VerdictLog, optional
        Of the build, where it is open.

    Returns
    -------
    Starlette
        Its `state.log` is the open `VerdictLog`.

    Raises
    ------
    TableError
        When the build has no stems table, or one of its tables is damaged.
    BuildError
        When verdicts cannot be written.
    """
    log = log or VerdictLog(build)
    desk = _Desk(Corpus.open(build), log, settings or Settings())
    track = "/songs/{song_id:path}/{what}/{track}"
    routes = [
        Route("/", desk.page),
        Mount("/page", _Files(directory=PAGE, check_dir=False)),
        Route("/queue", desk.queue),
        Route("/progress", desk.progress),
        Route("/reasons", desk.reasons),
        Route("/verdicts", desk.verdicts, methods=["GET"]),
        Route("/verdicts", desk.judge, methods=["POST"]),
        Route("/export", desk.export),
        *(
            Route(track.replace("{what}", what), endpoint)
            for what, endpoint in (
                ("peaks", desk.peaks),
                ("spectrogram", desk.spectrogram),
                ("clip", desk.clip),
                ("audio", desk.audio),
            )
        ),
        Route("/songs/{song_id:path}", desk.song),
    ]
    app = Starlette(
        routes=[Mount(f"/{token}", routes=routes)],
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={
            HTTPException: lambda _, error: _failed(cast(HTTPException, error).status_code, error.detail),
            UnknownError: lambda _, error: _failed(404, str(error)),
            AudioError: lambda _, error: _failed(404, str(error)),
            OutsideError: lambda _, error: PlainTextResponse(str(error), 403),
            BuildError: lambda _, error: _failed(507, str(error)),
        },
    )
    app.state.log = log
    return app


def _answered(request: Request, content: Any) -> Response:
    """JSON, packed where it is long: ASCII, as names may be no Unicode."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
    headers = {"Vary": "Accept-Encoding"}
    if len(body) > 2000 and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers = gzip.compress(body, 5), headers | {"Content-Encoding": "gzip"}
    return Response(body, media_type="application/json", headers=headers)


def _failed(status: int, message: str) -> Response:
    body = json.dumps({"error": message}).encode("ascii")
    return Response(body, status, media_type="application/json")


def _number(request: Request, name: str, default: float | None, low: float, high: float) -> float:
    text = request.query_params.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise HTTPException(422, f"{name} is {text!r}; give a number from {low:g} to {high:g}")
    return value


def _integer(request: Request, name: str, default: int | None, low: int, high: int) -> int:
    value = _number(request, name, default, low, high)
    if value != int(value):
        raise HTTPException(422, f"{name} is {value!r}; give a whole number")
    return int(value)


def _ranged(request: Request, data: bytes, media_type: str) -> Response:
    """Bytes, or the range of them that was asked for."""
    headers = {"Accept-Ranges": "bytes", "Cache-Control": _KEPT}
    unit, _, span = request.headers.get("range", "").partition("=")
    first, dash, last = span.strip().partition("-")
    if unit.strip() != "bytes" or not dash or not (first + last).isdecimal():
        return Response(data, media_type=media_type, headers=headers)
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(len(data), int(last) + 1) if first and last else len(data)
    if start >= end:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Response(data[start:end], 206, media_type=media_type, headers=headers)


class _Files(StaticFiles):
    """The page's own files, looked at again each time: another version may have others."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Desk:
    """What the routes answer. Those that are no coroutines run in threads, so that the others go on."""

    def __init__(self, corpus: Corpus, log: VerdictLog, settings: Settings) -> None:
        self.book = SongBook(corpus)
        self.log = log
        self.settings = settings
        self.store = Store(corpus.folder / AUDIT / CACHE, settings.max_cache_bytes)
        self.painting = threading.Semaphore(_AT_ONCE)

    def page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    def queue(self, request: Request) -> Response:
        order = request.query_params.get("order") or self.settings.order
        if order not in ("doubtful", "random", "title"):
            raise HTTPException(422, f"order is {order!r}; give doubtful, random or title")
        rows = self.book.queue(cast(Order, order))
        name = self.book.corpus.folder.resolve().name
        return _answered(request, {"build": name, "order": order, "columns": COLUMNS, "rows": rows})

    def reasons(self, request: Request) -> Response:
        listed = [
            {"key": str(n), "reason": name, "text": text} for n, (name, text) in enumerate(REASONS.items(), 1)
        ]
        return _answered(request, listed)

    def song(self, request: Request) -> Response:
        song_id = request.path_params["song_id"]
        details = self.book.details(song_id)
        current = [
            dataclasses.asdict(verdict)
            for (judged, _), verdict in newest(self.log.all(), self.book.counts).items()
            if judged == song_id and self.book.counts(verdict)
        ]
        return _answered(request, details | {"verdicts": current})

    def _track(self, request: Request) -> Track:
        return self.book.track(request.path_params["song_id"], request.path_params["track"])

    def peaks(self, request: Request) -> Response:
        track = self._track(request)
        bins = _integer(request, "bins", 1000, 1, _MOST_BINS)
        with self.painting:
            data = self.store.get(lambda: peaks(track, bins), "peaks", track.name, track.content, bins)
        return Response(data, media_type="application/octet-stream", headers={"Cache-Control": _KEPT})

    def spectrogram(self, request: Request) -> Response:
        track = self._track(request)
        start = _integer(request, "start_frame", 0, 0, _MOST_FRAMES)
        if start >= track.num_frames:
            raise HTTPException(
                422,
                f"start_frame is {start}, and '{track.name}' of song '{request.path_params['song_id']}' has "
                f"{track.num_frames} frames; give a smaller one",
            )
        num = _integer(request, "num_frames", track.num_frames - start, 1, track.num_frames)
        width = _integer(request, "width", 1000, 1, _MOST_PIXELS)
        height = _integer(request, "height", 160, 1, _MOST_PIXELS)
        facts = (start, num, width, height)
        with self.painting:
            data = self.store.get(
                lambda: spectrogram(track, *facts), "spectrogram", track.name, track.content, *facts
            )
        return Response(data, media_type="image/png", headers={"Cache-Control": _KEPT})

    def clip(self, request: Request) -> Response:
        track = self._track(request)
        most = int(MAX_CLIP_S * track.sample_rate)
        start = _integer(request, "start_frame", 0, 0, _MOST_FRAMES)
        num = _integer(request, "num_frames", min(track.num_frames, most), 1, most)
        far = MAX_NUDGE_S * track.sample_rate
        nudge = _number(request, "nudge_frames", 0.0, -far, far)
        nudge = nudge if any(part.is_nudged for part in track.parts) else 0.0
        data = self.store.get(
            lambda: wav(clip(track, start, num, nudge), track.sample_rate),
            *("clip", track.name, track.content, start, num, nudge),
        )
        return _ranged(request, data, "audio/wav")

    def audio(self, request: Request) -> Response:
        track = self._track(request)
        if len(track.parts) != 1:
            raise HTTPException(404, f"'{track.name}' is made of several files, and has none of its own")
        track.parts[0].require_file()
        path = track.parts[0].path
        media_type = _TYPES.get(path.suffix.lower(), "application/octet-stream")
        return FileResponse(path, media_type=media_type, headers={"Cache-Control": _KEPT})

    def progress(self, request: Request) -> Response:
        return _answered(request, self._progress())

    def _progress(self) -> dict[str, Any]:
        verdicts = self.log.all()
        rejected: dict[str, bool] = {}
        for (song_id, _), verdict in newest(verdicts, self.book.counts).items():
            if self.book.counts(verdict):
                rejected[song_id] = rejected.get(song_id, False) or verdict.verdict == "rejected"
        at_random = {verdict.song_id for verdict in verdicts if verdict.order == "random"}
        sample = sample_of(
            self.book.order("random"),
            rejected,
            at_random,
            within=self.settings.within,
            confidence=self.settings.confidence,
        )
        bad = sum(rejected.values())
        return {
            "songs": len(self.book.songs),
            "heard": len(rejected),
            "accepted": len(rejected) - bad,
            "rejected": bad,
            "sample": dataclasses.asdict(sample),
        }

    def verdicts(self, request: Request) -> Response:
        since = _integer(request, "since", 0, 0, 2**53)
        seq, verdicts = self.log.seq, self.log.all()
        found = [
            dataclasses.asdict(said) for said in verdicts if since < said.seq <= seq and self.book.counts(said)
        ]
        return _answered(request, {"seq": max(since, seq), "verdicts": found, "progress": self._progress()})

    async def judge(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BYTES:
                raise HTTPException(413, f"the verdict is longer than {_MOST_BYTES} bytes: shorten its note")
        try:
            answer = Answer.model_validate_json(body)
        except ValidationError as error:
            raise HTTPException(422, "; ".join(wrong_fields(error))) from error
        return await run_in_threadpool(self._judged, request, answer)

    def _judged(self, request: Request, answer: Answer) -> Response:
        rows = self.book.rows(answer.song_id)
        if answer.stem is not None and answer.stem not in rows:
            raise HTTPException(
                422, f"song '{answer.song_id}' has no stem '{answer.stem}'; it has {', '.join(rows)}"
            )
        most = MAX_NUDGE_S * next(iter(rows.values()))["sample_rate"]
        if abs(answer.nudge_frames) > most:
            raise HTTPException(422, f"nudge_frames is {answer.nudge_frames:g}; at most 1 s is {most:g}")
        if answer.reason is not None and answer.reason not in REASONS:
            raise HTTPException(422, f"reason is {answer.reason!r}; give one of {', '.join(REASONS)}")
        if answer.verdict == "rejected" and answer.reason is None:
            raise HTTPException(422, f"a rejected verdict has no reason; give one of {', '.join(REASONS)}")
        verdict = self.log.append(
            **answer.model_dump(),
            reviewer=self.settings.reviewer,
            content_ids=content_ids_of(rows, answer.stem),
        )
        return _answered(request, {"seq": verdict.seq, "progress": self._progress()})

    def export(self, request: Request) -> Response:
        form = request.query_params.get("format", "csv")
        if form not in ("csv", "jsonl"):
            raise HTTPException(422, f"format is {form!r}; give csv or jsonl")
        data = exported(self.book, self.log.all(), cast(Form, form))
        media_type = "text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson"
        return Response(
            data, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="verdicts.{form}"'}
        )
