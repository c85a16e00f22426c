"""What `benchmarks/fuzz.py` damages: small valid files of every kind, made here, and who reads each as users do."""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from manifests.errors import StemloomError

ROOT = Path(__file__).parents[1]
RATE = 8000

Check = Callable[[Path], object]
"""Reads a file as users do; a value, or what it raises."""


@dataclass(frozen=True)
class Target:
    """One kind of file: what it is called (the worker's folder has the rest), its seeds, and who reads it."""

    name: str
    seeds: Callable[[], list[bytes]]
    check: Check


def tone(num_frames: int = 3000, channels: int = 2) -> np.ndarray:
    at = np.arange(num_frames) / RATE
    return np.stack([0.3 * np.sin(2 * np.pi * (220 + 110 * c) * at) for c in range(channels)]).astype(np.float32)


def sound(format: str, subtype: str, channels: int = 2) -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, channels, format=format, subtype=subtype) as writer:
        writer.title, writer.artist, writer.date = "Title", "Artist", "1999-05-01"
        writer.write(tone(channels=channels).T)
    return file.getvalue()


def id3(version: int = 3) -> bytes:
    frames = [
        (b"TIT2", b"\3Title"),
        (b"TPE1", b"\1\xff\xfeA\0r\0"),
        (b"TSRC", b"\0USS1Z9900001"),
        (b"TXXX", b"\3a\0b"),
    ]
    frames += [(b"APIC", b"\0image/png\0\3\0" + bytes(50)), (b"UFID", b"http://musicbrainz.org\0" + b"a" * 36)]
    body = b"".join(struct.pack(">4sIH", name, len(text), 0) + text for name, text in frames)
    sizes = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, 0]) + sizes + body


def film(suffix: str) -> list[bytes]:
    try:
        import av
    except ImportError:
        return []
    file = io.BytesIO()
    with av.open(file, "w", format={"m4a": "ipod", "aac": "adts"}[suffix]) as container:
        stream = container.add_stream("aac", rate=RATE, layout="stereo")
        for start in range(0, 3072, 1024):
            frame = av.AudioFrame.from_ndarray(tone(3072)[:, start : start + 1024].copy(), "fltp", "stereo")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return [file.getvalue()]


def check_audio(path: Path) -> object:
    """Survey it as a scan does, read a crop in both ways, and its tags."""
    from builders.scan import FoundFile, survey_file
    from curation.tags import read_tags
    from manifests.audio import content_id, read
    from manifests.crops import CropReader

    read_tags(path)
    with CropReader({".": path.parent}) as crops:
        crop = rejected(lambda: crops.read(".", path.name, 700, 800))
    same = rejected(lambda: read(path, 700, 800)[0])
    if crop is not None and same is not None:
        assert np.allclose(crop, same, atol=1e-4), "a crop depends on who reads it"
    return survey_file(FoundFile(str(path.parent), path.name, content_id(path)))


def rejected(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except StemloomError:
        return None


@functools.cache
def corpus(folder: Path) -> Path:
    """A corpus of two songs, with packed samples, curves and verdicts."""
    from builders.pack import PackBuilder
    from builders.recipe import PackRecipe
    from manifests.audio import content_id, write
    from manifests.tables import frame_of, write_table

    rows = []
    for song, stem in itertools.product("ab", ("mixture", "vocals")):
        path = f"audio/{song}/{stem}.flac"
        write(folder / path, tone() * (0.5 if stem == "vocals" else 1), RATE)
        row = {"song_id": song, "stem": stem, "root": ".", "path": path, "num_frames": 3000, "sample_rate": RATE}
        row |= {
            "channels": 2,
            "provenance": "recorded",
            "audit": "unheard",
            "content_id": content_id(folder / path),
        }
        rows.append(
            row | {"genre": "Rock", "grade": "A", "reasons": '["A: fine"]', "artist": song, "split": "train"}
        )
    write_table(folder, "stems", frame_of("stems", rows))
    PackBuilder(PackRecipe(), jobs=0).build(folder)
    (folder / "curves").mkdir()
    np.savez(
        folder / "curves/a.npz", allow_pickle=False, grade=np.zeros(3), residue_db=np.ones(3), rms_vocals=np.ones(3)
    )
    hours = {"in": 1.0, "kept": 0.5}
    gates = [{"name": "g", "measure": "rms", "stem": "vocals", "edges": [0, 1], "counts": [1], "minimum": 0.5}]
    run: dict[str, Any] = {
        "builder": "curate",
        "versions": {"stemloom": "1"},
        "recipe": {"seed": 1},
        "hours": hours,
    }
    run |= {"counts": {"inspect": {"done": 2}}, "wall_s": {"inspect": 1.5}, "gates": gates, "grades": {"A": 2}}
    run |= {"splits": {"train": {"songs": 2, "hours": 0.1, "artists": 2}}, "leaks": {"train/test": 0}}
    run |= {"genres": {"before": {"Rock": 2}, "after": {"Rock": 2}, "reference": {"Rock": 1}}, "corpus": "x"}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "recipe.json").write_text(json.dumps({"builder": "curate", "recipe": {}}))
    return folder


def made(name: str) -> list[bytes]:
    """The bytes of one of the corpus' files."""
    with tempfile.TemporaryDirectory() as folder:
        return [(corpus.__wrapped__(Path(folder)) / name).read_bytes()]


def in_corpus(name: str, check: Check) -> Check:
    """Put the input into a corpus in place of one of its files, and read that."""

    def put_and_check(path: Path) -> object:
        folder = corpus(path.parent / "corpus")
        target = folder / name
        before = target.read_bytes()
        try:
            # not into the old file: what is mapped of it would change
            os.replace(path, target)
            return check(folder)
        finally:
            target.write_bytes(before)

    return put_and_check


def check_stems(path: Path) -> object:
    from manifests.corpus import Corpus

    opened = Corpus.open(path.parent)
    return [rejected(lambda row=row: opened.load(row)) for s in opened.songs() for row in opened.song(s).values()]


def jsonl() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        from manifests.corpus import Corpus
        from manifests.tables import write_table

        stems = Corpus.open(corpus.__wrapped__(Path(folder))).stems
        return [write_table(Path(folder), "stems", stems, "jsonl").read_bytes()]


def check_packed(folder: Path) -> object:
    from manifests.packed import PackedCorpus, PackedReader

    opened = PackedCorpus.open(folder)
    with PackedReader(folder) as reader:
        for song in opened.songs():
            for row in opened.song(song).values():
                rejected(lambda row=row: reader.read(row["root"], row["path"], 0, min(row["num_frames"], 10_000)))
    return len(opened.stems)


def check_report(folder: Path) -> object:
    from builders.card import write_card
    from builders.report.page import write_report

    for name in ("README.md", "croissant.json"):
        (folder / name).unlink(missing_ok=True)
    rejected(lambda: write_card(folder))
    return write_report(folder)


def check_curves(folder: Path) -> object:
    from builders.report.curves import lanes, read_curves

    found = read_curves(folder, "a")
    return found and lanes(found, {"vocals": "--vocals"})


def plan_rows() -> list[dict[str, Any]]:
    row: dict[str, Any] = {"mixture_id": "m", "seed": 1, "epoch": 0, "index": 0, "attempt": 0, "mixture_rate": RATE}
    row |= {"mixture_channels": 2, "mixture_frames": 2000, "mixture_transforms": "[]", "target": "t", "source": "s"}
    row |= {"song_id": "a", "stem": "vocals", "root": ".", "path": "audio/a/vocals.flac", "source_start_frame": 100}
    row |= {"num_frames": 1000, "source_rate": RATE, "offset_frame": 10, "length_frames": 1000, "gain_db": -3.0}
    steps = [{"name": "peak", "peak_db": -1.0, "only_down": True}]
    return [row | {"transforms": json.dumps(steps)}, row | {"target": "u", "transforms": "[]"}]


def mixtures() -> list[bytes]:
    return ["\n".join(map(json.dumps, plan_rows())).encode()]


def check_mixtures(path: Path) -> object:
    from augment.plan import plans_of
    from augment.render import render
    from manifests.crops import CropReader
    from manifests.tables import read_table

    with CropReader({".": corpus(path.parent / "corpus")}) as reader:
        return [
            rejected(lambda plan=plan: render(plan, reader))
            for plan in plans_of(read_table(path.parent, "mixtures"))
        ]


def jams() -> list[bytes]:
    value = {
        "label": "siren",
        "source_file": "/sounds/a/vocals.flac",
        "source_time": 0.1,
        "event_time": 0.0,
        "snr": 3,
    }
    value |= {"event_duration": 0.1, "role": "foreground", "pitch_shift": None, "time_stretch": None}
    settings = {
        "sr": RATE,
        "n_channels": 2,
        "original_duration": 1.0,
        "duration": 1.0,
        "ref_db": -20,
        "fg_path": "/sounds",
    }
    settings |= {
        "bg_path": "/sounds",
        "fg_labels": ["siren"],
        "bg_labels": [],
        "fade_in_len": 0.01,
        "fade_out_len": 0.01,
    }
    data = [{"time": 0.0, "duration": 0.1, "value": value, "confidence": 1.0}]
    annotation = {"namespace": "scaper", "data": data, "sandbox": {"scaper": settings}}
    plain = {"annotations": [annotation], "sandbox": {}}
    ours = plain | {"sandbox": {"stemloom": {"mixtures": plan_rows(), "roots": {".": "/sounds"}}}}
    return [json.dumps(plain).encode(), json.dumps(ours).encode()]


def check_jams(path: Path) -> object:
    from augment.jams import jams_roots, plan_of_jams
    from augment.render import render
    from manifests.crops import CropReader

    folder = corpus(path.parent / "corpus")
    roots = dict.fromkeys(("foreground", "background"), folder / "audio") | {".": folder}
    rejected(lambda: jams_roots(path))
    plan = plan_of_jams(path, roots)
    with CropReader(roots) as reader:
        return render(plan, reader)


def recipes() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "recipes").rglob("*.yaml"))]


def check_recipe(path: Path) -> object:
    """Read it as a recipe of each kind: the wrong kinds must refuse it too."""
    from augment.recipe import load_mix
    from builders import recipe
    from manifests.recipes import load_recipe, read_mapping
    from separators.pretrained.roformer import read_recipe
    from training.recipe import load_training
    from training.study import load_study

    read_mapping(path)
    names = [name for name in vars(recipe) if name.endswith("Recipe") and name not in ("Recipe", "MixRecipe")]
    loads = [functools.partial(load_recipe, path, getattr(recipe, name)) for name in names]
    loads += [functools.partial(load, path) for load in (load_mix, load_training, load_study, read_recipe)]
    found = [rejected(load) for load in loads]
    if not any(found):
        raise StemloomError("it is a recipe of no kind")
    return len(found)


def separator_yaml() -> list[bytes]:
    parts = (
        "separator: baseline:centre\nchannels: 2\n",
        "ensemble:\n  - baseline:centre\n  - separator: baseline:hp\n",
    )
    return [text.encode() for text in parts]


def program_yaml() -> list[bytes]:
    return [b"program: true {input} {output}\nsources: [a, b]\nsample_rate: 8000\n"]


def check_separator(prefix: str = "") -> Check:
    def check(path: Path) -> object:
        from separators.loading import load_separator

        return load_separator(f"{prefix}{path}").sources

    return check


def network() -> list[bytes]:
    from separators import OpenUnmix, OpenUnmixConfig
    from separators.weights import save_network

    config = OpenUnmixConfig(
        sample_rate=RATE, sources=("vocals", "rest"), hidden=4, window_frames=64, hop_frames=16, bandwidth_hz=4000
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.safetensors")
        save_network(path, OpenUnmix(config))
        return [path.read_bytes()]


def pickled() -> list[bytes]:
    import torch

    file = io.BytesIO()
    torch.save({"state": {"a.weight": torch.zeros(3, 2)}, "klass": "x", "args": [1], "kwargs": {"a": (1, 2)}}, file)
    return [file.getvalue()]


def verdicts() -> list[bytes]:
    said = {"seq": 1, "time": "2020-01-01T00:00:00Z", "listener": "me", "song_id": "a", "stem": None, "note": ""}
    said |= {
        "verdict": "accepted",
        "reason": None,
        "nudge_frames": 0,
        "order": "title",
        "key": "k",
        "content_ids": {},
    }
    return [json.dumps(said).encode() + b"\n"]


def check_verdicts(path: Path) -> object:
    from builders.audit.verdicts import read_verdicts

    folder = path.parent / "build"
    (folder / "audit").mkdir(parents=True, exist_ok=True)
    os.replace(path, folder / "audit/verdicts.jsonl")
    return read_verdicts(folder)


def cached() -> list[bytes]:
    from builders.cache import ResultCache

    with tempfile.TemporaryDirectory() as folder:
        ResultCache(Path(folder)).put("0" * 32, {"a": [1, 2.5, None]}, {"x": np.arange(9)})
        return [(Path(folder) / "00" / f"{'0' * 32}{end}").read_bytes() for end in (".json", ".x.npy")]


def check_cached(path: Path) -> object:
    from builders.cache import ResultCache

    data, folder = path.read_bytes(), path.parent / "cache"
    place = folder / "00" / f"{'0' * 32}{'.x.npy' if data[:3] == bytes([0x93]) + b'NU' else '.json'}"
    shutil.rmtree(folder, ignore_errors=True)
    cache = ResultCache(folder)
    cache.put("0" * 32, {"a": 1}, {"x": np.arange(9)})
    place.write_bytes(data)
    return cache.get("0" * 32), cache.get_arrays("0" * 32)


def check_labels(path: Path) -> object:
    from manifests.recipes import read_rows

    return list(read_rows(path, ["song_id", "label"]))


TARGETS = {
    target.name: target
    for target in [
        Target(
            "a.wav", lambda: [sound("WAV", "PCM_16"), sound("WAV", "FLOAT"), sound("RF64", "PCM_24")], check_audio
        ),
        Target("a.aiff", lambda: [sound("AIFF", "PCM_16")], check_audio),
        Target("a.flac", lambda: [sound("FLAC", "PCM_16"), sound("FLAC", "PCM_24", 1)], check_audio),
        Target(
            "a.mp3", lambda: [sound("MP3", "MPEG_LAYER_III"), id3() + sound("MP3", "MPEG_LAYER_III")], check_audio
        ),
        Target("a.ogg", lambda: [sound("OGG", "VORBIS"), sound("OGG", "OPUS")], check_audio),
        Target("a.m4a", lambda: film("m4a"), check_audio),
        Target("a.aac", lambda: film("aac"), check_audio),
        Target("stems.parquet", lambda: made("stems.parquet"), check_stems),
        Target("stems.jsonl", jsonl, check_stems),
        Target(
            "index.parquet", lambda: made("packed/index.parquet"), in_corpus("packed/index.parquet", check_packed)
        ),
        Target("run.json", lambda: made("run.json"), in_corpus("run.json", check_report)),
        Target("curves.npz", lambda: made("curves/a.npz"), in_corpus("curves/a.npz", check_curves)),
        Target("mixtures.jsonl", mixtures, check_mixtures),
        Target("scape.jams", jams, check_jams),
        Target("scape.jamz", lambda: [gzip.compress(data) for data in jams()], check_jams),
        Target("recipe.yaml", recipes, check_recipe),
        Target("separator.yaml", separator_yaml, check_separator()),
        Target("program.yaml", program_yaml, check_separator("command:")),
        Target("labels.csv", lambda: [b'song_id,label\na,speech\nb,"music, loud"\n'], check_labels),
        Target("net.safetensors", network, check_separator("checkpoint:")),
        Target("net.th", pickled, check_separator("demucs:")),
        Target("net.ckpt", pickled, check_separator("roformer:")),
        Target("verdicts.jsonl", verdicts, check_verdicts),
        Target("entry.cache", cached, check_cached),
    ]
}
