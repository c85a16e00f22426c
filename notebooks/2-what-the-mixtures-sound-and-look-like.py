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
# # What the mixtures sound and look like
#
# A separator learns from mixtures that are drawn on the fly. Before you spend a week of GPU time on a mixing
# recipe, hear what it makes, and check that it makes what you think. This notebook takes a recipe apart: what a
# plan is, what is random and what is not, whether the levels come out as the recipe says, and what each transform
# does.
#
# The corpus is six short songs made in code. To look at a corpus of your own, set `CORPUS` below, and name its
# stems in the recipe. It takes about half a minute.

# %%
import dataclasses
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

from augment import PoolReader, draw, load_mix, make_pool, plans_of, plans_table, render
from builders import ImportBuilder, ImportRecipe
from builders.demo.performance import perform
from builders.demo.score import compose
from builders.demo.sheets import SHEETS
from manifests import Corpus, loudness_lufs, read_table, write, write_table

CORPUS = None  # or Path("training"): a finished corpus with the stems vocals and instrumental
WORK = Path(tempfile.mkdtemp(prefix="stemloom-"))

# %% tags=["hide-input"]
# What the library has to say comes between the outputs; pictures and players are alike in all notebooks.
logging.basicConfig(stream=sys.stdout, format="note: %(message)s")
warnings.filterwarnings("ignore", message="IProgress not found")  # a progress bar that would like ipywidgets
COLOURS = {"mixture": "#7b7d84", "vocals": "#c2571a", "accompaniment": "#1f7f92"}
plt.rcParams.update({"figure.dpi": 90, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
plt.rcParams.update({"axes.titlelocation": "left", "legend.frameon": False, "figure.constrained_layout.use": True})


def draw_spectrogram(ax, audio, rate, title, top_db=25):
    """Mel spectrogram, 70 dB deep from `top_db` down."""
    power = librosa.feature.melspectrogram(y=audio.mean(axis=0), sr=rate, n_fft=2048, n_mels=128)
    levels = librosa.power_to_db(power, top_db=None)
    librosa.display.specshow(
        levels, sr=rate, x_axis="time", y_axis="mel", cmap="magma", vmin=top_db - 70, vmax=top_db, ax=ax
    )
    ax.set(title=title, xlabel="", ylabel="", yticks=[128, 512, 2048, 8192])


def play(rate, **sounds):
    """A player for each sound, all at their own level."""
    for name, audio in sounds.items():
        colour = COLOURS.get(name, "#22242a")
        display(HTML(f"<b style='color: {colour}'>{name.replace('_', ' ')}</b>"))
        display(Audio(np.clip(audio, -1, 1), rate=rate, normalize=False))


# %% [markdown]
# ## A corpus
#
# A folder for each song with a file for each stem is all that an import needs; it makes the mixtures, checks the
# sums and writes the tables. `stemloom import songs --layout folders --make-mixture --out corpus` does the same.

# %%
if CORPUS is None:
    for number, sheet in enumerate(SHEETS[:6]):
        rng = np.random.default_rng(number)
        instrumental, vocals = perform(rng, compose(rng, sheet, seconds=16), sheet)
        folder = WORK / "songs" / f"{sheet.artist} - {sheet.title}"
        folder.mkdir(parents=True)
        write(folder / "vocals.flac", vocals, 44_100)
        write(folder / "instrumental.flac", instrumental, 44_100)
    CORPUS = WORK / "corpus"
    ImportBuilder(CORPUS, ImportRecipe(layout="folders", make_mixture=True), jobs=2).build(WORK / "songs")
corpus = Corpus.open(CORPUS)
corpus.stems[["artist", "stem", "num_frames", "sample_rate", "channels"]].head(6)

# %% [markdown]
# ## A recipe
#
# A recipe says what a mixture is made of, and what is left to chance. Everything has a distribution: `[low, high]`
# is uniform, `{normal: [mean, deviation]}` is what it says. Unknown fields are errors that name the nearest known
# one.

# %%
(WORK / "mix.yaml").write_text("""
sample_rate: 22050
length_s: 6
sources:
  vocals:
    stems: vocals
    count: {choice: [0, 1, 2], weights: [1, 6, 3]}
    lufs: {normal: [-24, 3]}                # the loudness that it is brought to
  accompaniment:
    stems: instrumental
    gain_db: [-9, 6]                        # relative to the file
""")
recipe = load_mix(WORK / "mix.yaml")
pool = make_pool(recipe, corpus)
reader = PoolReader(pool)
{name: f"{len(choice.table)} places" for name, choice in pool.choices.items()}

# %% [markdown]
# ## A plan
#
# Drawing decides everything, before any audio is read: `draw(recipe, pool, seed, epoch, index)` gives a plan.
# Rendering turns a plan into audio and decides nothing. As a table, a plan has a row for each source.

# %%
plans = [draw(recipe, pool, seed=0, epoch=0, index=index) for index in range(4)]
table = plans_table(plans)
columns = [
    "mixture_id",
    "target",
    "song_id",
    "source_start_frame",
    "num_frames",
    "offset_frame",
    "gain_db",
    "transforms",
]
table[columns].style.format(precision=1, na_rep="silent").hide(axis="index").set_properties(
    **{"text-align": "left"}
)

# %%
mixtures = [render(plan, reader) for plan in plans]
rate = recipe.sample_rate
seconds = np.arange(recipe.num_frames) / rate

fig, axes = plt.subplots(2, 4, figsize=(11, 4.4), sharex=True, sharey="row", height_ratios=(1.6, 1))
for (top, bottom), mixture in zip(axes.T, mixtures, strict=True):
    draw_spectrogram(top, mixture.mixture, rate, f"mixture {mixture.plan.index}")
    for name, target, alpha in zip(mixture.names, mixture.targets, (0.9, 0.45), strict=True):
        level = np.sqrt(np.square(target).mean(axis=0).reshape(-1, rate // 10).mean(axis=1))
        order = {"color": COLOURS[name], "alpha": alpha, "lw": 0, "label": name, "zorder": 3 if alpha > 0.5 else 2}
        bottom.fill_between(np.arange(len(level)) / 10, -level, level, **order)
    bottom.set_xlabel("seconds")
axes[0, 0].set_ylabel("Hz")
axes[1, 0].set_ylabel("level")
fig.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
plt.show()
first = mixtures[0]
play(rate, mixture=first.mixture, **dict(zip(first.names, first.targets, strict=True)))

# %% [markdown]
# The targets sum to the mixture, always; that is how it is made.
#
# ## What is random, and what is not
#
# A mixture depends on its three numbers, the recipe and the corpus. It does not depend on what was drawn before, on
# workers, ranks, or where a run was resumed. Below, each column is drawn in another order, and each row has another
# index; the first two columns are equal, sample for sample.

# %%
orders = {"epoch 0, forwards": (0, [0, 1, 2]), "epoch 0, backwards": (0, [2, 1, 0]), "epoch 1": (1, [0, 1, 2])}
drawn = {
    name: {index: render(draw(recipe, pool, 0, epoch, index), reader).mixture for index in order}
    for name, (epoch, order) in orders.items()
}
assert all(np.array_equal(drawn["epoch 0, forwards"][i], drawn["epoch 0, backwards"][i]) for i in range(3))

fig, axes = plt.subplots(3, 3, figsize=(11, 2.8), sharex=True, sharey=True)
for column, (name, mixtures_of) in zip(axes.T, drawn.items(), strict=True):
    column[0].set_title(name)
    for index, ax in enumerate(column):
        ax.plot(seconds[::20], mixtures_of[index][0, ::20], lw=0.4, color=COLOURS["mixture"])
        ax.set(yticks=[], ylabel=f"index {index}" if ax in axes[:, 0] else "")
        ax.spines["left"].set_visible(False)
for ax in axes[-1]:
    ax.set_xlabel("seconds")
plt.show()

# %% [markdown]
# Each transform has random numbers of its own. So a recipe with another transform draws the same sources at the
# same places and levels: two recipes can be compared on the same material, and what you measure is the transform
# and not the luck of the draw. (`stemloom ablate` relies on it; see [notebook 3](3-an-augmentation-ablation.py).)
# Only transforms that need more or fewer frames than they give, such as `stretch`, move the start of a crop a
# little.


# %%
def with_transforms(*transforms):
    """The recipe with transforms of the whole mixture."""
    return type(recipe).model_validate(recipe.model_dump(mode="json") | {"transforms": transforms})


plain = draw(recipe, pool, 0, 0, 3)
variants = {
    "as it was": plain,
    "equalizer": draw(with_transforms("equalizer"), pool, 0, 0, 3),
    "stretch": draw(with_transforms("stretch"), pool, 0, 0, 3),
}


def drawn_from(plan):
    return [(event.song_id, event.gain_db) for event in plan.events]


pd.DataFrame(
    {
        "same sources and gains": drawn_from(plan) == drawn_from(plain),
        "starts, in frames": ", ".join(str(event.source_start_frame) for event in plan.events),
        "transforms": json.dumps(plan.transforms)[:90],
    }
    for plan in variants.values()
).set_index(pd.Index(variants))  # fmt: skip

# %% [markdown]
# ## Does it come out as the recipe says?
#
# Plans are cheap: here are 3,000 of them, and no audio was read. Bars are what was drawn, lines are the recipe's
# distributions.

# %%
many = plans_table(draw(recipe, pool, 0, 0, index) for index in range(3_000))
sources = many.dropna(subset="path")
lufs = sources.loc[sources["target"] == "vocals", "transforms"].map(lambda text: json.loads(text)[0]["lufs"])
gains = sources.loc[sources["target"] == "accompaniment", "gain_db"]
counts = (
    sources[sources["target"] == "vocals"]
    .groupby("mixture_id")
    .size()
    .reindex(many["mixture_id"].unique(), fill_value=0)
)

fig, axes = plt.subplots(1, 3, figsize=(11, 3))
shares = counts.value_counts(normalize=True).sort_index()
axes[0].bar(shares.index, shares, width=0.6, color=COLOURS["vocals"], alpha=0.6)
axes[0].plot([0, 1, 2], [0.1, 0.6, 0.3], "o", color="#22242a")
axes[0].set(title="voices in a mixture", xticks=[0, 1, 2], ylabel="share")
grid = np.linspace(-36, -12, 200)
axes[1].hist(lufs, bins=40, density=True, color=COLOURS["vocals"], alpha=0.6)
axes[1].plot(grid, scipy.stats.norm(-24, 3).pdf(grid), color="#22242a")
axes[1].set(title="loudness of the vocals", xlabel="LUFS", yticks=[])
axes[2].hist(gains, bins=40, density=True, color=COLOURS["accompaniment"], alpha=0.6)
axes[2].plot([-10, -9, -9, 6, 6, 7], [0, 0, 1 / 15, 1 / 15, 0, 0], color="#22242a")
axes[2].set(title="gain of the accompaniment", xlabel="dB", xticks=[-9, -6, -3, 0, 3, 6], yticks=[])
plt.show()
print(
    f"largest distance of the gains' distribution: {scipy.stats.kstest(gains, 'uniform', (-9, 15)).statistic:.3f}"
)

# %% [markdown]
# What was drawn is not yet what is heard. The gain of the accompaniment is relative to the file, and files are not
# equally loud, so the ratio of the two in the mixtures is spread wider than either number says. If the ratio is
# what you care about, bring both to a loudness. To know, render some and measure:

# %%
heard, meant = [], []
for index in range(150):
    plan = draw(recipe, pool, 0, 0, index)
    if sum(event.target == "vocals" for event in plan.events) != 1:
        continue
    vocals, accompaniment = render(plan, reader).targets
    loudness = loudness_lufs(vocals, rate), loudness_lufs(accompaniment, rate)
    if None not in loudness:
        heard.append(loudness)
        meant.append(next(event.transforms[0]["lufs"] for event in plan.events if event.target == "vocals"))
heard = np.array(heard)
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2))
left.plot(meant, heard[:, 0], ".", color=COLOURS["vocals"])
left.axline((-24, -24), slope=1, color="#cdc8bc", zorder=0)
left.set(title="vocals: drawn and measured loudness", xlabel="drawn, LUFS", ylabel="measured, LUFS")
right.hist(heard[:, 0] - heard[:, 1], bins=14, color=COLOURS["mixture"], alpha=0.7)
right.set(title="vocals over accompaniment, as heard", xlabel="dB", ylabel="mixtures")
plt.show()

# %% [markdown]
# ## Transforms, one by one
#
# The same mixture under each transform. All targets get the same treatment, so that they still sum to the mixture.

# %%
TRANSFORMS = {
    "stretch": {"factor": [1.25, 1.3]},
    "shift": {"factor": [1.25, 1.3]},
    "repitch": {"semitones": [4, 4], "tempo_percent": 0},
    "tempo": {"tempo_percent": 12},
    "filter": {"center_hz": [1500, 1500], "width_hz": [700, 700]},
    "equalizer": {"gain_db": [-12, 12], "min_bands": 4},
    "bandwidth": {"cutoff_hz": 3400, "high_pass_hz": 300},
    "codec": {"codecs": {"mp3": 1}, "bitrate_kbps": [32, 32]},
    "reverb": {"rt60_s": [1.2, 1.2], "wet_db": [-3, -3]},
}


def transformed(index, *transforms):
    return render(draw(with_transforms(*transforms), pool, 0, 0, index), reader)


examples = {"as drawn": first} | {
    name: transformed(0, {name: {"p": 1, **settings}}) for name, settings in TRANSFORMS.items()
}
fig, axes = plt.subplots(2, 5, figsize=(11, 5.4), sharex=True, sharey=True)
for ax, (name, example) in zip(axes.flat, examples.items(), strict=True):
    draw_spectrogram(ax, example.mixture, rate, name)
    assert np.allclose(example.targets.sum(axis=0), example.mixture, atol=1e-6)
for ax in axes[:, 0]:
    ax.set_ylabel("Hz")
for ax in axes[1]:
    ax.set_xlabel("seconds")
axes[0, 0].title.set_weight("bold")
plt.show()
for name in ("as drawn", "repitch", "bandwidth", "reverb"):
    play(rate, **{name.replace(" ", "_"): examples[name].mixture[:, : 5 * rate]})

# %% [markdown]
# Some do not show in a spectrogram. A limiter and fades work on the level; `mono_to_stereo` works on the place: on
# the left each point is a sample, left channel against right, so that mono is a diagonal line.

# %%
loud = {"as drawn": first} | {
    "limiter": transformed(0, {"limiter": {"threshold_db": [-18, -18]}}),
    "fade": transformed(0, {"fade": {"in_s": [1.5, 1.5], "out_s": [2, 2]}}),
}
mono = np.repeat(first.targets[0].mean(axis=0, keepdims=True), 2, axis=0)
fig, axes = plt.subplots(1, 6, figsize=(11, 2.4), width_ratios=(1, 1, 1, 1.3, 1.3, 1.3))
wide = with_transforms({"mono_to_stereo": {"methods": {"width": 1}, "width": [1.7, 1.7]}})
narrow = with_transforms({"mono_to_stereo": {"methods": {"width": 1}, "width": [0.2, 0.2]}})
places = {"as drawn": first, "width 1.7": render(draw(wide, pool, 0, 0, 0), reader)}
places["width 0.2"] = render(draw(narrow, pool, 0, 0, 0), reader)
for ax, (name, example) in zip(axes, places.items(), strict=False):
    left_channel, right_channel = example.targets[1]
    ax.plot(left_channel[::7], right_channel[::7], ",", color=COLOURS["accompaniment"], alpha=0.6)
    ax.set(title=name, xlim=(-0.4, 0.4), ylim=(-0.4, 0.4), aspect="equal", xticks=[], yticks=[], xlabel="left")
axes[0].set_ylabel("right")
for ax, (name, example) in zip(axes[3:], loud.items(), strict=True):
    ax.plot(seconds[::10], example.mixture[0, ::10], lw=0.4, color=COLOURS["mixture"])
    ax.set(title=name, ylim=(-0.6, 0.6), yticks=[], xlabel="seconds")
plt.show()

# %% [markdown]
# ## A row is enough
#
# The plans' table is all that is needed to hear a mixture again, years later, as long as the corpus is there. This
# is how you find out what a training saw when its loss jumped: the plans of bad steps are kept, and play.

# %%
write_table(WORK, "mixtures", table)
again = plans_of(read_table(WORK, "mixtures"))
assert all(
    np.array_equal(render(plan, reader).mixture, mixture.mixture)
    for plan, mixture in zip(again, mixtures, strict=True)
)

# %% [markdown]
# A plan is a frozen dataclass. To ask "what if", replace a part of it: the same mixture with the vocals 12 dB
# lower.

# %%
quieter = dataclasses.replace(
    again[0],
    events=tuple(
        dataclasses.replace(event, gain_db=event.gain_db - 12) if event.target == "vocals" else event
        for event in again[0].events
    ),
)
play(rate, as_drawn=mixtures[0].mixture, vocals_12_dB_lower=render(quieter, reader).mixture)

# %% [markdown]
# ## What next
#
# - `stemloom listen jusperlee2023 --from corpus -n 8` makes such pictures and players for any recipe, on a page.
# - [docs/mixing.md](../docs/mixing.md) has the ready recipes and every field,
#   [docs/transforms.md](../docs/transforms.md) every transform with its settings.
# - Which of these transforms help? That is a question for an experiment: [notebook
#   3](3-an-augmentation-ablation.py).
# - [Notebook 5](5-train-your-own-way.py) feeds these mixtures to a training loop.
