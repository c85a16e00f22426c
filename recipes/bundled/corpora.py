"""The corpora that the bundled separator is trained and judged with, made of a folder of loose audio.

    python recipes/bundled/corpora.py DATA --songs STEMS --out CORPUS

DATA has a `manifest.csv` (path, class, song, licence, note) of speech, vocals, effects, music and multitracks.
STEMS is a folder of synthesised songs, `NAME_vocals.*` beside `NAME_instrumental.*`. Besides, sentences of random
or invented words are spoken by flite, espeak-ng and festival. Everything becomes a file of 16 bit at 44.1 kHz; what
is silent is left out of voices. Public domain, CC0 and CC BY only: what has another licence is left out, and said.

Splits are of speakers, songs and families of sounds: nothing of one is in two of them.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soxr

from manifests.audio import Audio, read, write
from manifests.tables import frame_of, write_table

RATE = 44_100
FREE = re.compile(r"CC0|CC BY \d|public domain", re.IGNORECASE)
STEMS = {"speech": "speech", "vocals": "vocals", "effects": "effects", "music_instrumental": "music"}
TEST = ("aeneas__de", "aeneas__es", "vocadito_14", "eif_caesium", "Sugar_Plum", "viper", "loop_mika", "loop_tabla")
VALIDATION = ("fleursdumal_131", "fleursdumal_041", "vocadito_10", "Hungarian", "loop_compus", "guit_em9")
# voices that speak: the program, its voice, and its options
VOICES = [
    *(("flite", voice, ()) for voice in ("kal16", "awb", "rms", "slt")),
    *(("espeak-ng", f"en+{kind}", ("-s", speed)) for kind, speed in (("f2", "150"), ("m3", "165"), ("f5", "140"))),
    *(("festival", voice, ()) for voice in ("ked_diphone", "cmu_us_slt_arctic_hts")),
]
# and those of other languages, which say invented words
FOREIGN = [
    *(
        ("festival", voice, ())
        for voice in (
            *("upc_ca_ona_hts", "czech_dita", "czech_krb", "czech_machac", "czech_ph", "hy_fi_mv_diphone"),
            *("suo_fi_lj_diphone", "lp_diphone", "pc_diphone", "msu_ru_nsh_clunits"),
        )
    ),
    *(
        ("espeak-ng", voice, ("-s", speed))
        for voice, speed in (("fr+f4", "160"), ("de+m2", "150"), ("es+f1", "145"))
    ),
    *(("espeak-ng", voice, ("-s", speed)) for voice, speed in (("it+m5", "165"), ("pl+m7", "155"))),
]
SENTENCES = 40
WEIGHTS = {("speech", True): 0.5, ("vocals", True): 0.2, ("vocals", False): 2.0, ("music", True): 0.3}


def stereo(path: Path) -> Audio:
    """A file as the corpus has it, at most at full scale."""
    audio, rate = read(path)
    if rate != RATE:
        audio = np.ascontiguousarray(soxr.resample(audio.T, rate, RATE).T)
    audio = np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio[:2]
    return audio / max(1.0, float(np.abs(audio).max()))


def heard(audio: Audio, floor_db: float = -35.0) -> Audio:
    """A voice without its silences: half seconds far below its loudest ones are left out, but for a margin."""
    step = RATE // 2
    power = np.add.reduceat(audio.astype(np.float64) ** 2, np.arange(0, audio.shape[1], step), axis=1).sum(axis=0)
    loud = power > np.quantile(power, 0.95) * 10 ** (floor_db / 10)
    loud |= np.concatenate([loud[1:], [False]]) | np.concatenate([[False], loud[:-1]])
    kept = np.repeat(loud, step)[: audio.shape[1]]
    return np.ascontiguousarray(audio[:, kept])


def split_of(name: str, group: str) -> str:
    """By name where a list says so; else a tenth of the groups validates, and a fifth of them tests."""
    for split, names in (("test", TEST), ("validation", VALIDATION)):
        if any(part in name for part in names):
            return split
    if group.startswith(("speech", "vocals", "music", "multitrack")):
        return "train"
    share = int(hashlib.blake2b(group.encode(), digest_size=4).hexdigest(), 16) / 2**32
    return "test" if share < 0.2 else "validation" if share < 0.3 else "train"


def recorded(data: Path) -> Iterator[tuple[str, str, str, str, Audio]]:
    """Name, stem, split, licence and audio of what the folder holds."""
    for row in pd.read_csv(data / "manifest.csv").fillna("").itertuples():
        name = str(row.path)
        stem = STEMS.get(str(row[2]))
        if row[2] == "multitrack" and "master" not in name:
            stem = "vocals" if "vocals" in name else "music"
        if stem is None:
            continue
        if not FREE.search(str(row.licence)) or "SA" in str(row.licence):
            print(f"left out: {name} ({row.licence})")
            continue
        family = re.search(r"family (\w+)", str(row.note))
        group = f"{row[2]}:{row.song or (family[1] if family else Path(name).stem)}"
        audio = stereo(data / name)
        audio = heard(audio) if stem in ("speech", "vocals") else audio
        yield name.rpartition(".")[0], stem, split_of(name, group), str(row.licence), audio


def sung(songs: Path) -> Iterator[tuple[str, str, str, str, Audio]]:
    """The same of synthesised songs: one in ten validates."""
    for number, path in enumerate(sorted(songs.glob("*_instrumental.*"))):
        split = "validation" if number % 10 == 0 else "train"
        yield f"synthetic/{path.stem}", "music", split, "synthesised", stereo(path)
        for voice in songs.glob(f"{path.stem.removesuffix('_instrumental')}_vocals.*"):
            yield f"synthetic/{voice.stem}", "vocals", split, "synthesised", heard(stereo(voice))


def invented(chance: random.Random) -> str:
    """A word that most languages could have."""
    return "".join(chance.choice("bdfgklmnprstv") + chance.choice("aeiou") for _ in range(chance.randint(2, 4)))


def spoken(words: list[str]) -> Iterator[tuple[str, str, str, str, Audio]]:
    """The same of sentences of random words; the last of the English voices validates."""
    for number, (program, voice, options) in enumerate([*VOICES, *FOREIGN]):
        chance = random.Random(number)
        parts = []
        for _ in range(SENTENCES):
            said = chance.sample(words, chance.randint(5, 14))
            text = " ".join(said if number < len(VOICES) else [invented(chance) for _ in said]) + "."
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "spoken.wav"
                if program == "flite":
                    command = ["flite", "-voice", voice, "-t", text, "-o", str(path)]
                elif program == "espeak-ng":
                    command = ["espeak-ng", "-v", voice, *options, "-w", str(path), text]
                else:
                    command = ["text2wave", "-eval", f"(voice_{voice})", "-o", str(path)]
                done = subprocess.run(command, input=text.encode(), capture_output=True)
                if done.returncode or not path.exists() or path.stat().st_size < 2000:
                    print(f"left out: {program} {voice}: {done.stderr.decode(errors='replace').strip()[:80]}")
                    break
                parts.append(stereo(path))
        if parts:
            split = "validation" if number == len(VOICES) - 1 else "train"
            yield f"synthetic/{program}_{voice}", "speech", split, "synthesised", np.concatenate(parts, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--songs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--words", type=Path, default=Path("/usr/share/dict/words"))
    options = parser.parse_args()
    words = [word for word in options.words.read_text().split() if word.isalpha() and word.islower()]
    rows: list[dict[str, Any]] = []
    for source in (recorded(options.data), spoken(words), sung(options.songs)):
        for name, stem, split, licence, audio in source:
            if audio.shape[1] < RATE // 10 or not np.abs(audio).max() > 1e-3:
                print(f"left out: {name} (silent or shorter than 0.1 s)")
                continue
            path = f"audio/{name}.flac"
            audio = audio[:1] if np.array_equal(audio[0], audio[1]) else audio
            write(options.out / path, audio, RATE, 16)
            facts = {"num_frames": audio.shape[1], "sample_rate": RATE, "channels": len(audio), "license": licence}
            # there is more synthesised than recorded audio, and it teaches less
            facts["weight"] = WEIGHTS.get((stem, licence == "synthesised"), 1.0)
            rows.append({"song_id": name, "stem": stem, "root": ".", "path": path, "split": split, **facts})
    common = {"provenance": "recorded", "audit": "unheard"}
    stems = frame_of("stems", [row | common for row in rows])
    write_table(options.out, "stems", stems)
    hours = stems.assign(minutes=stems["num_frames"] / RATE / 60)
    print(hours.pivot_table(index="stem", columns="split", values="minutes", aggfunc="sum").round(1))


if __name__ == "__main__":
    main()
