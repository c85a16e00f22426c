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
# # An augmentation ablation
#
# "We added an augmentation, and SDR rose by 0.2 dB." Is that the augmentation, or the seed, or the eight songs it
# was tested on? This notebook runs a study in miniature, two variants with two seeds each, and reads everything
# that comes out: learning curves, table, differences song by song, p-values, and how much of it all is luck.
#
# Corpus and networks are toys: a study of a minute says nothing about augmentation. How to read it is the same with
# 800 songs and a week of GPU time. To use a corpus of your own, set `CORPUS`.

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
import scipy.stats
from IPython.display import HTML, Audio, display

from augment import PoolReader, draw, make_pool, render
from builders import ImportBuilder, ImportRecipe
from builders.demo.performance import perform
from builders.demo.score import compose
from builders.demo.sheets import SHEETS
from manifests import Corpus, write
from training.ablation import run_study
from training.statistics import paired_t
from training.study import load_study, training_of

CORPUS = None  # or Path("training"): vocals and instrumental, with the splits train, validation and test
WORK = Path(tempfile.mkdtemp(prefix="stemloom-"))

# %% tags=["hide-input"]
# What the library has to say comes between the outputs; pictures and players are alike in all notebooks.
logging.basicConfig(stream=sys.stdout, format="note: %(message)s")
warnings.filterwarnings("ignore", message="IProgress not found")  # a progress bar that would like ipywidgets
COLOURS = {"vocals": "#c2571a", "accompaniment": "#1f7f92", "mean": "#7b7d84"}
plt.rcParams.update({"figure.dpi": 90, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
plt.rcParams.update({"axes.titlelocation": "left", "legend.frameon": False, "figure.constrained_layout.use": True})


def play(rate, **sounds):
    """A player for each sound, all at their own level."""
    for name, audio in sounds.items():
        display(HTML(f"<b>{name.replace('_', ' ')}</b>"))
        display(Audio(np.clip(audio, -1, 1), rate=rate, normalize=False))


# %% [markdown]
# ## A corpus with splits
#
# Four songs to train with, one to validate, eight short ones to test. The test songs are by artists that the
# networks have not heard.

# %%
SPLITS = {"train": (range(4), 12), "validation": (range(4, 5), 12), "test": (range(5, 13), 8)}
if CORPUS is None:
    for split, (numbers, seconds) in SPLITS.items():
        for number in numbers:
            rng, sheet = np.random.default_rng(number), SHEETS[number]
            instrumental, vocals = perform(rng, compose(rng, sheet, seconds), sheet)
            folder = WORK / "songs" / split / f"Artist {number} - {sheet.title}"
            folder.mkdir(parents=True)
            for name, audio in {"vocals": vocals, "instrumental": instrumental}.items():
                write(folder / f"{name}.flac", librosa.resample(audio, orig_sr=44_100, target_sr=16_000), 16_000)
    CORPUS = WORK / "corpus"
    ImportBuilder(CORPUS, ImportRecipe(layout="folders", make_mixture=True), jobs=2).build(WORK / "songs")
corpus = Corpus.open(CORPUS)
corpus.stems.query("stem == 'mixture'").groupby("split").size()

# %% [markdown]
# ## A study
#
# A study names a training recipe, variants of it, corpora to test on, and seeds. A variant says only what it
# changes. Here: nothing, or `remix`, which gives the vocals and the accompaniment of each mixture a gain of their
# own within ±9 dB. It is one of the transforms of the singing-voice study (Prétet et al., ICASSP 2019). As a YAML
# file the study is run by `stemloom ablate study.yaml --out study`.

# %%
study = load_study(
    {
        "about": "Does it help to remix songs, if there are four of them and 60 steps?",
        "base": "demo",
        "set": {
            "network": {"bands": 32, "columns": 32, "filters": [8, 16, 32]},
            "mix": {"sample_rate": 16_000, "length_s": 2, "transforms": []},
            "batch_size": 4,
            "steps_per_epoch": 12,
            "epochs": 5,
            "validation": {"num": 8, "final_num": 8},
        },
        "corpora": {"songs": str(CORPUS)},
        "train_on": ["songs"],
        "variants": [
            {"name": "baseline", "about": "as the songs are"},
            {"name": "remix", "about": "gains within 9 dB", "set": {"mix": {"transforms": ["remix"]}}},
        ],
        "tests": [{"name": "unseen songs", "corpus": "songs", "split": "test"}],
        "seeds": 2,
        "scores": ["sdr_db", "si_sdr_db"],
    }
)
[(variant.name, variant.set) for variant in study.variants]

# %% [markdown]
# The comparison is *paired* from the first draw on: with the same seed, both variants start from the same weights
# and see the same moments of the same songs, in the same order. Here is mixture 0 of both. What differs is what was
# changed.

# %%
recipes = {variant.name: training_of(study, variant, seed=0).mix for variant in study.variants}
drawn = {}
for name, recipe in recipes.items():
    pool = make_pool(recipe.of_split("train"), corpus)
    drawn[name] = render(draw(recipe.of_split("train"), pool, 0, 0, 0), PoolReader(pool))

fig, axes = plt.subplots(1, 2, figsize=(11, 2.6), sharey=True)
for ax, (name, mixture) in zip(axes, drawn.items(), strict=True):
    for order, target in enumerate(("accompaniment", "vocals")):
        audio = mixture.targets[mixture.names.index(target)]
        level = np.sqrt(np.square(audio).mean(axis=0).reshape(-1, 800).mean(axis=1))
        seconds = np.arange(len(level)) / 20
        ax.fill_between(seconds, -level, level, color=COLOURS[target], lw=0, alpha=0.5 + 0.4 * order, label=target)
    ax.set(title=name, xlabel="seconds")
axes[0].set_ylabel("level")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
plt.show()
play(16_000, **{name: mixture.mixture for name, mixture in drawn.items()})
for name, mixture in drawn.items():
    print(f"{name}: {json.dumps([dict(step) for step in mixture.plan.transforms])}")

# %% [markdown]
# ## Run it
#
# Every variant is trained with every seed, and tested. A study that is stopped goes on where it was, and one that
# gets another variant trains that one alone. `jobs` trains several at once, in processes of their own.

# %%
ablation = run_study(study, WORK / "study", jobs=0, devices=("cpu",))
assert not ablation.missing
print(f"{len(ablation.songs)} rows: {', '.join(ablation.songs.columns[:5])} and scores")

# %% [markdown]
# ## Learning curves
#
# Thin lines are seeds, thick lines their mean. Look here first:
#
# - If curves still move, the study compares how *fast* the variants learn, and not how good they get. With
#   augmentation that matters, since it makes training harder before it makes the network better.
# - If the lines of one variant's seeds are as far apart as the variants are, more seeds are needed than these.
# - Validation mixtures are drawn as the variant draws its own. So these curves show each variant's progress;
#   whether one is better is for the test to say, which is the same for all.

# %%
SHADES = {"baseline": "#7b7d84", "remix": "#2c5f8f"}
curves = ablation.curves
panels = {"loss": "validation loss", "sdr_db vocals": "SDR of the vocals, dB"}
fig, axes = plt.subplots(1, 2, figsize=(11, 3.2))
for ax, (what, title) in zip(axes, panels.items(), strict=True):
    for variant, colour in SHADES.items():
        shown = curves[(curves["what"] == what) & (curves["variant"] == variant)]
        lines = shown.pivot(index="step", columns="seed", values="value")
        ax.plot(lines.index, lines, color=colour, lw=1, alpha=0.5)
        ax.plot(lines.index, lines.mean(axis=1), color=colour, lw=2.5, label=variant)
    ax.set(title=title, xlabel="step")
axes[0].legend()
plt.show()

# %% [markdown]
# ## The table
#
# What a paper prints: the median over songs, of the mean over seeds. Beside it, what papers often leave out: the
# medians of the best and the worst seed alone.

# %%
summary = ablation.summary.query("score == 'sdr_db'").set_index(["target", "variant"])
summary[["songs", "seeds", "median", "mean", "seed_low", "seed_high"]].style.format(precision=2)

# %% [markdown]
# ## Song by song
#
# A median hides what happened. Each line is a song, from the baseline to the variant; points are seeds. Songs
# differ far more from each other than variants do, and that is why the tests are paired: they look at the slopes,
# not at the heights.

# %%
targets = [target for target in ("vocals", "accompaniment") if target in set(ablation.songs["target"])]
fig, axes = plt.subplots(1, len(targets), figsize=(11, 3.8))
for ax, target in zip(np.atleast_1d(axes), targets, strict=True):
    rows = ablation.songs.query("target == @target")
    grid = rows.pivot_table("sdr_db", "song_id", ["variant", "seed"])
    means = grid.T.groupby("variant").mean().T
    for _, song in means.iterrows():
        better = song["remix"] > song["baseline"]
        ax.plot([0, 1], song[["baseline", "remix"]], color=COLOURS[target], lw=1.5, alpha=0.9 if better else 0.35)
    for place, variant in enumerate(SHADES):
        ax.plot(np.full(len(grid), place), grid[variant], ".", color="#22242a", ms=4)
    better = (means["remix"] > means["baseline"]).sum()
    ax.set(
        title=f"{target}: {better} of {len(means)} songs better", xticks=[0, 1], xlim=(-0.2, 1.2), ylabel="SDR, dB"
    )
    ax.set_xticklabels([*SHADES])
plt.show()

# %% [markdown]
# ## Differences and p-values
#
# `comparisons` holds each variant less the baseline. Read it in this order:
#
# 1. **How large?** The mean difference in dB, and its interval. A difference of 0.1 dB that is "highly significant"
#    is still 0.1 dB.
# 2. **Do these networks differ on songs like these?** The paired t-test (`t_p`) and Wilcoxon's test take the
#    trainings for given. Holm's correction (`t_holm`) is for asking several questions at once.
# 3. **Would another training say the same?** `seeds_p` takes songs *and* seeds for drawn at random. Its interval is
#    the honest one for "the augmentation helps", and with two seeds it is wide.

# %%
compared = ablation.comparisons.query("score == 'sdr_db'").set_index("target")
columns = ["mean", "mean_low", "mean_high", "cohen_d", "share_better", "t_p", "t_holm", "wilcoxon_holm", "seeds_p"]
display(compared[columns].style.format(precision=3))

fig, ax = plt.subplots(figsize=(11, 0.7 * len(compared) + 1.2))
for place, (target, row) in enumerate(compared.iterrows()):
    colour = COLOURS.get(target, "#22242a")
    ax.plot([row["seeds_low"], row["seeds_high"]], [place - 0.15] * 2, color=colour, lw=2, alpha=0.4)
    ax.plot([row["mean_low"], row["mean_high"]], [place + 0.15] * 2, color=colour, lw=5)
    ax.plot([row["mean"]] * 2, [place - 0.15, place + 0.15], "o", color=colour, ms=6)
ax.axvline(0, color="#22242a", lw=0.8, ls="--")
ax.set_yticks(range(len(compared)), compared.index)
widest = compared[["mean_low", "mean_high"]].abs().to_numpy().max()
ax.set_xlim(-4 * widest, 4 * widest)
ax.set(
    title="remix less baseline: 95 % over songs (thick), over songs and seeds (thin, may leave the picture)",
    xlabel="dB",
)
ax.margins(y=0.2)
plt.show()

# %% [markdown]
# The differences of vocals and accompaniment are the same, to the last digit: this network's two estimates sum to
# the mixture, so that they share one error. Two stems are then one finding, and not two that confirm each other.

# %%
for target, row in compared.iterrows():
    direction = "better" if row["mean"] > 0 else "worse"
    songs_say = "sure" if row["t_holm"] < study.alpha else "not sure"
    seeds_say = "sure" if row["seeds_holm"] < study.alpha else "not sure"
    print(
        f"{target}: {abs(row['mean']):.2f} dB {direction}; over songs {songs_say}, over songs and seeds {seeds_say}"
    )

# %% [markdown]
# ## The same recipe twice
#
# The best way to learn how much to trust a test is to ask it about nothing. Below, the two *seeds* of one variant
# are compared as if they were two methods. The t-test over songs knows nothing of seeds; if it calls this
# significant, it is right (these two networks do differ) and answers a question that you did not ask.

# %%
rows = []
for variant in SHADES:
    for target in targets:
        grid = ablation.songs.query("variant == @variant and target == @target").pivot(
            index="song_id", columns="seed", values="sdr_db"
        )
        test = paired_t(grid[1].to_numpy(), grid[0].to_numpy())
        rows.append(
            {
                "variant": variant,
                "target": target,
                "seed 1 less seed 0, dB": (grid[1] - grid[0]).mean(),
                "t_p": test.p,
            }
        )
pd.DataFrame(rows).style.format(precision=3).hide(axis="index")

# %% [markdown]
# ## More songs, or more seeds?
#
# The differences vary from song to song (`song_sd`), from seed to seed (`seed_sd`), and beyond that (`rest_sd`).
# With $n$ songs and $s$ seeds the standard error of the mean difference is
#
# $$\sqrt{\mathrm{song\_sd}^2 / n + \mathrm{seed\_sd}^2 / s + \mathrm{rest\_sd}^2 / (n s)}$$
#
# More songs do not help against the seeds' part. To be seen, a difference must be as large as the standard error
# times a factor: about two if the variances are known, and much more if the seeds' part is guessed from a few seeds
# (Student's $t$ with $s - 1$ degrees of freedom, which is cautious). The curves show the smallest difference that
# such a study would see.

# %%
parts = compared.loc["vocals", ["song_sd", "seed_sd", "rest_sd"]].astype(float)
print(parts.round(3).to_dict())
songs = np.arange(4, 101)
fig, ax = plt.subplots(figsize=(7, 3.4))
for seeds, shade in zip((2, 3, 5, 10), plt.cm.Blues(np.linspace(0.4, 1, 4)), strict=True):
    variance = (parts["song_sd"] ** 2 + parts["rest_sd"] ** 2 / seeds) / songs + parts["seed_sd"] ** 2 / seeds
    ax.plot(songs, scipy.stats.t.ppf(0.975, seeds - 1) * np.sqrt(variance), color=shade, lw=2, label=f"{seeds}")
ax.axvline(compared.loc["vocals", "songs"], color="#22242a", lw=0.8, ls="--")
ax.set(title="smallest difference to be seen, vocals", xlabel="songs", ylabel="dB", yscale="log")
ax.yaxis.set_major_formatter("{x:g}")
ax.yaxis.set_minor_formatter("{x:g}")
ax.legend(title="seeds", ncols=4)
plt.show()

# %% [markdown]
# Variances from two seeds are rough guesses themselves: the seeds' part may come out as 0, and is not.
#
# ## What next
#
# - `stemloom ablate augmentation --corpus songs=training --corpus recorded=other --out study --size cpu` runs the
#   eight variants of the paper, in twenty minutes on a laptop; `study/study.html` has all of this as a page.
# - Write your own study: [docs/ablations.md](../docs/ablations.md). To ask one more question later, add a variant
#   and run the same command again.
# - Listen to what the transforms do: [notebook 2](2-what-the-mixtures-sound-and-look-like.py).
