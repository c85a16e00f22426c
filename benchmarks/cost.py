"""What the catalogue path costs: time, memory, and time and accuracy beside its peers.

    python benchmarks/cost.py CATALOG --out FOLDER [--peers-python PEERS/bin/python]

prints one Markdown table per question and writes them to FOLDER/cost.md:

scaling     wall time of `CatalogBuilder` by stage and item, with one worker and with two, into fresh folders. The
            runs alternate. The row `CPU` is processor time of all processes; `ceiling` is a bare FFT loop, one
            process against two: what the machine itself gives at that time. Target: two workers are at least
            1.7 times as fast.
memory      peak resident memory of `compare_pair`, `write_triplet` and `survey_file` on a stereo song of 5
            minutes, each in a process of its own, and of `survey_file` on hours of noise. Target: 1.5 GB.
derivation  `derive_vocals` over one `librosa.stft` and `librosa.istft` (defaults: n_fft 2048, hop 512) of the
            same stereo audio, in turns in one process with one thread. Target: the median ratio is at most 12.
alignment   from two files to the printed lag, start of the process included, beside syncstart and
            audio-offset-finder, in turns; and the error against the truth.

Everything runs with one thread per process. On a machine that does other work too, trust the columns `CPU`, and
read scaling beside its ceiling; the load average before each table is printed.

CATALOG holds `library/`, a folder of releases, `truth/releases.csv` with `path` and `codec_lag` (not 0 where
decoders differ about the file's start: such files are left out here), and `truth/pairs.csv`, one row per pair of
releases with the columns

    mix_path, inst_path   paths relative to CATALOG
    true_pair             1 for a mixture and its instrumental
    n_segments            1 if no bars were cut
    drift_ppm             0 if both run at one speed
    offset_samples_44k    where the music is in the mixture's file minus where it is in the instrumental's, in
                          samples at 44,100 Hz: the opposite sign of the lag of `curation.alignment`
    overlap_s             seconds that both have
    longest               JSON: the longest common stretch, [song time of its start and end, in s, its start in the
                          mixture's and in the instrumental's file, its end in both]
    relation              what the two releases are; pairs with `real` in it have no exact truth: left out

Errors of alignment mean something only where the releases differ by no filter, since an equaliser delays the
music itself.

Peers live in an environment of their own, since their pins are older than ours:

    python -m venv PEERS && PEERS/bin/pip install syncstart audio-offset-finder     (and ffmpeg on the path)

syncstart (Wiener-Khinchin correlation at the higher of the two rates) looks at the first 20 s unless told
otherwise; it runs so, and with `-t 600`, on whole songs; stemloom runs on both. audio-offset-finder (MFCC
correlation) steps by 16 ms; it runs so, and with `--sr 44100 --resolution 128`, the most accurate of its settings
on such pairs (finer ones look at less audio, since it compares 2000 steps at most).
"""

# Only the standard library is imported up here: spawn-started processes import this file again, and a process
# inherits the peak memory of the one that starts it. What is measured imports its own.
import argparse
import csv
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the packages live at the root, installed or not

TRUTH_RATE = 44_100
MIN_SPEED_UP = 1.7
MAX_MEMORY_MB = 1500.0
MAX_DERIVATION_RATIO = 12.0
SONG_S = 300
NUM_RATIOS = 5
SYNCSTART_S, WHOLE_S = 20, 600  # what syncstart looks at by default, and more than any song has
STAGES = ("hash", "survey", "match", "align", "derive")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

# Our side of the comparison of aligners, as short as a user would write it.
ALIGN_PROGRAM = """
import sys
from pathlib import Path
from curation.alignment import align
from manifests.audio import probe, read
seconds = float(sys.argv[3])
(mixture, rate), (instrumental, other_rate) = (
    read(path, num_frames=min(info.num_frames, round(seconds * info.sample_rate)))
    for path, info in ((Path(path), probe(Path(path))) for path in sys.argv[1:3])
)
print(align(mixture, instrumental, rate, other_rate).lag_frames / rate)
"""


@dataclass(frozen=True)
class Pair:
    """A true pair without edits and without drift, and where its music is."""

    mixture: Path
    instrumental: Path
    lag_s: float
    overlap_s: float
    start_s: tuple[float, float]  # of the common stretch, in the mixture's and in the instrumental's file


def exact_pairs(catalog: Path) -> list[Pair]:
    """Pairs whose lag is one known number other than 0, which any program prints that finds nothing."""
    doubtful = {row["path"] for row in truth(catalog, "releases") if int(row["codec_lag"] or 0) != 0}
    pairs = [
        Pair(
            catalog / row["mix_path"],
            catalog / row["inst_path"],
            -float(row["offset_samples_44k"]) / TRUTH_RATE,
            float(row["overlap_s"]),
            tuple(json.loads(row["longest"])[2:4]),
        )
        for row in truth(catalog, "pairs")
        if row["true_pair"] == "1"
        and row["n_segments"] == "1"
        and float(row["drift_ppm"]) == 0
        and float(row["offset_samples_44k"]) != 0
        and "real" not in row["relation"]
        and doubtful.isdisjoint({row["mix_path"], row["inst_path"]})
    ]
    if not pairs:
        raise SystemExit(f"{catalog}: has no true pair without edits and drift; make a larger catalogue")
    return pairs


def truth(catalog: Path, name: str) -> list[dict[str, str]]:
    with (catalog / "truth" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a spawn-started process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def table(header: str, rows: list[list[str]]) -> str:
    names = header.split(" | ")
    lines = [names, ["---"] + ["---:"] * (len(names) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(is_met: bool) -> str:
    return "met" if is_met else "missed"


# scaling


def scaling(options: argparse.Namespace, work: Path) -> str:
    read_once(options.catalog / "library", options.limit)
    runs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    ceilings = []
    for repeat in range(options.repeat):
        for jobs in (1, 2) if repeat % 2 == 0 else (2, 1):
            out = work / f"build-{repeat}-{jobs}"
            runs[jobs].append(in_process(build, options.catalog / "library", out, jobs, options.limit))
            tell(f"jobs {jobs}: {runs[jobs][-1]['seconds']}")
            shutil.rmtree(out)
        ceilings.append(ceiling())
    rows = []
    items = runs[1][0]["items"]
    for stage in (*STAGES, "the rest", "total", "CPU"):
        one, two = ([run["seconds"][stage] for run in runs[jobs]] for jobs in (1, 2))
        each = [f"{statistics.median(s) / items[stage]:.2f}" if items.get(stage) else "" for s in (one, two)]
        ratio = statistics.median(a / max(b, 1e-9) for a, b in zip(one, two, strict=True))
        cells = [f"{statistics.median(one):.1f}", each[0], f"{statistics.median(two):.1f}", each[1], f"{ratio:.2f}"]
        rows.append([stage, str(items.get(stage, "")), *cells])
    speed_up = statistics.median(
        one["seconds"]["total"] / two["seconds"]["total"] for one, two in zip(runs[1], runs[2], strict=True)
    )
    rows.append(["ceiling", "", "", "", "", "", f"{statistics.median(ceilings):.2f}"])
    head = "stage | items | jobs 1, s | s per item | jobs 2, s | s per item | jobs 1 / jobs 2"
    return (
        f"{table(head, rows)}\n\nMedians of {options.repeat} runs each on {items['hash']} files. "
        f"Target: total at least {MIN_SPEED_UP}: {verdict(speed_up >= MIN_SPEED_UP)}."
    )


def read_once(folder: Path, limit: int) -> None:
    """Bring the files into the system's cache, so that no run pays for the disk."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[:limit]:
        path.read_bytes()


def build(library: Path, out: Path, jobs: int, limit: int) -> dict[str, Any]:
    from builders.catalog import CatalogBuilder

    start = time.perf_counter()
    CatalogBuilder(out, jobs=jobs, limit=limit).build(library)
    total = time.perf_counter() - start
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    seconds = {stage: run["wall_s"][stage] for stage in STAGES}
    seconds |= {"the rest": round(total - sum(seconds.values()), 3), "total": round(total, 3)}
    seconds["CPU"] = round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 3)
    items = {stage: run["counts"][stage]["in"] for stage in STAGES}
    return {"seconds": seconds, "items": items | {"total": items["hash"]}}


def ceiling() -> float:
    """How many times as fast two processes are as one at work that shares nothing."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(transform, [1, 1]))  # both have started and imported
        alone = pool.submit(transform, 60).result()
        start = time.perf_counter()
        list(pool.map(transform, [60, 60]))
        return 2 * alone / (time.perf_counter() - start)


def transform(count: int) -> float:
    import numpy as np
    import scipy.fft

    noise = np.random.default_rng(0).standard_normal((64, 1 << 14)).astype(np.float32)
    start = time.perf_counter()
    for _ in range(count):
        scipy.fft.irfft(scipy.fft.rfft(noise))
    return time.perf_counter() - start


# memory


def memory(options: argparse.Namespace, work: Path) -> str:
    pair = max(exact_pairs(options.catalog), key=lambda pair: pair.overlap_s)
    ids = in_process(make_song, pair, work, SONG_S, 0.25, 20.0)
    measured: dict[str, tuple[float, float]] = {}
    _, *measured["imports only"] = in_process(measure, import_only)
    compared, *measured["compare_pair, 5 min"] = in_process(measure, compare, work, ids)
    if compared["relation"] != "pair":
        raise SystemExit(f"{pair.mixture}: is no pair when it is {SONG_S} s long: {compared['reason']}")
    _, *measured["write_triplet, 5 min"] = in_process(measure, write, work, ids, compared)
    _, *measured["survey_file, 5 min"] = in_process(measure, survey, work, "mixture.flac", ids["mixture.flac"])
    long_id = in_process(make_noise, work / "long.flac", options.long_hours)
    surveyed = in_process(measure, survey, work, "long.flac", long_id)
    _, *measured[f"survey_file, {options.long_hours:g} h"] = surveyed
    base = measured["imports only"][0]
    rows = [
        [name, f"{peak:.0f}", f"{peak - base:.0f}", f"{seconds:.1f}"] for name, (peak, seconds) in measured.items()
    ]
    highest = max(peak for peak, _ in measured.values())
    return (
        f"{table('process | peak, MB | beyond imports, MB | wall with imports, s', rows)}\n\n"
        f"Stereo, {compared['sample_rate']} Hz. Target: at most {MAX_MEMORY_MB:.0f} MB: "
        f"{verdict(highest <= MAX_MEMORY_MB)}."
    )


def measure(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """A function's value, this process's peak memory in MB (10^6 bytes), and the wall time in s."""
    start = time.perf_counter()
    value = function(*arguments)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, seconds


def import_only() -> None:
    import builders.pairing
    import builders.scan
    import builders.triplet  # noqa: F401


def compare(folder: Path, ids: dict[str, str]) -> dict[str, Any]:
    from builders.pairing import PairItem, compare_pair
    from builders.recipe import CatalogRecipe
    from builders.scan import FoundFile
    from manifests.audio import probe

    mixture, instrumental = (FoundFile(str(folder), name, content_id) for name, content_id in ids.items())
    product = compare_pair(PairItem(mixture, instrumental), min_segment_s=CatalogRecipe().min_segment_s)
    return product.value | {"sample_rate": probe(mixture.location).sample_rate}


def write(folder: Path, ids: dict[str, str], compared: dict[str, Any]) -> None:
    from builders.recipe import CatalogRecipe
    from builders.scan import FoundFile
    from builders.triplet import TripletItem, write_triplet

    recipe = CatalogRecipe()
    mixture, instrumental = (FoundFile(str(folder), name, content_id) for name, content_id in ids.items())
    item = TripletItem(
        mixture,
        instrumental,
        out=str(folder / "corpus"),
        song_id="song",
        pair_id="pair",
        segments=compared["segments"],
        drift_ppm=compared["drift_ppm"],
        polarity=compared["polarity"],
    )
    write_triplet(item, recipe.method, recipe.loudness_lufs, recipe.audio_format, recipe.bit_depth)


def survey(folder: Path, name: str, content_id: str) -> None:
    from builders.scan import FoundFile, survey_file

    survey_file(FoundFile(str(folder), name, content_id))


def make_song(pair: Pair, folder: Path, seconds: int, lag_s: float, drift_ppm: float) -> dict[str, str]:
    """Write a pair's common stretch, end to end until it is long enough, as mixture.flac and instrumental.flac.

    Returns their content ids by name. The instrumental gets a lag and a drift, so that no resampling is saved.
    """
    import numpy as np
    import soxr

    from manifests.audio import content_id, read, write

    ids = {}
    period_s = int(pair.overlap_s) - 1  # whole seconds are whole frames at every rate
    rate = read(pair.mixture)[1]
    for name, path, start_s in zip(
        ("mixture.flac", "instrumental.flac"), (pair.mixture, pair.instrumental), pair.start_s, strict=True
    ):
        audio, own_rate = read(path)
        audio = audio[:, round(start_s * own_rate) :][:, : period_s * own_rate]
        audio = np.tile(audio, (2 // audio.shape[0], -(-seconds // period_s)))[:, : seconds * own_rate]
        if name == "instrumental.flac":
            speed = 1 + drift_ppm * 1e-6
            if own_rate != rate or drift_ppm:
                audio = soxr.resample(audio.T, own_rate, rate * speed, quality="VHQ").T
            audio = np.pad(audio, ((0, 0), (round(lag_s * rate), 0)))[:, : seconds * rate]
        write(folder / name, audio * np.float32(0.9 / np.abs(audio).max()), rate)
        ids[name] = content_id(folder / name)
    return ids


def make_noise(path: Path, hours: float) -> str:
    """Write stereo noise at -65 dBFS, 16 bit, 44,100 Hz; returns its content id."""
    import numpy as np
    import soundfile

    from manifests.audio import content_id

    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", 44_100, 2, "PCM_16", format="FLAC") as file:
        for _ in range(round(hours * 360)):
            file.write(rng.integers(-32, 33, (441_000, 2), dtype=np.int16))
    return content_id(path)


# derivation


def derivation(options: argparse.Namespace, work: Path) -> str:
    pair = max(exact_pairs(options.catalog), key=lambda pair: pair.overlap_s)
    in_process(make_song, pair, work, options.seconds, 0.0, 0.0)
    times = in_process(derive_in_turns, work)
    rows = []
    is_met = True
    for method, runs in times.items():
        walls = [method_s[0] / librosa_s[0] for librosa_s, method_s in runs]
        cpus = [method_s[1] / librosa_s[1] for librosa_s, method_s in runs]
        is_met &= statistics.median(walls) <= MAX_DERIVATION_RATIO
        rows.append(
            [
                method,
                *(f"{statistics.median(run[side][0] for run in runs):.2f}" for side in (1, 0)),
                f"{statistics.median(walls):.1f}",
                f"{min(walls):.1f} to {max(walls):.1f}",
                f"{statistics.median(cpus):.1f}",
            ]
        )
    head = "method | derive_vocals, s | librosa, s | ratio | its range | ratio of CPU times"
    return (
        f"{table(head, rows)}\n\nMedians of {NUM_RATIOS} on {options.seconds} s of stereo. "
        f"Target: ratio at most {MAX_DERIVATION_RATIO:g}: {verdict(is_met)}."
    )


Seconds = tuple[float, float]


def derive_in_turns(folder: Path) -> dict[str, list[tuple[Seconds, Seconds]]]:
    """For each method, times (wall, CPU) of librosa's round trip and of the derivation right after it."""
    import librosa

    from curation.derivation import METHODS, derive_vocals
    from manifests.audio import read

    mixture, rate = read(folder / "mixture.flac")
    accompaniment, _ = read(folder / "instrumental.flac")

    def timed(function: Callable[..., Any], *arguments: Any) -> Seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        function(*arguments)
        return time.perf_counter() - wall, time.process_time() - cpu

    def round_trip(audio: Any) -> None:
        librosa.istft(librosa.stft(audio))

    round_trip(mixture[:, : 5 * rate])  # lazy imports and first compilations
    for method in METHODS:
        derive_vocals(mixture[:, : 5 * rate], accompaniment[:, : 5 * rate], rate, method)
    times: dict[str, list[tuple[Seconds, Seconds]]] = {method: [] for method in METHODS}
    for _ in range(NUM_RATIOS):
        for method in METHODS:
            reference = timed(round_trip, mixture)
            times[method].append((reference, timed(derive_vocals, mixture, accompaniment, rate, method)))
    return times


# alignment


@dataclass(frozen=True)
class Aligner:
    """A program that prints where one file is in another."""

    name: str
    command: Callable[[Pair], list[str]]
    lag_s: Callable[[str, Pair], float]  # from what it prints
    environment: dict[str, str]


@dataclass(frozen=True)
class AlignerRun:
    """One run: seconds of wall and CPU time, and the error in samples (infinite if nothing was printed)."""

    wall_s: float
    cpu_s: float
    error: float


def alignment(options: argparse.Namespace, work: Path) -> str:
    pairs = exact_pairs(options.catalog)[: options.pairs]
    aligners = [our_aligner(WHOLE_S), our_aligner(SYNCSTART_S)]
    if options.peers_python is None:
        tell("alignment: the peers are skipped, since --peers-python was not given")
    else:
        aligners += peer_aligners(options.peers_python)
    for aligner in aligners:
        run_aligner(aligner, pairs[0])  # byte code, font and compilation caches
    runs: dict[str, list[AlignerRun]] = {aligner.name: [] for aligner in aligners}
    for number, pair in enumerate(pairs):
        turn = number % len(aligners)
        for aligner in aligners[turn:] + aligners[:turn]:
            runs[aligner.name].append(run_aligner(aligner, pair))
    ours = runs[aligners[0].name]
    rows = []
    for name, own in runs.items():
        errors = [run.error for run in own]
        walls = [run.wall_s / our.wall_s for run, our in zip(own, ours, strict=True)]
        cpus = [run.cpu_s / our.cpu_s for run, our in zip(own, ours, strict=True)]
        rows.append(
            [
                name,
                f"{statistics.median(run.wall_s for run in own):.1f}",
                f"{statistics.median(run.cpu_s for run in own):.1f}",
                f"{statistics.median(walls):.2f}",
                f"{statistics.median(cpus):.2f}",
                f"{statistics.median(errors):.4f}",
                f"{max(errors):.4f}",
                f"{sum(error < 1 for error in errors)} of {len(errors)}",
            ]
        )
    head = (
        "program | wall, s | CPU, s | wall, over ours | CPU, over ours "
        "| median error, samples | largest error | within 1 sample"
    )
    return f"{table(head, rows)}\n\nMedians over {len(pairs)} pairs; samples at {TRUTH_RATE} Hz."


def our_aligner(take_s: int) -> Aligner:
    return Aligner(
        f"stemloom, {take_s} s",
        lambda pair: [sys.executable, "-c", ALIGN_PROGRAM, str(pair.mixture), str(pair.instrumental), str(take_s)],
        lambda printed, pair: float(printed),
        {"PYTHONPATH": str(ROOT)},
    )


def peer_aligners(python: Path) -> Iterator[Aligner]:
    # not resolved: an environment's python is a link, and its programs lie beside it
    programs = python.absolute().parent
    question = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"
    names = ["syncstart", "audio-offset-finder"]
    asked = subprocess.run([str(python), "-c", question, *names], capture_output=True, text=True, check=True)
    versions = dict(zip(names, asked.stdout.split(), strict=True))

    def syncstart(take_s: int) -> Aligner:
        # -s: no diagrams, -q: prints 'FILE,SECONDS', the file whose first seconds are to be cut off
        return Aligner(
            f"syncstart {versions['syncstart']} -t {take_s}",
            lambda pair: [
                str(programs / "syncstart"),
                *("-s", "-q", "-t", str(take_s)),
                *(str(pair.mixture), str(pair.instrumental)),
            ],
            syncstart_lag_s,
            {},
        )

    def offset_finder(*settings: str) -> Aligner:
        # prints where the first file starts within the second, which is the lag
        return Aligner(
            " ".join(["audio-offset-finder", versions["audio-offset-finder"], *settings]),
            lambda pair: [
                str(programs / "audio-offset-finder"),
                *("--find-offset-of", str(pair.mixture), "--within", str(pair.instrumental), "--json"),
                *settings,
            ],
            lambda printed, pair: float(json.loads(printed)["time_offset"]),
            {},
        )

    yield syncstart(SYNCSTART_S)
    yield syncstart(WHOLE_S)
    yield offset_finder()
    yield offset_finder("--sr", "44100", "--resolution", "128")


def syncstart_lag_s(printed: str, pair: Pair) -> float:
    file, seconds = printed.splitlines()[0].rsplit(",", 1)
    return -float(seconds) if file == str(pair.mixture) else float(seconds)


def run_aligner(aligner: Aligner, pair: Pair) -> AlignerRun:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        aligner.command(pair), capture_output=True, text=True, env=environment | aligner.environment
    )
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    try:
        error = abs(aligner.lag_s(done.stdout, pair) - pair.lag_s) * TRUTH_RATE
    except (ValueError, IndexError, KeyError):
        tell(f"{aligner.name}: no lag for {pair.mixture.name}: {done.stderr.strip()[-300:]}")
        error = float("inf")
    return AlignerRun(wall_s, cpu_s, error)


QUESTIONS: dict[str, Callable[[argparse.Namespace, Path], str]] = {
    "scaling": scaling,
    "memory": memory,
    "derivation": derivation,
    "alignment": alignment,
}


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path, metavar="CATALOG", help="folder with library/ and truth/")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for cost.md and temporary files")
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), help="default: all")
    parser.add_argument("--limit", type=int, default=24, help="scaling: files (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="scaling: runs of each (default %(default)s)")
    parser.add_argument("--long-hours", type=float, default=2.0, help="memory: the long file (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=180, help="derivation: of audio (default %(default)s)")
    parser.add_argument("--pairs", type=int, default=6, help="alignment: pairs (default %(default)s)")
    parser.add_argument("--peers-python", type=Path, help="alignment: python of the environment with the peers")
    options = parser.parse_args()
    os.environ.update(ONE_THREAD)
    options.catalog = options.catalog.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    report = []
    for name in options.only:
        load = " ".join(f"{value:.1f}" for value in os.getloadavg())
        with tempfile.TemporaryDirectory(dir=options.out.resolve()) as work:
            answer = QUESTIONS[name](options, Path(work))
        machine = f"{os.cpu_count()} processors, Python {platform.python_version()}, load before {load}"
        report.append(f"## {name}\n\n{answer} {machine[0].upper()}{machine[1:]}.\n")
        print(report[-1], flush=True)
    (options.out / "cost.md").write_text("\n".join(report), encoding="utf-8")


if __name__ == "__main__":
    main()
