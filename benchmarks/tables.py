"""What curation costs on the table of a million songs: wall time and peak memory of every operation on tables.

    python benchmarks/tables.py --out FOLDER [--songs 1000000] [--prints 10000] [--only OPERATION ...]

makes a table of synthetic songs in FOLDER (kept, and used again when it is there; no audio): a few artists with
hundreds of songs and many with few, features, duets, compilations and songs without an artist, tags as people
write them, lengths. Every operation runs in a fresh process: `time` is that of the call, `peak` the largest
resident memory of the process from its start on, with Python, the libraries and the input, which are `before`.
Prints Markdown. Target: at most 60 s and 4 GB each.

What an operation works on is in its row. Fingerprints are random items, each print as long as 3 minutes have, with
planted copies: what is measured is the join of the tables, which grows with the number of items, and the
comparison of the pairs that it finds. To match a million songs, give `sample_one_in`, or several machines parts.
"""

# The parent stays small: a process starts with the peak memory of the one that starts it.
from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the packages live at the root, installed or not

MAX_SECONDS, MAX_GB = 60.0, 4.0
STEMS = ("mixture", "vocals", "instrumental")
TAGS = """rock Rock ROCK (17) Rock;Pop Pop/Rock Hard_Rock Classic_Rock Rock_&_Roll Alternative_Rock Indie_Rock Prog
    pop Pop Pop_Music (13) J-Pop K-Pop Synthpop Schlager Variété_française Dance_Pop Teen_Pop
    Hip-Hop Hip_Hop Rap hip-hop_&_rap Hip-Hop/Rap Trap Gangsta_Rap Deutschrap ヒップホップ
    Electronic Electronic/House Deep_House Techno Trance Drum_&_Bass EDM Electronica Dubstep IDM
    Classical Klassik Música_Clásica Opera Baroque Chamber_Music Orchestral クラシック
    Jazz Latin_Jazz Bebop Swing Vocal_Jazz ジャズ Country Country_&_Folk Bluegrass Americana
    Folk Singer/Songwriter Celtic Traditional R&B R&B/Soul Contemporary_R&B Soul Funk Disco Motown
    Metal Death_Metal Black_Metal Heavy_Metal Metalcore Blues Blues_Rock Delta_Blues Reggae Dub Ska Dancehall
    Latin Salsa Reggaeton Bossa_Nova Tango Soundtrack Filmmusik Musical Anime Game World World_Music Afrobeat
    Gospel Christian Worship Children's_Music Kinderlieder Spoken_Word Comedy Audiobook Ambient New_Age Drone
    Experimental Noise Punk Punk_Rock Post-Punk Other Unknown Christmas Zorblax"""
SYLLABLES = [c + v for c in (*"bdfghjklmnprstvwz", "ch", "sh", "tr") for v in "aeiou"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--songs", type=int, default=1_000_000)
    parser.add_argument("--prints", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=list(OPERATIONS), help="a part of the operations")
    parser.add_argument("--run", choices=["make", *OPERATIONS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run, options.out, options.songs, options.prints)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.out / "songs.parquet").exists():
        in_fresh_process("make", options)
    print("| operation | on | time, s | before, GB | peak, GB |")
    print("|---|---|---|---|---|")
    slow = []
    for name in options.only or OPERATIONS:
        found = in_fresh_process(name, options)
        print(
            f"| `{name}` | {found['on']} | {found['seconds']:.1f} | {found['before_gb']:.1f} | "
            f"{found['peak_gb']:.1f} |",
            flush=True,
        )
        if found["seconds"] > MAX_SECONDS or found["peak_gb"] > MAX_GB:
            slow.append(name)
    if slow:
        raise SystemExit(f"beyond {MAX_SECONDS:g} s or {MAX_GB:g} GB: {', '.join(slow)}")


def in_fresh_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--out", str(options.out), "--songs", str(options.songs)]
    command += ["--prints", str(options.prints), "--run", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(name: str, folder: Path, songs: int, prints: int) -> None:
    if name == "make":
        make_corpus(folder, songs)
        print("{}")
        return
    prepare = OPERATIONS[name]
    call = prepare(folder, prints)
    before_gb, start = peak_gb(), time.perf_counter()
    on = call()
    seconds = time.perf_counter() - start
    print(json.dumps({"on": on, "seconds": seconds, "before_gb": before_gb, "peak_gb": peak_gb()}))


def peak_gb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024)


def make_corpus(folder: Path, count: int) -> None:
    """The table of songs; what else an operation needs is made of it."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    artists = artist_names(rng, max(10, count // 6))
    frame = pd.DataFrame(
        {
            "song_id": text(f"{number:016x}" for number in rng.integers(0, 2**63, count).tolist()),
            "artist": text(credits(rng, artists, count)),
            "album_artist": text(None for _ in range(count)),
            "genre": text(tags(rng, count)),
            "split": text(None for _ in range(count)),
            "license": text(["CC-BY-4.0", "CC0-1.0"][licence] for licence in rng.integers(0, 2, count)),
            "grade": text("ABCD"[grade] for grade in rng.choice(4, count, p=[0.6, 0.25, 0.1, 0.05])),
            "num_frames": (44_100 * np.clip(rng.lognormal(5.4, 0.35, count), 30, 1200)).astype(np.int64),
            "sample_rate": np.full(count, 44_100),
        }
    )
    frame["seconds"] = frame["num_frames"] / frame["sample_rate"]
    frame.sort_values("song_id", ignore_index=True).to_parquet(folder / "songs.parquet")


def text(values: Any) -> Any:
    import pandas as pd

    return pd.array(list(values), dtype=pd.StringDtype())


def artist_names(rng: np.random.Generator, count: int) -> list[str]:
    """Different names of two to four syllables a word, one to three words, some with *The*."""
    names: dict[str, None] = {}
    while len(names) < count:
        words = [
            "".join(SYLLABLES[at] for at in rng.integers(0, len(SYLLABLES), rng.integers(2, 5))).title()
            for _ in range(rng.integers(1, 4))
        ]
        names[("The " if rng.random() < 0.1 else "") + " ".join(words)] = None
    return list(names)


def credits(rng: np.random.Generator, artists: Sequence[str], count: int) -> list[str | None]:
    """Who the songs are by: 8 % with a guest, 2 % of two artists, 2 % compilations, 2 % nobody."""
    import numpy as np

    # A few artists have hundreds of songs, most have a few. Guests are near in rank: of the same scene.
    main = (len(artists) * rng.random(count) ** 1.6).astype(np.int64)
    guest = np.clip(main + rng.normal(0, 300, count), 0, len(artists) - 1).astype(np.int64)
    kind = rng.choice(5, count, p=[0.86, 0.08, 0.02, 0.02, 0.02])
    forms = ("{0}", "{0} feat. {1}", "{0} & {1}", "Various Artists")
    return [
        None if form == 4 else forms[form].format(artists[one], artists[other])
        for one, other, form in zip(main.tolist(), guest.tolist(), kind.tolist(), strict=True)
    ]


def tags(rng: np.random.Generator, count: int) -> list[str | None]:
    words = [tag.replace("_", " ") for tag in TAGS.split()]
    words += [f"{one}; {other}" for one in words for other in words[::7]]
    at = (len(words) * rng.random(count) ** 3).astype(int)
    return [None if none else words[tag] for tag, none in zip(at.tolist(), rng.random(count) < 0.05, strict=True)]


def songs_table(folder: Path, *columns: str) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(folder / "songs.parquet", columns=list(columns) or None)


def genred(folder: Path, *columns: str) -> pd.DataFrame:
    """Songs with genres of the vocabulary."""
    from curation.genres import normalise_genres

    songs = songs_table(folder, "song_id", "genre", *columns)
    return songs.assign(genre=normalise_genres(songs["genre"]))


def stems_table(folder: Path) -> pd.DataFrame:
    """The stems table: three rows a song."""
    import numpy as np
    import pandas as pd

    from manifests.schemas import columns_of, dtype_of

    songs = songs_table(folder)
    rows = pd.Series(np.arange(len(songs)).repeat(len(STEMS)))
    rng = np.random.default_rng(1)
    values = {key: songs[key].take(rows).array for key in songs if key not in ("album_artist", "seconds")}
    stem = pd.Series(STEMS, dtype=pd.StringDtype()).take(np.tile(np.arange(len(STEMS)), len(songs))).array
    values |= {
        "stem": stem,
        "path": (pd.Series(values["song_id"]) + "/" + pd.Series(stem) + ".flac").array,
        "root": ".",
        "channels": 2,
        "provenance": "derived",
        "audit": "unheard",
        "rms": rng.lognormal(-3, 1, len(rows)),
        "loudness_lufs": rng.normal(-16, 5, len(rows)),
        "active_fraction": rng.beta(5, 1, len(rows)),
    }
    columns = {
        key: pd.Series(values.get(key, None), index=range(len(rows)), dtype=dtype_of(column))
        for key, column in columns_of("stems", []).items()
    }
    return pd.DataFrame(columns)


def fingerprints(count: int) -> dict[tuple[str, str], np.ndarray]:
    """Random prints of 3 minutes, of which one in 50 is a copy with errors, at another place."""
    import numpy as np

    rng = np.random.default_rng(2)
    prints = [rng.integers(0, 2**24, 1450, dtype=np.uint32) for _ in range(count)]
    for copy in range(0, count - 1, 50):
        wrong = (rng.random(1350) < 0.3).astype(np.uint32) << rng.integers(0, 24, 1350, dtype=np.uint32)
        prints[copy][100:] = prints[copy + 1][:-100] ^ wrong
    return {(f"{at:06d}", "mixture"): items for at, items in enumerate(prints)}


def write_stems(folder: Path, _: int) -> Callable[[], str]:
    from manifests.tables import write_table

    stems = stems_table(folder)
    return lambda: f"{len(stems):,} stems: {write_table(folder, 'stems', stems).stat().st_size / 1e6:.0f} MB"


def read_stems(folder: Path, _: int) -> Callable[[], str]:
    from manifests.tables import read_table

    return lambda: f"{len(read_table(folder, 'stems')):,} stems"


def songs_of(folder: Path, _: int) -> Callable[[], str]:
    from curation.songs import songs_of

    stems = stems_table(folder)
    return lambda: f"{len(stems):,} stems of {len(songs_of(stems)):,} songs"


def normalise_genres(folder: Path, _: int) -> Callable[[], str]:
    from curation.genres import normalise_genres

    tags = songs_table(folder, "genre")["genre"]
    return lambda: f"{len(tags):,} tags, {tags.nunique():,} different: {normalise_genres(tags).nunique()} genres"


def artist_groups(folder: Path, _: int) -> Callable[[], str]:
    from curation.artists import artist_groups

    songs = songs_table(folder, "song_id", "artist", "album_artist")
    different = songs["artist"].nunique()

    def call() -> str:
        groups = artist_groups(songs)
        largest = groups.value_counts().iloc[0] / len(groups)
        return f"{different:,} different credits: {groups.nunique():,} groups, the largest {largest:.0%} of all"

    return call


def assign_splits(folder: Path, stratify: bool) -> Callable[[], str]:
    from curation.artists import artist_groups
    from curation.splits import assign_splits

    songs = genred(folder, "artist", "seconds", "split")
    groups = artist_groups(songs)
    shares = {"train": 0.9, "validation": 0.05, "test": 0.05}

    def call() -> str:
        splits = assign_splits(songs, groups, shares, seed=0, stratify=stratify)
        counts = splits.value_counts(normalize=True).sort_index()
        return ", ".join(f"{split} {share:.1%}" for split, share in counts.items())

    return call


def choose_songs(folder: Path, _: int) -> Callable[[], str]:
    from curation.balance import choose_songs

    songs = genred(folder, "seconds")
    return lambda: f"uniform: {len(choose_songs(songs, 'uniform', seed=0).kept):,} of {len(songs):,} songs kept"


def song_weights(folder: Path, _: int) -> Callable[[], str]:
    from curation.balance import song_weights

    songs = genred(folder, "seconds")
    return lambda: f"{len(song_weights(songs, 'uniform')):,} songs"


def apply_gates(folder: Path, _: int) -> Callable[[], str]:
    from curation.gates import apply_gates, parse_gates

    texts = ["vocals.rms >= 0.01", "*.rms >= 0.003", "mixture.loudness_lufs >= -24", "*.active_fraction >= 0.5"]
    stems, gates = stems_table(folder), parse_gates(texts)
    return lambda: f"{len(gates)} gates, {apply_gates(stems, gates).kept.mean():.0%} of {len(stems):,} stems pass"


def cut_clips(folder: Path, per_song: Any) -> Callable[[], str]:
    from curation.clips import cut_clips

    songs = songs_table(folder)
    options = {"length_s": 11.88, "margin_s": 20.0, "per_song": per_song}
    return lambda: f"{len(songs):,} songs: {len(cut_clips(songs, **options)):,} clips"


def balanced_test_set(folder: Path, _: int) -> Callable[[], str]:
    from curation.clips import balanced_test_set, cut_clips

    clips = cut_clips(
        genred(folder, "num_frames", "sample_rate", "split", "artist"), length_s=11.88, per_song="one"
    )
    return lambda: f"{len(balanced_test_set(clips)):,} of {len(clips):,} clips"


def find_duplicates(_: Path, count: int) -> Callable[[], str]:
    from curation.leaks import find_duplicates

    prints = fingerprints(count)
    return lambda: f"{count:,} fingerprints of 3 min: {len(find_duplicates(prints)):,} pairs"


def find_leaks(_: Path, count: int) -> Callable[[], str]:
    from curation.leaks import find_leaks

    prints = fingerprints(count)
    splits = {song: "test" if at % 10 == 0 else "train" for at, (song, _) in enumerate(prints)}
    external = {song: items for (song, _), items in list(prints.items())[:100]}
    return lambda: f"{count:,} fingerprints, 100 external ones: {len(find_leaks(prints, splits, external)):,} pairs"


OPERATIONS: dict[str, Callable[[Path, int], Callable[[], str]]] = {
    "write_table": write_stems,
    "read_table": read_stems,
    "songs_of": songs_of,
    "normalise_genres": normalise_genres,
    "artist_groups": artist_groups,
    "assign_splits": lambda folder, _: assign_splits(folder, stratify=True),
    "assign_splits(stratify=False)": lambda folder, _: assign_splits(folder, stratify=False),
    "choose_songs": choose_songs,
    "song_weights": song_weights,
    "apply_gates": apply_gates,
    "cut_clips(per_song='one')": lambda folder, _: cut_clips(folder, "one"),
    "cut_clips(per_song='all')": lambda folder, _: cut_clips(folder, "all"),
    "balanced_test_set": balanced_test_set,
    "find_duplicates": find_duplicates,
    "find_leaks": find_leaks,
}


if __name__ == "__main__":
    main()
