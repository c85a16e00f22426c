# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a catalogue to a corpus
#
# Many songs are released twice: as a full mix and as an instrumental. Their difference is the voice, if the two are
# aligned well enough. This notebook takes a small folder of music all the way: it finds the pairs, looks at how
# they align, hears what comes out, grades it, and ends with a corpus that a separator can be trained with, and with
# a list of everything that was left out and why.
#
# The music is made in code, so that we know what is true and can measure how well each step does. To use a folder
# of your own, set `MUSIC` below; what needs the truth is then left out. It takes about a minute, most of it for
# making the music and taking the voices out of it.

# %%
import json
import logging
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import librosa
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Audio, Markdown, display

from builders import CardRecipe, CatalogBuilder, CatalogRecipe, CurateBuilder, CurateRecipe, check_build, write_card
from builders.demo import write_demo_catalog
from builders.demo.performance import perform
from builders.demo.releases import Release, write_release
from builders.demo.score import compose
from builders.demo.sheets import SHEETS
from curation import align, render
from manifests import read

MUSIC = None  # or Path("~/Music").expanduser(): a folder of wav, flac, mp3, ogg, opus
WORK = Path(tempfile.mkdtemp(prefix="stemloom-"))  # what is built; name a folder of your own to keep it
JOBS = 2

# %% tags=["hide-input"]
# What the library has to say comes between the outputs; pictures and players are alike in all notebooks.
logging.basicConfig(stream=sys.stdout, format="note: %(message)s")
warnings.filterwarnings("ignore", message="IProgress not found")  # a progress bar that would like ipywidgets
pd.set_option("display.max_colwidth", 80)
COLOURS = {"mixture": "#7b7d84", "vocals": "#c2571a", "instrumental": "#1f7f92"}
GRADES = {"A": "#2f7d5b", "B": "#2c5f8f", "C": "#a8761c", "D": "#b04a2f"}
plt.rcParams.update({"figure.dpi": 90, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
plt.rcParams.update({"axes.titlelocation": "left", "legend.frameon": False, "figure.constrained_layout.use": True})


def draw_spectrogram(ax, audio, rate, top_db, name):
    """Mel spectrogram, 70 dB deep from `top_db` down."""
    power = librosa.feature.melspectrogram(y=audio.mean(axis=0), sr=rate, n_fft=2048, n_mels=128, fmax=16_000)
    levels = librosa.power_to_db(power, top_db=None)
    image = librosa.display.specshow(
        levels,
        sr=rate,
        x_axis="time",
        y_axis="mel",
        fmax=16_000,
        cmap="magma",
        vmin=top_db - 70,
        vmax=top_db,
        ax=ax,
    )
    ax.set(title=name, xlabel="", ylabel="", yticks=[128, 512, 2048, 8192])
    return levels.max(), image


def play(rate, **sounds):
    """A player for each sound, all at their own level."""
    for name, audio in sounds.items():
        colour = COLOURS.get(name, "#22242a")
        display(HTML(f"<b style='color: {colour}'>{name.replace('_', ' ')}</b>"))
        display(Audio(np.clip(audio, -1, 1), rate=rate, normalize=False))


# %% [markdown]
# ## The music
#
# `write_demo_catalog` composes and sings songs and releases them as catalogues do: with other lead-ins, gains,
# clocks, codecs and labels, two without tags, and with decoys (a cover, duplicates, a file that is called an
# instrumental and is none, a broken one). We add two traps of our own:
#
# - a *TV track*: an "instrumental" on which the backing vocals were left;
# - a *radio edit*: an instrumental from which seven seconds were cut.


# %%
def release(library, sheet, suffix, audio):
    """Write a version of a song, with tags."""
    title = sheet.title + suffix
    tags = {"title": title, "artist": sheet.artist, "album": sheet.album, "genre": sheet.genre}
    path = f"{sheet.artist}/{sheet.album}/{title}.flac"
    plain = {
        "codec": "flac",
        "sample_rate": 44_100,
        "tail_frames": 0,
        "drift_ppm": 0.0,
        "polarity": 1,
        "gain_db": 0.0,
    }
    write_release(library, Release(path, tags, lead_frames=4_000 + 100 * len(suffix), **plain), audio)


truth = None
if MUSIC is None:
    truth = write_demo_catalog(WORK / "demo", seed=31, songs=8, seconds=20)
    MUSIC = truth.library
    rng = np.random.default_rng(7)

    tv = SHEETS[8]
    score = compose(rng, tv, seconds=20)
    band, lead = perform(rng, score, tv)
    _, backing = perform(rng, score, replace(tv, voice=SHEETS[1].voice))  # another singer, the same tune
    release(MUSIC, tv, "", band + lead + 0.7 * backing)
    release(MUSIC, tv, " (Instrumental)", band + 0.7 * backing)

    edited = SHEETS[10]
    band, lead = perform(rng, compose(rng, edited, seconds=44), edited)
    cut = slice(18 * 44_100, 25 * 44_100)
    release(MUSIC, edited, "", band + lead)
    release(MUSIC, edited, " (Instrumental)", np.delete(band, cut, axis=1))

print(f"{sum(path.is_file() for path in MUSIC.rglob('*'))} files in {MUSIC}")

# %% [markdown]
# ## One call
#
# This is `stemloom build catalog MUSIC --out corpus` in Python. It is resumable: stopped at any moment, the same
# call goes on. The paper's filter leaves out pairs whose lengths differ by more than two seconds; we switch it off
# to let the radio edit through.

# %%
recipe = CatalogRecipe(max_duration_difference_s=None)
corpus = CatalogBuilder(WORK / "corpus", recipe, jobs=JOBS).build(MUSIC)

hours = corpus.stems.query("stem == 'mixture'").eval("num_frames / sample_rate").sum() / 3600
print(f"{len(corpus.tracks)} tracks, {len(corpus.songs())} triplets, {hours * 60:.1f} minutes")

# %% [markdown]
# Everything that was found is in tables. `tracks` lists the files; `version` is what title and album call the file.
# Labels help to propose pairs, but they never decide: two of these files have no tags at all.

# %%
corpus.tracks[["path", "version", "codec", "sample_rate", "loudness_lufs"]].sort_values("path").head(10).round(1)

# %% [markdown]
# ## Pairs
#
# Candidates come from tags and from fingerprints that agree. Each is then aligned, and what the two signals are to
# each other decides: the *mixture* must hold all of the instrumental and something of its own besides. `reason`
# says why a candidate was refused.

# %%
columns = ["mixture_path", "instrumental_path", "status", "bit_error_rate", "residual_db", "reason"]
pairs = corpus.pairs.sort_values(["status", "residual_db"])
pairs[columns].style.format(precision=2, na_rep="").hide(axis="index").set_properties(**{"text-align": "left"})

# %% [markdown]
# `residual_db` is what the instrumental cannot explain where nobody sings. Lossless pairs of one master are at -45
# dB and below; codecs raise it, to -20 dB or so.
#
# ## Alignment
#
# An instrumental begins at another time and, when the two were transferred on different machines, runs on another
# clock:
#
# `position in the instrumental = lag_frames + t * (1 + drift_ppm * 1e-6)`
#
# On the left is how far each pair has slipped since its beginning. A drift of 30 ppm is inaudible in itself, yet it
# is 26 frames after 20 seconds. On the right is the distance from the truth. Look at its axis: thousandths of a
# frame.

# %%
chosen = corpus.pairs.query("status == 'chosen'")
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6))
for number, pair in enumerate(chosen.itertuples()):
    start, end = json.loads(pair.segments)[0][0], json.loads(pair.segments)[-1][1]
    rate = corpus.song(pair.song_id)["mixture"]["sample_rate"]
    frames = np.linspace(start, end, 9)
    colour = plt.cm.cividis(number / len(chosen))
    left.plot(frames / rate, pair.drift_ppm * 1e-6 * frames, color=colour, lw=2, alpha=0.8)
    known = None if truth is None else truth.pairs.query("mixture_path == @pair.mixture_path")
    if known is not None and len(known):
        slip = (pair.drift_ppm - known["drift_ppm"].item()) * 1e-6 * frames
        left.plot(frames / rate, known["drift_ppm"].item() * 1e-6 * frames, ".", color="#22242a", ms=4)
        right.plot(frames / rate, pair.lag_frames - known["lag_frames"].item() + slip, color=colour, lw=2)
left.set(title="slip since the start (dots: truth)", xlabel="seconds", ylabel="frames")
right.set(title="error of the lag", xlabel="seconds", ylabel="frames", ylim=(-0.01, 0.01))
right.axhline(0, color="#cdc8bc", lw=1, zorder=0)
if truth is None:
    right.remove()
plt.show()

# %% [markdown]
# An edit has a lag for each common stretch. `segments` holds `[start_frame, end_frame, lag_frames]`; the cut shows
# as a step. What has no counterpart in the instrumental, between the stretches, is not part of the triplet: the
# voice cannot be taken out of it.

# %%
most = max(chosen.itertuples(), key=lambda pair: len(json.loads(pair.segments)))
rate = corpus.song(most.song_id)["mixture"]["sample_rate"]
fig, ax = plt.subplots(figsize=(11, 2.2))
for start, end, lag in json.loads(most.segments):
    ax.plot(
        [start / rate, end / rate], [lag / rate] * 2, color=COLOURS["instrumental"], lw=6, solid_capstyle="butt"
    )
    ax.annotate(f"{lag:,.3f} frames", (start / rate, lag / rate), (4, 8), textcoords="offset points")
ax.set(title=most.mixture_path, xlabel="seconds of the mixture", ylabel="lag in seconds")
ax.margins(y=0.4)
plt.show()

# %% [markdown]
# ## What alignment is worth
#
# Take the pair with the largest drift, and subtract twice: once as one would by hand, with the lag rounded to a
# whole frame and no thought of clocks, and once as stemloom aligned it. Both are the plain difference of waveforms.
# `align` and `render` are pure functions on arrays; the builder uses the same ones.

# %%
pair = chosen.loc[chosen["drift_ppm"].abs().idxmax()]
mixture, rate = read(MUSIC / pair["mixture_path"])
other, other_rate = read(MUSIC / pair["instrumental_path"])
alignment = align(mixture, other, rate, other_rate)
segment = alignment.longest
part = slice(segment.start_frame, segment.end_frame)


def best_gain(whole, part):
    """Least squares where both sound: close enough for a picture."""
    return np.vdot(whole, part) / np.vdot(part, part)


(aligned,) = render(other, other_rate, rate, replace(alignment, segments=(segment,)))
rounded = replace(segment, lag_frames=float(round(segment.lag_frames)))
(by_hand,) = render(other, other_rate, rate, replace(alignment, segments=(rounded,), drift_ppm=0.0))
differences = {
    "by hand: no drift": mixture[:, part] - best_gain(mixture[:, part], by_hand) * by_hand,
    "aligned": mixture[:, part] - best_gain(mixture[:, part], aligned) * aligned,
    "vocals of the corpus": corpus.load((pair["song_id"], "vocals")),
}
fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True)
top = 10 * np.log10(librosa.feature.melspectrogram(y=mixture.mean(axis=0), sr=rate).max())
for ax, (name, audio) in zip(axes, differences.items(), strict=True):
    _, image = draw_spectrogram(ax, audio, rate, top, name)
axes[0].set_ylabel("Hz")
fig.colorbar(image, ax=axes, format="%+.0f dB", pad=0.01)
plt.show()
late = slice(-6 * rate, None)
play(rate, **{name.replace(" ", "_").replace(":", ","): audio[:, late] for name, audio in differences.items()})

# %% [markdown]
# By hand, all of the band is still there, and the further into the song the more. Aligned, a plain difference
# leaves what the codecs did to the two files. The corpus' vocals are better again: the *transfer* method estimates
# an equaliser, a stereo matrix and a gain over time between the two releases first, and masks what is not above its
# own error.
#
# ## A triplet
#
# Every song of the corpus is a mixture, an instrumental and vocals that sum to the last bit.

# %%
song_id = chosen.loc[chosen["residual_db"].idxmin(), "song_id"]
stems = {name: corpus.load((song_id, name)) for name in ("mixture", "instrumental", "vocals")}
rate = corpus.song(song_id)["mixture"]["sample_rate"]
assert np.array_equal(stems["mixture"], stems["instrumental"] + stems["vocals"])

fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True)
top = 10 * np.log10(librosa.feature.melspectrogram(y=stems["mixture"].mean(axis=0), sr=rate).max())
for ax, (name, audio) in zip(axes, stems.items(), strict=True):
    _, image = draw_spectrogram(ax, audio, rate, top, name)
    ax.title.set_color(COLOURS[name])
    ax.title.set_weight("bold")
axes[0].set_ylabel("Hz")
fig.colorbar(image, ax=axes, format="%+.0f dB", pad=0.01)
plt.show()
play(rate, **{name: audio[:, 6 * rate : 14 * rate] for name, audio in stems.items()})

# %% [markdown]
# How good are the vocals? We know the true ones, as they are heard in each mixture's file.

# %%
if truth is not None:
    rows = []
    for pair in chosen.merge(
        truth.pairs[["mixture_path", "vocals_path", "mixture_codec", "instrumental_codec"]]
    ).itertuples():
        true, _ = read(truth.truth / pair.vocals_path)
        true = np.concatenate([true[:, start:end] for start, end, _ in json.loads(pair.segments)], axis=1)
        row = corpus.song(pair.song_id)["vocals"]
        error = corpus.load(row) - true * 10 ** (row["gain_db"] / 20)
        sdr_db = 10 * np.log10(np.square(true).sum() / np.square(error).sum())
        rows.append((f"{pair.mixture_codec} / {pair.instrumental_codec}", pair.residual_db, sdr_db))
    rows.sort(key=lambda row: row[2])
    fig, ax = plt.subplots(figsize=(11, 0.5 * len(rows) + 1))
    bars = ax.barh([row[0] for row in rows], [row[2] for row in rows], color=COLOURS["vocals"], height=0.6)
    ax.bar_label(bars, [f"{sdr:.1f} dB  (residual {residual:.0f} dB)" for _, residual, sdr in rows], padding=4)
    ax.set(title="SDR of the vocals, by the codecs of mixture / instrumental", xlabel="dB")
    ax.margins(x=0.25)
    plt.show()

# %% [markdown]
# The residual needs no truth, and good residuals go with good vocals, roughly: a quiet voice under a loud band has
# a lower SDR at the same residual. On a catalogue of your own it is the number to sort by.
#
# ## Grades
#
# A residual does not see everything: the TV track aligns perfectly, and yet its "accompaniment" sings. So four
# witnesses hear every song second by second: accompaniment in the vocals, no singing at all, another performance in
# the instrumental, voices in the accompaniment. The worst finding is the grade. We keep all grades first, to look
# at them.

# %%
looked = CurateBuilder(WORK / "training", CurateRecipe(min_grade="D", clip_s=5), jobs=JOBS).build(WORK / "corpus")
vocals = looked.stems.query("stem == 'vocals'").sort_values(["grade", "residual_db"])
vocals[["artist", "genre", "residual_db", "grade", "reasons"]].style.format(precision=1, na_rep="").hide(
    axis="index"
)

# %% [markdown]
# Below are the witnesses' curves of the best and of the worst song. A network of 160 kB hears voices: high in the
# vocals is what we want, high in the accompaniment is a leak.

# %%
ends = [vocals.iloc[0], vocals.iloc[-1]]
fig, axes = plt.subplots(2, 2, figsize=(11, 4.2), sharex="col", height_ratios=(3, 1))
for (top_ax, grade_ax), song in zip(axes.T, ends, strict=True):
    curves = np.load(WORK / "training" / "curves" / f"{song['song_id']}.npz")
    seconds = np.arange(len(curves["grade"]))
    for stem in ("vocals", "instrumental"):
        top_ax.plot(seconds + 0.5, curves[f"voice_{stem}"], color=COLOURS[stem], lw=2, label=f"in the {stem}")
    top_ax.set(title=f"grade {song['grade']}: {song['artist']}", ylim=(-0.03, 1.03))
    top_ax.title.set_color(GRADES[song["grade"]])
    worst = [GRADES["ABCD"[int(grade)]] for grade in curves["grade"]]
    grade_ax.bar(seconds + 0.5, 1, width=1, color=worst)
    grade_ax.set(yticks=[], xlabel="seconds", ylabel="grade")
axes[0, 0].set_ylabel("probability of a voice")
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
plt.show()
song_id = ends[1]["song_id"]
rate = looked.song(song_id)["vocals"]["sample_rate"]
print(f"The accompaniment of the song with grade {ends[1]['grade']}. {' '.join(json.loads(ends[1]['reasons']))}")
play(rate, instrumental=looked.load((song_id, "instrumental"), start_frame=8 * rate, num_frames=6 * rate))

# %% [markdown]
# ## What to train with
#
# Now the real thing, in the same folder; inspections are kept, so that this costs nothing. Grade D goes, and so do
# songs with a residual above -24 dB: a *gate*, a limit on anything that was measured. Splits are by artist: nobody
# is heard in two of them. Clips are cut with a hop of half their length.

# %%
recipe = CurateRecipe(
    min_grade="C",
    gates=("vocals.residual_db <= -24",),
    shares={"train": 0.6, "validation": 0.2, "test": 0.2},
    clip_s=5,
    hop_s=2.5,
)
training = CurateBuilder(WORK / "training", recipe, jobs=JOBS).build(WORK / "corpus")

run = json.loads((WORK / "training" / "run.json").read_text())
for gate in run["gates"]:
    print(f"gate {gate['name']}: {gate['kept']} songs pass, {gate['dropped']} do not")

# %%
SPLITS = {"train": "#2c5f8f", "validation": "#a8761c", "test": "#b1467a"}
songs = training.stems.query("stem == 'mixture'").sort_values(["split", "artist"]).reset_index(drop=True)
fig, (ax, genre_ax) = plt.subplots(1, 2, figsize=(11, 0.42 * len(songs) + 1.4), width_ratios=(2.2, 1))
for number, song in enumerate(songs.itertuples()):
    clips = training.clips.query("song_id == @song.song_id")
    ax.barh(number, song.num_frames / song.sample_rate, color="#f2f0ea", height=0.8)
    for place, clip in enumerate(clips.itertuples()):
        start, length = clip.start_frame / song.sample_rate, clip.num_frames / song.sample_rate
        shift = 0.2 * (-1) ** place
        ax.barh(number + shift, length, left=start, height=0.34, color=SPLITS[song.split], ec="white")
ax.set_yticks(
    range(len(songs)), [artist if isinstance(artist, str) else "(no artist)" for artist in songs["artist"]]
)
ax.set(title="clips of each song, by split", xlabel="seconds")
ax.legend(handles=[plt.Rectangle((0, 0), 1, 1, color=colour) for colour in SPLITS.values()], labels=list(SPLITS),
          loc="upper left", bbox_to_anchor=(0, -0.18), ncols=3)  # fmt: skip
genres = songs.assign(minutes=songs["num_frames"] / songs["sample_rate"] / 60)
genres.pivot_table("minutes", "genre", "split", aggfunc="sum").plot.barh(
    stacked=True, color=SPLITS, ax=genre_ax, legend=False, width=0.7
)
genre_ax.set(title="genres", xlabel="minutes", ylabel="")
plt.show()

# %% [markdown]
# With so few songs a genre cannot be in every split. On a real catalogue genres are split alike (`stratify`), and
# `reference="uniform"`, or the distribution of another corpus, balances them.
#
# ## What was left out, and why
#
# Nothing is dropped silently. Candidates that were no pairs are in `pairs`; files and songs are in `rejected`, of
# the build and of the curation.

# %%
left_out = pd.concat([corpus.rejected, training.rejected], ignore_index=True)
left_out["path"] = left_out["path"].str.replace(str(MUSIC), "...").str.slice(0, 60)
left_out["detail"] = left_out["detail"].str.replace(str(MUSIC), "...").str.slice(0, 110)
left_out[["stage", "reason", "path", "detail"]].style.hide(axis="index").set_properties(**{"text-align": "left"})

# %% [markdown]
# ## A card
#
# `check_build` reads everything again (files, hashes, sums) and returns what is wrong. `write_card` writes what one
# must know to use the corpus, with Croissant metadata beside it. It says plainly that nobody gave a licence for
# this music.

# %%
problems = check_build(WORK / "training")
print("problems:", problems or "none")
write_card(WORK / "training", CardRecipe(title="A small demo", creator="me", version="0.1.0"))
card = (WORK / "training" / "README.md").read_text()
display(Markdown("\n".join(card.split("---", 2)[2].strip().splitlines()[:24]).replace("\n#", "\n###")))

# %% [markdown]
# ## What next
#
# - Point `MUSIC` at a folder of your own. It needs songs that were released with and without vocals.
# - `stemloom report training` makes a page of all this, with players, and `stemloom audit training` lets you judge
#   songs by ear.
# - [Notebook 2](2-what-the-mixtures-sound-and-look-like.py) draws mixtures from such a corpus, [notebook
#   5](5-train-your-own-way.py) trains with them.
# - [docs/catalog.md](../docs/catalog.md) explains settings, tables and reasons, [docs/curate.md](../docs/curate.md)
#   grades, gates and splits.
