"""How well the curation finds defects, on triplets with known ones.

    python benchmarks/defects.py CATALOG [CATALOG ...] --out FOLDER [--data DATA] [--jobs 2]

makes a corpus of triplets in FOLDER/corpus (what is there already is not made again), curates it into
FOLDER/curated, prints one Markdown table of precision and recall for each defect, one of duplicates, and lists
every song that was judged wrongly. Targets: precision 0.95, recall 0.9, each.

CATALOG is a rendered one: `library/`, `truth/releases.csv` (path, song_id, composition_id, kind, has_vocals). Its
releases are paired here by the truth, whatever the evidence says of them, so that the inspection alone decides:

clean           a mixture and its instrumental
voices          a mixture and an instrumental that keeps voices: kinds `tv_track` and `mislabelled_instrumental`;
                with --data, real multitracks (`multitrack/<song>/{vocals_lead,vocals_backing,drums,other}.*`) whose
                instrumental keeps the backing vocals
no singing      an instrumental released under both labels: `instrumental_2` where there is one, or the
                instrumental again at another level, equaliser and codec (ffmpeg)
misaligned      the clean triplet, its instrumental shifted by 2, 3, 5 or 8 samples before it is subtracted

A mislabelled instrumental is the mixture itself: its vocals are noise, so `no singing` is true of it too.
"""

import argparse
import csv
import json
import os
import subprocess
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # after the number of threads

from builders.curate import CurateBuilder
from builders.pairing import PairItem, compare_pair
from builders.recipe import CurateRecipe
from builders.scan import FoundFile
from builders.triplet import TripletItem, write_triplet
from curation.chromaprint import fingerprint, to_pcm
from curation.leaks import DUPLICATE_OVERLAP, find_duplicates
from manifests.audio import content_id, quantise, read, write
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.tables import frame_of, write_table

STEMS = ("mixture", "instrumental", "vocals")
SHIFTS = (2, 3, 5, 8)
SAME_AUDIO = {"mix", "mix_remaster", "duplicate", "radio_edit", "mislabelled_instrumental"}

# What each defect is called in a song's reasons, and which cases have it.
DEFECTS = {
    "voices in the accompaniment": (
        ("voices in the accompaniment", "not in the mixture"),
        {"voices", "mislabelled", "backing"},
    ),
    "no singing": (("no singing",), {"nosinging", "mislabelled"}),
    "accompaniment in the vocals": (("accompaniment in the vocals",), {"misaligned"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogs", type=Path, nargs="+", metavar="CATALOG")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only-make", action="store_true", help="make the corpus, and judge nothing")
    arguments = parser.parse_args()
    corpus = arguments.out / "corpus"
    make_corpus(arguments.catalogs, arguments.data, corpus, arguments.jobs)
    if arguments.only_make:
        return
    recipe = CurateRecipe(min_grade="D", duplicates="keep", clip_s=None, shares={"train": 1.0})
    curated = CurateBuilder(arguments.out / "curated", recipe, jobs=arguments.jobs).build(corpus)
    judge_defects(curated)
    judge_duplicates(arguments.catalogs, arguments.jobs)


# ---- triplets


def make_corpus(catalogs: list[Path], data: Path | None, corpus: Path, jobs: int) -> None:
    tasks = [task for catalog in catalogs for task in catalog_tasks(catalog, corpus)]
    if data is not None:
        tasks += [(make_backing, song, corpus, f"{song.name}_backing") for song in multitracks(data)]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for number, name in enumerate(pool.map(run_task, tasks), 1):
            print(f"{number}/{len(tasks)} {name}", flush=True)
    rows = []
    for folder in sorted((corpus / "audio").iterdir()):
        for stem in STEMS:
            path = folder / f"{stem}.flac"
            audio, rate = read(path)
            rows.append(
                {
                    "song_id": folder.name,
                    "stem": stem,
                    "root": CORPUS_ROOT,
                    "path": path.relative_to(corpus).as_posix(),
                    "num_frames": audio.shape[1],
                    "sample_rate": rate,
                    "channels": len(audio),
                    "artist": folder.name,
                    "provenance": "derived",
                    "audit": "unheard",
                    "content_id": content_id(path),
                }
            )
    write_table(corpus, "stems", frame_of("stems", rows))


def catalog_tasks(catalog: Path, corpus: Path) -> list[tuple]:
    songs: dict[str, dict[str, Path]] = {}
    with (catalog / "truth/releases.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["song_id"] == row["composition_id"]:
                songs.setdefault(row["song_id"], {}).setdefault(row["kind"], catalog / row["path"])
    tasks: list[tuple] = []
    for number, (song_id, releases) in enumerate(sorted(songs.items())):
        if "mix" not in releases:
            continue
        name = f"{catalog.name}-{song_id}"
        kinds = {"tv_track": "voices", "mislabelled_instrumental": "mislabelled", "instrumental": "clean"}
        for kind, case in kinds.items():
            if kind in releases:
                tasks.append((make_pair, (releases["mix"], releases[kind]), corpus, f"{name}_{case}"))
        if "instrumental" in releases:
            first, second = releases["instrumental"], releases.get("instrumental_2")
            tasks.append((make_same, (first, second), corpus, f"{name}_nosinging"))
            shift = SHIFTS[number % len(SHIFTS)]
            tasks.append((make_misaligned, (f"{name}_clean", shift), corpus, f"{name}_misaligned"))
    return sorted(tasks, key=lambda task: task[0] is make_misaligned)


def multitracks(data: Path) -> list[Path]:
    return [song for song in sorted((data / "multitrack").iterdir()) if list(song.glob("vocals_backing.*"))]


def run_task(task: tuple) -> str:
    make, source, corpus, name = task
    if not all((corpus / "audio" / name / f"{stem}.flac").exists() for stem in STEMS):
        make(source, corpus, name)
    return name


def make_pair(source: tuple[Path, Path], corpus: Path, name: str) -> None:
    files = [FoundFile(str(path.parent), path.name, content_id(path)) for path in source]
    value = compare_pair(PairItem(files[0], files[1], True), min_segment_s=6.0).value
    if "segments" not in value:
        raise SystemExit(f"{name}: does not align")
    if value["mixture_id"] != files[0].content_id:
        files.reverse()
    item = TripletItem(
        files[0], files[1], str(corpus), name, name, value["segments"], value["drift_ppm"], value["polarity"]
    )
    write_triplet(item, "transfer", None, "flac", 16)


def make_same(source: tuple[Path, Path | None], corpus: Path, name: str) -> None:
    first, second = source
    if second is None:
        second = corpus.parent / "releases" / f"{name}.mp3"
        second.parent.mkdir(parents=True, exist_ok=True)
        sound = "volume=-1.5dB,highshelf=f=6000:g=1"
        command = ["ffmpeg", "-v", "error", "-y", "-i", first, "-af", sound, "-b:a", "192k", second]
        subprocess.run(command, check=True)
    make_pair((first, second), corpus, name)


def make_misaligned(source: tuple[str, int], corpus: Path, name: str) -> None:
    clean, shift = source
    (mixture, rate), (instrumental, _) = (
        read(corpus / "audio" / clean / f"{stem}.flac") for stem in ("mixture", "instrumental")
    )
    shifted = np.zeros_like(instrumental)
    shifted[:, shift:] = instrumental[:, :-shift]
    write_stems(corpus, name, shifted, mixture - shifted, rate)


def make_backing(source: Path, corpus: Path, name: str) -> None:
    parts = {}
    for part in ("vocals_lead", "vocals_backing", "drums", "other"):
        parts[part], rate = read(next(source.glob(f"{part}.*")))
    length = min(audio.shape[1] for audio in parts.values())
    lead = parts.pop("vocals_lead")[:, :length]
    write_stems(corpus, name, np.sum([audio[:, :length] for audio in parts.values()], axis=0), lead, rate)


def write_stems(corpus: Path, name: str, instrumental: np.ndarray, vocals: np.ndarray, rate: int) -> None:
    gain = 0.5 / max(float(np.abs(audio).max()) for audio in (instrumental, vocals, instrumental + vocals))
    instrumental, vocals = (quantise(audio * np.float32(min(gain, 1.0)), 16) for audio in (instrumental, vocals))
    stems = {"vocals": vocals, "instrumental": instrumental, "mixture": instrumental + vocals}
    for stem, audio in stems.items():
        write(corpus / "audio" / name / f"{stem}.flac", audio, rate, 16)


# ---- verdicts


def judge_defects(curated: Corpus) -> None:
    songs = curated.stems.drop_duplicates("song_id").set_index("song_id")
    cases = {song_id: song_id.rsplit("_", 1)[1] for song_id in songs.index}
    print(f"\ncases: {dict(Counter(cases.values()))}\n")
    print("| defect | songs | found | missed | wrongly found | precision | recall |\n|---|--:|--:|--:|--:|--:|--:|")
    wrong = []
    for defect, (words, having) in DEFECTS.items():
        counts = Counter()
        for song_id, case in cases.items():
            reasons = json.loads(songs.loc[song_id, "reasons"] or "[]")
            is_found = any(reason.startswith("D") and word in reason for reason in reasons for word in words)
            counts[case in having, is_found] += 1
            if (case in having) != is_found:
                wrong.append(f"{song_id}: {defect} {'missed' if case in having else 'wrongly found'}: {reasons}")
        right, missed, false = counts[True, True], counts[True, False], counts[False, True]
        print(
            f"| {defect} | {right + missed} | {right} | {missed} | {false} | {ratio(right, right + false)} | "
            f"{ratio(right, right + missed)} |"
        )
    clean = songs[[cases[song_id] == "clean" for song_id in songs.index]]
    print(f"\ngrades of the clean songs: {clean['grade'].value_counts().sort_index().to_dict()}\n")
    print("\n".join(wrong))


def judge_duplicates(catalogs: list[Path], jobs: int) -> None:
    found = wanted = right = 0
    for catalog in catalogs:
        with (catalog / "truth/releases.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["has_vocals"] == "1"]
        # another mix of the same recording is neither the same audio nor another
        rows = [row for row in rows if row["kind"] != "mix_master_real"]
        takes = {row["path"]: row["song_id"] if row["kind"] in SAME_AUDIO else row["path"] for row in rows}
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            prints = dict(zip(takes, pool.map(release_print, [catalog / path for path in takes]), strict=True))
        pairs = find_duplicates({(path, "mixture"): items for path, items in prints.items()})
        pairs = pairs[pairs["overlap_fraction"] >= DUPLICATE_OVERLAP]
        is_same = [takes[a] == takes[b] for a, b in zip(pairs["song_a"], pairs["song_b"], strict=True)]
        groups = Counter(takes.values())
        wanted += sum(count * (count - 1) // 2 for count in groups.values())
        found += len(pairs)
        right += sum(is_same)
    print("\n| duplicates | pairs | found | wrongly found | precision | recall |\n|---|--:|--:|--:|--:|--:|")
    print(
        f"| releases of one take | {wanted} | {right} | {found - right} | {ratio(right, found)} | "
        f"{ratio(right, wanted)} |"
    )


def release_print(path: Path) -> np.ndarray:
    audio, rate = read(path)
    return fingerprint(to_pcm(audio, rate))


def ratio(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "–"


if __name__ == "__main__":
    main()
