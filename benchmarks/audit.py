"""How the audit page's server does with many songs.

    python -m benchmarks.audit BUILD --out FOLDER [--songs 1000,10000]

A finished build of songs with audio is repeated to so many songs (rows of tables, the same files), and its page is
served on this machine and asked as the page asks: opening, the queue, a song that was not looked at before
(details, peaks, spectrograms, the first eight seconds of each track), the same again, verdicts. Times are medians,
in ms; ratios between the columns say more than they do. Memory is the largest resident size of the server's
process.

Prints one Markdown table and writes it to FOLDER/audit.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
import urllib.request
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from builders.report.records import rows_of
from manifests.tables import frame_of, read_table, write_table

LOOKS = 12
TOKEN = "benchmark"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--songs", default="1000,10000")
    options = parser.parse_args()
    counts = [int(count) for count in options.songs.split(",")]
    found = [measured(repeated(options.build, options.out / f"{count}-songs", count)) for count in counts]
    lines = ["| songs | " + " | ".join(f"{count:,}" for count in counts) + " |", "|---" * (len(counts) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{one[name]:,.4g}" for one in found) + " |" for name in found[0]]
    text = "\n".join(lines) + "\n"
    print(text)
    (options.out / "audit.md").write_text(text)


def repeated(build: Path, folder: Path, count: int) -> Path:
    """The build with its songs again and again, by other ids; audio is linked."""
    folder.mkdir(parents=True, exist_ok=True)
    stems = read_table(build, "stems")
    for row in rows_of(stems):
        link = folder / row["path"]
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            os.link(build / row["path"], link)
    songs = {song: rows_of(part) for song, part in stems.groupby("song_id", sort=False)}
    names = list(songs)
    rows = [
        row | {"song_id": f"{number:06}-{names[number % len(names)]}"[:60], "audit": "unheard"}
        for number in range(count)
        for row in songs[names[number % len(names)]]
    ]
    write_table(folder, "stems", frame_of("stems", rows))
    return folder


def measured(build: Path) -> dict[str, float]:
    """Times of requests to a server in a process of its own, in ms, and its memory, in MB."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(build, theirs), daemon=True)
    server.start()
    port, opened_ms = ours.recv()
    base = f"http://127.0.0.1:{port}/{TOKEN}/"

    def ask(path: str) -> bytes:
        with urllib.request.urlopen(base + path) as answer:
            return bytes(answer.read())

    queue_ms, text = timed(lambda: ask("queue?order=doubtful"))
    queue = json.loads(text)
    ids = [row[0] for row in queue["rows"]]
    step = len(ids) // LOOKS
    new, again, verdicts = [], [], []
    for song in ids[::step][:LOOKS]:
        new.append(timed(lambda song=song: look(ask, song))[0])
        again.append(timed(lambda song=song: look(ask, song))[0])
    for number, song in enumerate(ids[::step][:LOOKS]):
        verdicts.append(timed(lambda song=song, number=number: judge(base, song, number))[0])
    ours.send("end")
    memory_mb = ours.recv()
    server.join()
    return {
        "open, ms": opened_ms,
        "queue, ms": queue_ms,
        "queue, MB": len(text) / 1e6,
        "a song for the first time, ms": statistics.median(new),
        "a song again, ms": statistics.median(again),
        "a verdict, on disk, ms": statistics.median(verdicts),
        "memory, MB": memory_mb,
    }


def look(ask: Callable[[str], bytes], song: str) -> None:
    """All that the page asks for when it shows a song."""
    details = json.loads(ask(f"songs/{song}"))
    for track in details["tracks"]:
        ask(f"songs/{song}/peaks/{track['name']}?bins=1200")
        ask(f"songs/{song}/spectrogram/{track['name']}?width=900&height=120")
        ask(f"songs/{song}/clip/{track['name']}?start_frame=0&num_frames={8 * details['sample_rate']}")


def judge(base: str, song: str, number: int) -> None:
    verdict = {
        "song_id": song,
        "stem": None,
        "verdict": "accepted",
        "reason": None,
        "note": "",
        "nudge_frames": 0.0,
    }
    body = json.dumps({**verdict, "order": "doubtful", "key": f"benchmark-{number}-{time.time_ns()}"}).encode()
    request = urllib.request.Request(base + "verdicts", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        answer.read()


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = what()
    return 1000 * (time.perf_counter() - started), found


def serve(build: Path, pipe: Connection) -> None:
    """Serve until told to end; says the port, how long opening took, and at the end how much memory."""
    import asyncio
    import socket
    import threading

    import uvicorn

    from builders.audit.app import make_app

    started = time.perf_counter()
    app = make_app(build, TOKEN)
    opened_ms = 1000 * (time.perf_counter() - started)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))

    def wait() -> None:
        pipe.recv()
        pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        server.should_exit = True

    pipe.send((listener.getsockname()[1], opened_ms))
    threading.Thread(target=wait, daemon=True).start()
    asyncio.run(server.serve(sockets=[listener]))
    app.state.log.close()


if __name__ == "__main__":
    main()
