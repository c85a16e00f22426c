"""How fast mixtures are made, beside peers and beside the limit; that memory stays flat; that targets always sum.

    OMP_NUM_THREADS=1 python benchmarks/mixing.py DATA --out FOLDER [--only speed,workers,memory,draws,sums]

prints one Markdown table per question and writes them to FOLDER/mixing.md:

speed       mixtures per second and core of `jusperlee2023` (3 s, stereo, 44.1 kHz; 0-1 speech or vocals,
            0-2 music, 0-3 effects, +-10 dB; the mixture and three targets as tensors) from FLAC, from WAV and
            from the packed store, beside
              plain            load whole files, crop, add: what a first dataset class does
              audiomentations  crops read by soundfile, each through `Compose([AdjustDuration, Gain])`, added
              lhotse           cuts truncated, padded and mixed lazily, one mix for each target
              scaper           `Scaper.generate` with isolated events, in memory
              limit            int16 samples of the same crops, read from a memory map, times a gain, added to
                               zeros, and the targets to the mixture: no plan, no checks
              decoder alone    the same crops decoded by dr_flac, nothing added
            Contestants take turns in one process with one thread, a few mixtures each, round after round; what is
            reported is processor time, as the median over rounds, and ratios of it. Targets: from FLAC at least 3
            times the best peer, from the store at least 10 times, and at most 3 times the limit's time.
workers     mixtures per second of a `DataLoader` over `MixtureStream` with 0 to 4 workers.
memory      resident memory over 100,000 mixtures from the store, and over 20,000 from FLAC.
draws       plans per second from a pool of a thousand clips and of a million, weighted by grade and genre; what the
            pool of a million costs to make and to hold.
sums        10,000 recipes drawn at random (`tests/augment/test_render.py`): the mixture is the targets' sum.

DATA holds folders of audio files, a folder for each kind: speech, vocals, music_instrumental, effects; others are
not used. It is converted once, into FOLDER. lhotse and scaper need `pip install -e '.[dev,scaper]'`.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

from augment.dataset import MixtureDataset, MixtureStream
from augment.draw import draw
from augment.pool import make_pool
from augment.recipe import MixRecipe, load_mix
from builders.pack import PackBuilder
from builders.recipe import PackRecipe
from manifests.audio import AUDIO_SUFFIXES, read, write
from manifests.corpus import Corpus
from manifests.crops import CropReader
from manifests.packed import PACKED, PackedReader
from manifests.tables import frame_of, write_table

RATE, SECONDS = 44_100, 3.0
FRAMES = round(RATE * SECONDS)
KINDS = ("speech", "vocals", "music_instrumental", "effects")
CLASSES = ((("speech", "vocals"), 1), (("music_instrumental",), 2), (("effects",), 3))
Contestant = Callable[[int], Any]


def prepared(data: Path, out: Path, suffix: str) -> Corpus:
    """The data as a corpus of stereo files of 16 bit at 44.1 kHz."""
    folder = out / suffix
    if (folder / "stems.parquet").exists():
        return Corpus.open(folder)
    rows = []
    for kind in KINDS:
        for path in sorted((data / kind).iterdir()):
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            audio, rate = read(path)
            if rate != RATE:
                audio = np.ascontiguousarray(soxr.resample(audio.T, rate, RATE).T)
            audio = np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio[:2]
            audio /= max(1.0, float(np.abs(audio).max()))
            name = f"{kind}/{path.stem}.{suffix}"
            write(folder / name, audio, RATE, 16)
            facts = {"num_frames": audio.shape[1], "sample_rate": RATE, "channels": 2}
            rows.append({"song_id": name, "stem": kind, "root": ".", "path": name, **facts})
    common = {"provenance": "recorded", "audit": "unheard"}
    write_table(folder, "stems", frame_of("stems", [row | common for row in rows]))
    return Corpus.open(folder)


class Chance:
    """The same choices for every peer: classes, files, crops, gains, by the mixture's number."""

    def __init__(self, corpus: Corpus) -> None:
        self.files = {
            kind: [(str(corpus.folder / row["path"]), int(row["num_frames"])) for _, row in rows.iterrows()]
            for kind, rows in corpus.stems.groupby("stem")
        }

    def sources(self, index: int) -> list[tuple[int, str, int, int, int, float]]:
        """Class, path, start, length, offset and gain of each source."""
        chance = random.Random(index)
        while True:
            counts = [chance.randint(0, most) for _, most in CLASSES]
            if any(counts):
                break
        found = []
        for number, ((kinds, _), count) in enumerate(zip(CLASSES, counts, strict=True)):
            files = [file for kind in kinds for file in self.files[kind]]
            for _ in range(count):
                path, frames = chance.choice(files)
                length = min(frames, FRAMES)
                start, offset = chance.randint(0, frames - length), chance.randint(0, FRAMES - length)
                found.append((number, path, start, length, offset, 10 ** (chance.uniform(-10, 10) / 20)))
        return found


def plain(chance: Chance) -> Contestant:
    def mix(index: int) -> Any:
        targets = np.zeros((3, 2, FRAMES), np.float32)
        for number, path, start, length, offset, gain in chance.sources(index):
            whole, _ = soundfile.read(path, dtype="float32")
            targets[number, :, offset : offset + length] += gain * whole[start : start + length].T
        return torch.from_numpy(targets.sum(axis=0)), torch.from_numpy(targets)

    return mix


def audiomentations(chance: Chance) -> Contestant:
    import audiomentations as am

    compose = am.Compose(
        [am.AdjustDuration(duration_samples=FRAMES, p=1.0), am.Gain(min_gain_db=-10, max_gain_db=10, p=1.0)]
    )

    def mix(index: int) -> Any:
        targets = np.zeros((3, 2, FRAMES), np.float32)
        for number, path, start, length, _, _ in chance.sources(index):
            with soundfile.SoundFile(path) as file:
                file.seek(start)
                crop = file.read(length, dtype="float32")
            targets[number] += compose(np.ascontiguousarray(crop.T), RATE)
        return torch.from_numpy(targets.sum(axis=0)), torch.from_numpy(targets)

    return mix


def lhotse(chance: Chance) -> Contestant:
    from lhotse import MultiCut, Recording

    cuts = {path: Recording.from_file(path).to_cut() for files in chance.files.values() for path, _ in files}

    def mix(index: int) -> Any:
        mixed: dict[int, Any] = {}
        for number, path, start, length, offset, gain in chance.sources(index):
            cut = cuts[path].truncate(offset=start / RATE, duration=length / RATE, preserve_id=True)
            cut = cut.perturb_volume(gain)
            if offset:
                cut = cut.pad(duration=cut.duration + offset / RATE, direction="left")
            if cut.num_samples < FRAMES:
                cut = cut.pad(duration=SECONDS)
            mixed[number] = mixed[number].mix(cut) if number in mixed else cut
        targets = np.zeros((3, 2, FRAMES), np.float32)
        for number, cut in mixed.items():
            targets[number] = cut.load_audio(**({} if isinstance(cut, MultiCut) else {"mono_downmix": False}))
        return torch.from_numpy(targets.sum(axis=0)), torch.from_numpy(targets)

    return mix


def scaper(chance: Chance) -> Contestant:
    import scaper as package

    vars(np)["Inf"] = np.inf  # scaper 1.6.5 is of the time of numpy 1
    folder = Path(chance.files["effects"][0][0]).parents[1]

    def mix(index: int) -> Any:
        scape = package.Scaper(SECONDS, str(folder), str(folder), random_state=index)
        scape.sr, scape.n_channels, scape.ref_db = RATE, 2, -30
        sources = chance.sources(index)
        for _, path, start, length, offset, _ in sources:
            scape.add_event(
                ("const", Path(path).parent.name),
                ("const", path),
                ("const", start / RATE),
                ("const", offset / RATE),
                ("const", length / RATE),
                ("uniform", -10, 10),
                None,
                None,
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            audio, _, _, events = scape.generate(disable_instantiation_warnings=True)
        targets = np.zeros((3, 2, FRAMES), np.float32)
        for (number, *_), event in zip(sources, events, strict=True):
            targets[number] += event[:FRAMES].T
        return torch.from_numpy(np.float32(audio.T)), torch.from_numpy(targets)

    return mix


def limit(corpus: Corpus, pool: Any, recipe: Any) -> Contestant:
    """Reading the bytes of the plans' crops from a memory map, and adding them."""
    from manifests.packed import read_index, shard_path

    packed = corpus.folder / PACKED
    places = {
        row["path"]: (row["shard"], row["offset_bytes"], row["num_frames"])
        for _, row in read_index(corpus.folder).iterrows()
    }
    maps = {shard: np.memmap(shard_path(packed, shard), np.int16, "r") for shard, _, _ in places.values()}
    plans: dict[int, Any] = {}

    def mix(index: int) -> Any:
        plan = plans[index]
        targets = torch.zeros(3, 2, FRAMES)
        for number, samples, offset, gain in plan:
            targets[number, :, offset : offset + samples.shape[1]].add_(torch.from_numpy(samples), alpha=gain)
        return targets.sum(0), targets

    def prepare(indices: range) -> None:
        for index in indices:
            if index in plans:
                continue
            plan = draw(recipe, pool, 0, 0, index)
            plans[index] = []
            for event in plan.events:
                shard, offset_bytes, frames = places[event.path]
                whole = maps[shard][offset_bytes // 2 : offset_bytes // 2 + 2 * frames].reshape(2, frames)
                crop = whole[:, event.source_start_frame : event.source_start_frame + event.num_frames]
                gain = 10 ** (event.gain_db / 20) / 32768
                plans[index].append((plan.targets.index(event.target), crop, event.offset_frame, gain))

    mix.prepare = prepare  # type: ignore[attr-defined]
    return mix


def decoding(corpus: Corpus, pool: Any, recipe: Any) -> Contestant:
    """The plans' crops decoded by dr_flac, files kept open: no plan, no checks, nothing added."""
    from miniaudio import ffi, lib

    streams = {
        path: lib.ma_dr_flac_open_file(os.fsencode(corpus.folder / path), ffi.NULL) for path in corpus.stems["path"]
    }
    samples = ffi.new("float[]", 2 * FRAMES)
    plans: dict[int, Any] = {}

    def mix(index: int) -> Any:
        for event in plans[index].events:
            lib.ma_dr_flac_seek_to_pcm_frame(streams[event.path], event.source_start_frame)
            lib.ma_dr_flac_read_pcm_frames_f32(streams[event.path], event.num_frames, samples)

    def prepare(indices: range) -> None:
        plans.update({index: draw(recipe, pool, 0, 0, index) for index in indices})

    mix.prepare = prepare  # type: ignore[attr-defined]
    return mix


def contestants(data: Path, out: Path) -> dict[str, Contestant]:
    recipe = load_mix("jusperlee2023")
    found: dict[str, Contestant] = {}
    for suffix in ("flac", "wav"):
        corpus = prepared(data, out, suffix)
        chance = Chance(corpus)
        pool = make_pool(recipe, corpus)
        found[f"plain, {suffix}"] = plain(chance)
        found[f"audiomentations, {suffix}"] = audiomentations(chance)
        found[f"lhotse, {suffix}"] = lhotse(chance)
        found[f"scaper, {suffix}"] = scaper(chance)
        if suffix == "flac":
            found["decoder alone, flac"] = decoding(corpus, pool, recipe)
        found[f"stemloom, {suffix}"] = MixtureDataset(recipe, pool, length=10**6).__getitem__
    if not (corpus.folder / PACKED / "index.parquet").exists():
        PackBuilder(PackRecipe(sample_format="int16"), jobs=2).build(corpus.folder)
    reader = PackedReader(corpus.folder)
    found["stemloom, packed"] = MixtureDataset(recipe, pool, length=10**6, reader=reader).__getitem__
    found["limit"] = limit(corpus, pool, recipe)
    return found


def speed(data: Path, out: Path, rounds: int) -> Iterator[str]:
    found = contestants(data, out)
    each = {name: 2 if name.startswith(("scaper", "plain")) else 10 for name in found}
    each |= {name: 30 for name in found if name.startswith("stemloom")}
    each["decoder alone, flac"] = 30
    each["limit"] = each["stemloom, packed"] = 60
    times: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(rounds + 1):
        for name, mix in found.items():
            indices = range(turn * 100, turn * 100 + each[name])
            getattr(mix, "prepare", lambda indices: None)(indices)
            if name in ("limit", "stemloom, packed"):  # what is compared with the limit is in the cache for both
                found["stemloom, packed"](indices[0])
            start = time.process_time()
            for index in indices:
                mix(index)
            if turn:  # the first round warms everything up
                times[name].append((time.process_time() - start) / each[name])
    median = {name: statistics.median(values) for name, values in times.items()}
    peers = [name for name in median if not name.startswith(("stemloom", "limit", "decoder"))]
    best = {
        suffix: min((name for name in peers if name.endswith(suffix)), key=median.__getitem__)
        for suffix in ("flac", "wav")
    }
    yield "| mixtures of `jusperlee2023` | ms each | per second and core | times the best peer from FLAC |"
    yield "|---|---|---|---|"
    for name in sorted(median, key=median.__getitem__):
        ratio = median[best["flac"]] / median[name]
        yield f"| {name} | {1000 * median[name]:.2f} | {1 / median[name]:.0f} | {ratio:.2f} |"
    ours = {name: median[f"stemloom, {name}"] for name in ("flac", "wav", "packed")}
    yield ""
    yield f"Best peer from FLAC: {best['flac']}; from WAV: {best['wav']}."
    alone = median["decoder alone, flac"]
    yield (
        f"Decoding the crops and nothing else takes {alone / ours['flac']:.2f} of our time from FLAC, and would be "
        f"{median[best['flac']] / alone:.2f} times the best peer."
    )
    yield f"From FLAC {median[best['flac']] / ours['flac']:.2f} times the best peer from FLAC (target 3)."
    yield f"From WAV {median[best['wav']] / ours['wav']:.2f} times the best peer from WAV."
    yield (
        f"From the store {median[best['flac']] / ours['packed']:.1f} times the best peer from FLAC (target 10), "
        f"{median[best['wav']] / ours['packed']:.1f} times the best from WAV."
    )
    yield f"The store takes {ours['packed'] / median['limit']:.2f} times the limit (target at most 3)."


def workers(data: Path, out: Path, rounds: int) -> Iterator[str]:
    recipe = load_mix("jusperlee2023")
    corpora = {suffix: prepared(data, out, suffix) for suffix in ("flac", "wav")}
    if not (corpora["wav"].folder / PACKED / "index.parquet").exists():
        PackBuilder(PackRecipe(sample_format="int16"), jobs=2).build(corpora["wav"].folder)
    yield f"| workers ({os.cpu_count()} cores) | from FLAC, per second | from the store, per second |"
    yield "|---|---|---|"
    for number in range(5):
        rates = []
        for suffix in ("flac", "wav"):
            corpus = corpora[suffix]
            reader = PackedReader(corpus.folder) if suffix == "wav" else None
            batches = 60 if suffix == "flac" else 200
            stream = MixtureStream(recipe, make_pool(recipe, corpus), batch_size=8, stop=batches, reader=reader)
            context = "spawn" if number else None
            loader = torch.utils.data.DataLoader(
                stream, batch_size=None, num_workers=number, multiprocessing_context=context
            )
            batches_seen = iter(loader)
            for _ in range(8):  # workers start and fill their queues
                next(batches_seen)
            start = time.monotonic()
            seen = sum(len(batch[0]) for batch in batches_seen)
            rates.append(seen / (time.monotonic() - start))
        yield f"| {number} | {rates[0]:.0f} | {rates[1]:.0f} |"


def memory(data: Path, out: Path, rounds: int) -> Iterator[str]:
    recipe = load_mix("jusperlee2023")
    yield "| mixtures | from the store, MB | mixtures | from FLAC, MB |"
    yield "|---|---|---|---|"
    columns = []
    for suffix, total in (("wav", 100_000), ("flac", 20_000)):
        corpus = prepared(data, out, suffix)
        reader = PackedReader(corpus.folder) if suffix == "wav" else CropReader({".": corpus.folder})
        dataset = MixtureDataset(recipe, make_pool(recipe, corpus), length=total, reader=reader)
        column = []
        for index in range(total):
            dataset[index]
            if index + 1 in {total // 100, total // 10, total // 4, total // 2, total}:
                column.append((index + 1, private_mb()))
        columns.append(column)
    for (first, one), (second, two) in zip(*columns, strict=True):
        yield f"| {first:,} | {one:.0f} | {second:,} | {two:.0f} |"


def private_mb() -> float:
    """Memory of this process that is not a file's: pages of the store's map are the system's cache."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) / 1000


def draws(data: Path, out: Path, rounds: int) -> Iterator[str]:
    weighted = {"stems": "effects", "weights": {"grade": {"A": 1, "B": 0.5}, "genre": {"rock": 2}}, "count": 3}
    recipe = MixRecipe.model_validate({"sample_rate": RATE, "length_s": SECONDS, "sources": {"effects": weighted}})
    pools, costs = {}, {}
    for clips in (1_000, 1_000_000):
        folder = out / f"clips{clips}"
        if not (folder / "clips.parquet").exists():
            songs = clips // 10
            fact = {"root": ".", "stem": "effects", "sample_rate": RATE, "channels": 2, "num_frames": 100 * FRAMES}
            rows = [
                {
                    "song_id": f"song{n}",
                    "path": f"{n}.flac",
                    "grade": "AB"[n % 2],
                    "genre": ("rock", "folk", None)[n % 3],
                }
                for n in range(songs)
            ]
            common = fact | {"provenance": "recorded", "audit": "unheard"}
            write_table(folder, "stems", frame_of("stems", [common | row for row in rows]))
            numbers = range(clips)
            cut = [
                {"clip_id": str(n), "song_id": f"song{n // 10}", "start_frame": n % 10 * FRAMES} for n in numbers
            ]
            write_table(folder, "clips", frame_of("clips", [row | {"num_frames": 2 * FRAMES} for row in cut]))
        corpus = Corpus.open(folder)
        assert len(corpus.stems) > 0
        assert corpus.clips is not None
        before, start = private_mb(), time.monotonic()
        pools[clips] = make_pool(recipe, corpus)
        costs[clips] = time.monotonic() - start, private_mb() - before, len(pickle.dumps(pools[clips])) / 1e6
    times: dict[int, list[float]] = {clips: [] for clips in pools}
    for turn in range(rounds):
        for clips, pool in pools.items():
            start = time.process_time()
            for index in range(1000):
                draw(recipe, pool, 0, turn, index)
            times[clips].append(time.process_time() - start)
    yield "| clips | make the pool, s | it holds, MB | pickled, MB | plans of 3 sources per second |"
    yield "|---|---|---|---|---|"
    for clips, (seconds, held, pickled) in costs.items():
        rate = 1000 / statistics.median(times[clips])
        yield f"| {clips:,} | {seconds:.1f} | {held:.0f} | {pickled:.1f} | {rate:,.0f} |"


def sums(data: Path, out: Path, rounds: int) -> Iterator[str]:
    import tempfile

    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    from tests.augment import test_render
    from tests.augment.small_pool import loose_corpus

    check = test_render.test_a_mixture_is_the_sum_of_its_targets_whatever_the_recipe.hypothesis.inner_test
    seen = [0]
    with tempfile.TemporaryDirectory() as folder:
        corpus = loose_corpus(Path(folder, "a"), test_render.KINDS)
        mono = loose_corpus(Path(folder, "b"), test_render.KINDS, 2000, 16_000, 1)

        @settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(mix=test_render.recipes(), seed=st.integers(0, 2**32), which=st.sampled_from([0, 1]))
        def every(mix: MixRecipe, seed: int, which: int) -> None:
            check(corpus=corpus, mono=mono, mix=mix, seed=seed, which=which)
            seen[0] += 1

        every()
    yield f"{seen[0]:,} random recipes: in each the mixture is the sum of its targets to 1e-5."


QUESTIONS = {"speed": speed, "workers": workers, "memory": memory, "draws": draws, "sums": sums}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(QUESTIONS))
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only.split(","):
        lines = [f"## {name}", "", f"Load average before: {os.getloadavg()[0]:.1f}.", ""]
        print("\n".join(lines), flush=True)
        for line in QUESTIONS[name](arguments.data, arguments.out, arguments.rounds):
            print(line, flush=True)
            lines.append(line)
        with (arguments.out / "mixing.md").open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    sys.exit(main())
