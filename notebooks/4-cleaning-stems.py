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
# # Cleaning stems
#
# Libraries of music and stems of films hold voices where there should be none, and a separator that is trained with
# them learns to leave voices in. `stemloom clean` takes them out with another separator, and marks what cannot be
# saved. This notebook plants voices in music, cleans it, and measures against the truth: what was heard, what was
# missed, what was harmed, and when the whole effort pays.
#
# The music and the voices are made in code. To look at a corpus of your own, set `CORPUS` and `STEM`; what needs
# the truth is then left out. It takes about half a minute.

# %%
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import librosa
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Audio, display

from builders import CleanBuilder, CleanRecipe, ImportBuilder, ImportRecipe
from builders.demo.performance import perform
from builders.demo.score import compose
from builders.demo.sheets import SHEETS
from curation import voice_probability
from manifests import Corpus, content_id, read, write
from separators import load_separator, separate

CORPUS = None  # or Path("films"): a finished corpus
STEM = "music"  # the stem that should have no voices
WORK = Path(tempfile.mkdtemp(prefix="stemloom-"))

# %% tags=["hide-input"]
# What the library has to say comes between the outputs; pictures and players are alike in all notebooks.
logging.basicConfig(stream=sys.stdout, format="note: %(message)s")
warnings.filterwarnings("ignore", message="IProgress not found")  # a progress bar that would like ipywidgets
COLOURS = {
    "mixture": "#7b7d84",
    "vocals": "#c2571a",
    "music": "#1f7f92",
    "damaged": "#b04a2f",
    "cleaned": "#93b4d1",
}
plt.rcParams.update({"figure.dpi": 90, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
plt.rcParams.update({"axes.titlelocation": "left", "legend.frameon": False, "figure.constrained_layout.use": True})


def draw_spectrogram(ax, audio, rate, title, top_db=25):
    """Mel spectrogram, 70 dB deep from `top_db` down."""
    power = librosa.feature.melspectrogram(y=audio.mean(axis=0), sr=rate, n_fft=2048, n_mels=128, fmax=16_000)
    levels = librosa.power_to_db(power, top_db=None)
    scale = {"cmap": "magma", "vmin": top_db - 70, "vmax": top_db}
    librosa.display.specshow(levels, sr=rate, x_axis="time", y_axis="mel", fmax=16_000, ax=ax, **scale)
    ax.set(title=title, xlabel="", ylabel="", yticks=[128, 512, 2048, 8192])


def play(rate, **sounds):
    """A player for each sound, all at their own level."""
    for name, audio in sounds.items():
        colour = COLOURS.get(name, "#22242a")
        display(HTML(f"<b style='color: {colour}'>{name.replace('_', ' ')}</b>"))
        display(Audio(np.clip(audio, -1, 1), rate=rate, normalize=False))


def sdr_db(true, estimate):
    """Signal-to-distortion ratio of the whole signal."""
    return 10 * np.log10(np.square(true).sum() / max(np.square(true - estimate).sum(), 1e-12))


# %% [markdown]
# ## Music with voices in it
#
# Six pieces of music. In four of them somebody sings for six seconds, from as loud as the music down to 18 dB below
# it; one is as clean as it was played; and in the last one the singer never stops, 6 dB above the music.

# %%
RATE = 44_100
PLANTED = {  # name: song, level of the voice over the music in dB
    "voice at 0 dB": (2, 0),
    "voice at -6 dB": (3, -6),
    "voice at -12 dB": (5, -12),
    "voice at -18 dB": (1, -18),
    "no voice": (0, None),
    "voice all over": (6, 6),
}


def performed(song, seconds):
    """Music and vocals of a song of the demo."""
    rng = np.random.default_rng(song)
    return perform(rng, compose(rng, SHEETS[song], seconds), SHEETS[song])


def at_level(voice, music, level_db):
    """The voice, so many dB over the music; both of the same shape."""
    return voice * np.float32(np.std(music) / np.std(voice) * 10 ** (level_db / 20))


truth, titles = {}, {}
if CORPUS is None:
    _, singer = performed(4, seconds=20)
    loudest = np.convolve(np.square(singer[0, :: RATE // 100]), np.ones(600), "valid").argmax() * RATE // 100
    phrase = singer[:, loudest : loudest + 6 * RATE]
    (WORK / "library").mkdir()
    for name, (song, level_db) in PLANTED.items():
        music, _ = performed(song, seconds=16)
        voice = np.zeros_like(music)
        if name == "voice all over":
            voice = at_level(np.tile(phrase, 3)[:, : music.shape[1]], music, level_db)
        elif level_db is not None:
            part = slice(4 * RATE, 10 * RATE)
            voice[:, part] = at_level(phrase, music[:, part], level_db)
        scale = np.float32(min(1.0, 0.95 / np.abs(music + voice).max()))
        path = WORK / "library" / f"{name}.flac"
        write(path, scale * (music + voice), RATE)
        truth[content_id(path)] = scale * music
        titles[content_id(path)] = name
    CORPUS = WORK / "corpus"
    ImportBuilder(CORPUS, ImportRecipe(layout="loose", stem=STEM), jobs=2).build(WORK / "library")
corpus = Corpus.open(CORPUS)
print(f"{len(corpus.songs())} songs")

# %% [markdown]
# ## Cleaning
#
# `bundled:vocals` is a small separator that comes with stemloom; stronger ones go in the same way. Any separator
# finds *something* in music, voice or not, so its word alone does not count: another network, the witness, must
# hear a voice in the stem first. Every step of 0.32 s is then kept (not a sample changes), cleaned (the estimate is
# subtracted), or cleaned and called damaged (what is left is not worth learning from).
#
# The witness was made for people. Our singer is a formant synthesiser and only half convinces it, so we ask for
# less certainty than the default of 0.9. On a corpus of your own start with the defaults.

# %%
separator = load_separator("bundled:vocals")
recipe = CleanRecipe(stems=(STEM,), certain=0.7)
clean = CleanBuilder(WORK / "clean", separator, recipe).build(CORPUS)

found = clean.cleaned.assign(title=lambda table: table["song_id"].map(lambda song: titles.get(song, song)))
found = found.set_index("title").reindex([*titles.values()] or None).reset_index()
COLUMNS = ["title", "verdict", "voice_db", "cleaned_fraction", "damaged_fraction"]
found[COLUMNS].style.format(precision=2, na_rep="").hide(axis="index").set_properties(**{"text-align": "left"})

# %% [markdown]
# `voice_db` is the estimate over the stem where a voice was heard. A dropped song leaves the corpus, with a row in
# `rejected`.
#
# ## What was heard
#
# The grey curve is the witness' probability of a voice. Blue is what was cleaned, red what is damaged; the line on
# top shows where somebody sings in truth. Cleaning reaches one step further than the voice, over short pauses, and
# fades in and out.

# %%
shown = found.head(6)
fig, axes = plt.subplots(len(shown), 1, figsize=(11, 1.15 * len(shown) + 0.5), sharex=True, sharey=True)
for ax, row in zip(np.atleast_1d(axes), shown.itertuples(), strict=True):
    audio, rate = read(corpus.path_of(corpus.song(row.song_id)[STEM]))
    heard = voice_probability(audio, rate)
    steps = (np.arange(len(heard)) + 0.5) * 0.32
    ax.plot(steps, heard, color=COLOURS["mixture"], lw=1.5)
    ax.axhline(recipe.voiced, color="#cdc8bc", lw=0.8, zorder=0)
    for kind in ("cleaned", "damaged"):
        for start, end in json.loads(getattr(row, kind)):
            ax.axvspan(start / rate, end / rate, ymax=0.85, color=COLOURS[kind], alpha=0.55, lw=0)
    if row.song_id in truth:
        voice = np.abs(audio - truth[row.song_id]).max(axis=0)
        sung = [part.max() > 1e-3 for part in np.array_split(voice, len(voice) // (rate // 4))]
        edges = np.flatnonzero(np.diff([0, *map(int, sung), 0])).reshape(-1, 2) / 4
        for span in edges:
            ax.plot(span, [1.12, 1.12], color=COLOURS["vocals"], lw=5, solid_capstyle="butt")
    ax.set(ylim=(0, 1.2), yticks=[0, 1])
    ax.set_title(f"{row.title}: {row.verdict}", fontsize=10)
axes[-1].set_xlabel("seconds")
labels = {"sung (truth)": COLOURS["vocals"], "heard": COLOURS["mixture"], "cleaned": COLOURS["cleaned"]}
labels["damaged"] = COLOURS["damaged"]
handles = [plt.Line2D([], [], color=colour, lw=5) for colour in labels.values()]
fig.legend(handles, list(labels), loc="outside upper right", ncols=4)
plt.show()

# %% [markdown]
# What is missed is as telling as what is found: fainter voices are not heard, and their stems are kept with the
# voice in them. Listen to some of the kept stems of a corpus of your own before you trust the limits.
#
# ## What it sounds like
#
# `clean/removed` holds what was taken out of each stem. The cleaned stem and what was removed sum to the stem
# before, to the bit.

# %%
if found["removed_path"].notna().any():
    example = found[found["removed_path"].notna()].sort_values("voice_db").iloc[-1]
    before, rate = read(corpus.path_of(corpus.song(example["song_id"])[STEM]))
    after = clean.load((example["song_id"], STEM))
    removed, _ = read(WORK / "clean" / example["removed_path"])
    assert np.array_equal(after + removed, before)

    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True)
    for ax, (name, audio) in zip(
        axes, {"before": before, "cleaned": after, "removed": removed}.items(), strict=True
    ):
        draw_spectrogram(ax, audio, rate, name)
        ax.set_xlabel("seconds")
    axes[0].set_ylabel("Hz")
    fig.suptitle(example["title"], x=0.01, ha="left")
    plt.show()
    start, _ = json.loads(example["cleaned"])[0]
    excerpt = slice(max(0, start - rate), start + 6 * rate)
    play(rate, before=before[:, excerpt], cleaned=after[:, excerpt], removed=removed[:, excerpt])

# %% [markdown]
# ## Better or worse?
#
# Against the music as it was before the voice was planted: SDR of the stem before and after, and of the parts that
# clips are cut from, without what is damaged.

# %%
rows = []
for row in found[found["song_id"].isin([*truth]) & (found["verdict"] != "dropped")].itertuples():
    true = truth[row.song_id]
    before, after = corpus.load((row.song_id, STEM)), clean.load((row.song_id, STEM))
    usable = np.ones(true.shape[1], bool)
    for start, end in json.loads(row.damaged):
        usable[start:end] = False
    kept = sdr_db(true[:, usable], after[:, usable])
    rows.append((row.title, sdr_db(true, before), sdr_db(true, after), kept, usable.mean()))
if rows:
    table = pd.DataFrame(rows, columns=["stem", "before", "cleaned", "in clips", "share in clips"]).iloc[::-1]
    table[["before", "cleaned", "in clips"]] = table[["before", "cleaned", "in clips"]].clip(upper=45)
    fig, ax = plt.subplots(figsize=(11, 3.6))
    shades = {"in clips": "#1f7f92", "cleaned": "#93b4d1", "before": "#cdc8bc"}
    for shift, (name, colour) in enumerate(shades.items()):
        places = np.arange(len(table)) + 0.27 * (shift - 1)
        bars = ax.barh(places, table[name], height=0.25, color=colour, label=name)
        texts = [f"{value:.1f}" if value < 45 else "untouched" for value in table[name]]
        ax.bar_label(bars, texts, padding=3, fontsize=8)
    ax.set_yticks(range(len(table)), table["stem"])
    ax.set(title="SDR against the music alone", xlabel="dB", xlim=(0, 50))
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles[::-1], labels[::-1], loc="outside upper right", ncols=3)
    plt.show()

# %% [markdown]
# ## When it pays
#
# A separator takes some of the music along with the voice, and leaves some of the voice. So there is a level of the
# voice below which cleaning takes more than it gives. Here is that level for the bundled separator, on six seconds
# of three pieces: the SDR of the music after subtracting the whole estimate, and before, which is just how far the
# voice is below the music.

# %%
if truth:
    levels = np.array([-24, -16, -8, 0, 6])
    curves = []
    for song in (2, 3, 5):
        music = performed(song, seconds=10)[0][:, 2 * RATE : 8 * RATE]
        mixtures = [music + at_level(phrase, music, level) for level in levels]
        voices = separator.sources.index("vocals")
        curves.append([sdr_db(music, mixture - separate(separator, mixture)[voices]) for mixture in mixtures])
    fig, ax = plt.subplots(figsize=(6.5, 4))
    ax.plot(levels, -levels, color=COLOURS["mixture"], lw=2, label="left as it is")
    ax.plot(levels, np.array(curves).T, color=COLOURS["music"], lw=1, alpha=0.5)
    ax.plot(
        levels, np.mean(curves, axis=0), color=COLOURS["music"], lw=2.5, label="estimate subtracted (mean of three)"
    )
    gain = np.mean(curves, axis=0) + levels
    pays = np.interp(0, gain, levels)
    ax.axvline(pays, color=COLOURS["vocals"], lw=1, ls="--")
    ax.text(pays + 0.5, 22, f"pays from {pays:.0f} dB on", color=COLOURS["vocals"])
    ax.set(title="SDR of the music", xlabel="voice over music, dB", ylabel="dB", ylim=(-8, 26))
    ax.legend(loc="lower left")
    plt.show()

# %% [markdown]
# That is why faint voices are better left alone, or cut out: with `damaged_db=-29` whatever is heard is in no clip,
# and nothing depends on the separator. A better separator moves the crossing to the left.
#
# And the witness is what protects clean music. Without it the estimate's level alone decides, and the piece without
# any voice is "cleaned" too:

# %%
trusting = CleanRecipe(stems=(STEM,), witness="none", max_dropped=1.0)
careless = CleanBuilder(WORK / "careless", separator, trusting).build(CORPUS)
both = {"with the witness": clean, "without": careless}
pd.DataFrame(
    {
        name: table.cleaned.set_index("song_id")["cleaned_fraction"].rename(lambda song: titles.get(song, song))
        for name, table in both.items()
    }
).reindex([*titles.values()] or None).style.format("{:.0%}").background_gradient(cmap="Blues", vmin=0, vmax=1)

# %% [markdown]
# ## What next
#
# - `stemloom report clean` writes a page with levels, verdicts and players of the stems that lost most.
# - `stemloom curate clean` cuts clips where nothing is damaged.
# - [docs/cleaning.md](../docs/cleaning.md) has every limit; [docs/benchmarks.md](../docs/benchmarks.md#cleaning)
#   has figures on recorded voices and music, [docs/results.md](../docs/results.md) whether a network that was
#   trained with cleaned stems is any better.
# - `stemloom build libraries dnr-v2` cleans libraries of music and effects before it mixes them.
