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
# # Train your own way
#
# `stemloom train` is one way to train a separator. If you have a loop of your own, in plain torch or in Lightning,
# you only need the mixtures. This notebook trains a tiny network both ways, shows what makes a run reproducible and
# how it resumes to the bit, and reads exported corpora without stemloom.
#
# The corpus is made in code: six short songs in three splits. To use one of your own, set `CORPUS`. It takes about
# half a minute.

# %%
import hashlib
import logging
import multiprocessing
import sys
import tempfile
import warnings
from pathlib import Path

import librosa
import lightning
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile
import torch
from IPython.display import HTML, Audio, display
from torch.utils.data import DataLoader

from augment import MixtureDataset, MixtureStream, collate, load_mix, make_pool
from builders import ExportRecipe, ImportBuilder, ImportRecipe, export_corpus
from builders.demo.performance import perform
from builders.demo.score import compose
from builders.demo.sheets import SHEETS
from manifests import Corpus, write

CORPUS = None  # or Path("training"): vocals and instrumental, with the splits train, validation and test
WORK = Path(tempfile.mkdtemp(prefix="stemloom-"))

# %% tags=["hide-input"]
# What the library has to say comes between the outputs; pictures and players are alike in all notebooks.
logging.basicConfig(stream=sys.stdout, format="note: %(message)s")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # lists the machine's devices otherwise
warnings.filterwarnings("ignore", message="IProgress not found")  # a progress bar that would like ipywidgets
warnings.filterwarnings("ignore", message=".*LeafSpec")  # Lightning is behind torch here
COLOURS = {"mixture": "#7b7d84", "vocals": "#c2571a", "accompaniment": "#1f7f92"}
plt.rcParams.update({"figure.dpi": 90, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
plt.rcParams.update({"axes.titlelocation": "left", "legend.frameon": False, "figure.constrained_layout.use": True})


def draw_spectrogram(ax, audio, rate, title, top_db=25):
    """Mel spectrogram, 70 dB deep from `top_db` down."""
    power = librosa.feature.melspectrogram(y=audio.mean(axis=0), sr=rate, n_fft=1024, n_mels=96)
    levels = librosa.power_to_db(power, top_db=None)
    scale = {"cmap": "magma", "vmin": top_db - 70, "vmax": top_db}
    librosa.display.specshow(levels, sr=rate, hop_length=512, x_axis="time", y_axis="mel", ax=ax, **scale)
    ax.set(title=title, xlabel="seconds", ylabel="", yticks=[128, 512, 2048, 8192])


def play(rate, **sounds):
    """A player for each sound, all at their own level."""
    for name, audio in sounds.items():
        colour = COLOURS.get(name, "#22242a")
        display(HTML(f"<b style='color: {colour}'>{name.replace('_', ' ')}</b>"))
        display(Audio(np.clip(audio, -1, 1), rate=rate, normalize=False))


# %% [markdown]
# ## Corpus, recipe, pool
#
# An import takes the split from the top folder. The *recipe* says how mixtures are drawn; `of_split` takes its
# sources from one split. The *pool* is what they can be drawn from.

# %%
SPLITS = {"train": SHEETS[:4], "validation": SHEETS[4:5], "test": SHEETS[6:7]}
if CORPUS is None:
    for split, sheets in SPLITS.items():
        for sheet in sheets:
            rng = np.random.default_rng(SHEETS.index(sheet))
            instrumental, vocals = perform(rng, compose(rng, sheet, seconds=16), sheet)
            folder = WORK / "songs" / split / f"{sheet.artist} - {sheet.title}"
            folder.mkdir(parents=True)
            for name, audio in {"vocals": vocals, "instrumental": instrumental}.items():
                write(folder / f"{name}.flac", librosa.resample(audio, orig_sr=44_100, target_sr=22_050), 22_050)
    CORPUS = WORK / "corpus"
    ImportBuilder(CORPUS, ImportRecipe(layout="folders", make_mixture=True), jobs=2).build(WORK / "songs")
corpus = Corpus.open(CORPUS)

(WORK / "mix.yaml").write_text("""
sample_rate: 22050
channels: 1
length_s: 3
sources:
  vocals: {stems: vocals, gain_db: [-6, 6]}
  accompaniment: {stems: instrumental, gain_db: [-6, 6]}
""")
recipe = load_mix(WORK / "mix.yaml")
recipes = {split: recipe.of_split(split) for split in SPLITS}
pools = {split: make_pool(recipes[split], corpus) for split in SPLITS}
rate = recipe.sample_rate

train_set = MixtureDataset(recipes["train"], pools["train"], seed=0, length=96)
mixture, targets = train_set[0]
print("mixture", tuple(mixture.shape), "targets", tuple(targets.shape), recipe.outputs)

# %% [markdown]
# ## A network, a loss, a loop
#
# The smallest thing that separates: a few convolutions over time that say for each bin of the spectrogram how much
# of it is voice. Nothing in it is of stemloom.


# %%
class Masker(torch.nn.Module):
    """Masks for the voice and the rest; they sum to one, and so do the estimates to the mixture."""

    def __init__(self, window=1024, hop=512, hidden=128):
        super().__init__()
        self.hop, self.bins = hop, window // 2 + 1
        self.register_buffer("window", torch.hann_window(window))
        layers = [torch.nn.Conv1d(self.bins, hidden, 3, padding=1), torch.nn.ReLU()]
        for dilation in (1, 2, 4):
            layers += [torch.nn.Conv1d(hidden, hidden, 3, padding=dilation, dilation=dilation), torch.nn.ReLU()]
        self.net = torch.nn.Sequential(*layers, torch.nn.Conv1d(hidden, self.bins, 1))

    def forward(self, mixture):  # (batch, 1, frames) to (batch, 2, 1, frames)
        wave = mixture[:, 0]
        spectrum = torch.stft(wave, 2 * self.bins - 2, self.hop, window=self.window, return_complex=True)
        mask = torch.sigmoid(self.net(torch.log10(spectrum.abs() + 1e-4)))
        masked = torch.stack([mask * spectrum, (1 - mask) * spectrum], dim=1).flatten(0, 1)
        waves = torch.istft(masked, 2 * self.bins - 2, self.hop, window=self.window, length=wave.shape[-1])
        return waves.view(len(wave), 2, 1, -1)


def error_db(estimates, targets):
    """Energy of the error over that of the mixture, in dB; mean over batch and sources. Lower is better."""
    error = (estimates - targets).square().sum(dim=(-2, -1))
    whole = targets.sum(dim=1, keepdim=True).square().sum(dim=(-2, -1))
    return 10 * torch.log10((error + 1e-6) / (whole + 1e-6)).mean()


# %% [markdown]
# The loop is the one you know. `set_epoch` before each epoch gives new mixtures; without it, every epoch is the
# same 96. Workers draw and render while the network learns.

# %%
EPOCHS, BATCH = 4, 8
multiprocessing.set_forkserver_preload(["augment.dataset"])


def loader_of(dataset, workers, batch_size=BATCH):
    """A DataLoader whose workers live on. A kernel has threads, and forking it may hang: a clean process forks."""
    how = {"multiprocessing_context": "forkserver", "persistent_workers": True} if workers else {}
    return DataLoader(dataset, batch_size=batch_size, num_workers=workers, **how)


def run(network, optimizer, epochs, workers=2):
    """Train over some epochs; the loss of each step."""
    losses = []
    loader = loader_of(train_set, workers)
    for epoch in epochs:
        train_set.set_epoch(epoch)
        for mixture, targets in loader:
            loss = error_db(network(mixture), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def fresh():
    torch.manual_seed(0)
    network = Masker()
    return network, torch.optim.Adam(network.parameters(), lr=4e-3)


network, optimizer = fresh()
losses = run(network, optimizer, range(EPOCHS))

# %% [markdown]
# Validation always takes the same mixtures: a dataset of another split, whose epoch nobody changes. What is left
# out of the loss, it tells.

# %%
valid_set = MixtureDataset(recipes["validation"], pools["validation"], seed=1, length=24)
valid_mixture, valid_targets = collate([valid_set[index] for index in range(len(valid_set))])
untrained, _ = fresh()
with torch.no_grad():
    for name, model in {"untrained": untrained, "trained": network}.items():
        error = error_db(model(valid_mixture), valid_targets).item()
        print(f"{name:10} error of the validation {error:6.2f} dB")

song_id = corpus.stems.query("stem == 'mixture' and split == 'test'")["song_id"].iloc[0]
stems = {name: corpus.load((song_id, name)).mean(axis=0, keepdims=True) for name in ("mixture", "vocals")}
stems_rate = corpus.song(song_id)["mixture"]["sample_rate"]
stems = {name: librosa.resample(audio, orig_sr=stems_rate, target_sr=rate) for name, audio in stems.items()}
with torch.no_grad():
    estimate = network(torch.from_numpy(stems["mixture"])[None])[0].numpy()

fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True)
pictures = {"mixture": stems["mixture"], "vocals, estimated": estimate[0], "vocals, true": stems["vocals"]}
for ax, (name, audio) in zip(axes, pictures.items(), strict=True):
    draw_spectrogram(ax, audio, rate, name)
axes[0].set_ylabel("Hz")
plt.show()
part = slice(4 * rate, 12 * rate)
play(rate, mixture=stems["mixture"][0, part], vocals=estimate[0, 0, part], accompaniment=estimate[1, 0, part])

# %% [markdown]
# A song of an artist that the network has not heard, after a few seconds of training. It has found out where voices
# are; it is far from separating them.
#
# ## Reproducible, and resumed
#
# A mixture depends on `(seed, epoch, index)`, the recipe and the corpus. So batches are the same with any number of
# workers:


# %%
def fingerprint(loader, batches=5):
    """A hash of the first batches."""
    digest = hashlib.blake2b(digest_size=6)
    for (mixture, _), _ in zip(loader, range(batches), strict=False):
        digest.update(mixture.numpy().tobytes())
    return digest.hexdigest()


rows = {}
for workers in (0, 1, 2):
    loader = loader_of(train_set, workers)
    for epoch in (0, 1):
        train_set.set_epoch(epoch)
        rows[workers, epoch] = fingerprint(loader)
table = pd.Series(rows).unstack()
assert (table.nunique() == 1).all()
table.rename_axis("workers").rename_axis("epoch", axis=1)

# %% [markdown]
# To resume, keep what you keep anyway (weights, optimizer, how far you were). There is no state of a random
# generator to save, since there is none. Below, one run goes through; another is stopped after two epochs, saved,
# loaded and continued.

# %%
network, optimizer = fresh()
first = run(network, optimizer, range(2))
torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 2}, WORK / "state.pt")

state = torch.load(WORK / "state.pt")
network, optimizer = fresh()
network.load_state_dict(state["network"])
optimizer.load_state_dict(state["optimizer"])
second = run(network, optimizer, range(state["epoch"], EPOCHS), workers=0)

fig, ax = plt.subplots(figsize=(11, 3))
ax.plot(losses, color="#cdc8bc", lw=6, label="in one go, two workers")
ax.plot(first, color=COLOURS["accompaniment"], lw=1.5, label="stopped here")
ax.plot(np.arange(len(second)) + len(first), second, color=COLOURS["vocals"], lw=1.5, label="resumed, no workers")
ax.axvline(len(first) - 0.5, color="#22242a", lw=0.8, ls="--")
ax.set(title="loss: error over mixture", xlabel="step", ylabel="dB")
ax.legend(loc="upper right")
plt.show()
print("largest difference of the losses:", np.abs(np.array(first + second) - np.array(losses)).max())

# %% [markdown]
# ## Without epochs, on several GPUs
#
# `MixtureStream` counts batches instead. A run that has done 37 steps resumes with `start=37`, in the middle of
# anything. Each rank takes its part of a global batch; the ranks together see what one process with the larger
# batch would see. `rank` and `world_size` come from torchrun unless you give them.

# %%
train = (recipes["train"], pools["train"])
alone = next(iter(MixtureStream(*train, seed=0, batch_size=8, start=37)))[0]
ranks = [
    next(iter(MixtureStream(*train, seed=0, batch_size=4, start=37, rank=rank, world_size=2)))[0] for rank in (0, 1)
]
print("two ranks see what one process sees:", torch.equal(torch.cat(ranks), alone))

# %% [markdown]
# With `with_plan=True` a batch brings its plans, so that you can write down what a bad step was made of, and replay
# it ([notebook 2](2-what-the-mixtures-sound-and-look-like.py)):

# %%
_, _, plans = next(iter(MixtureStream(*train, seed=0, batch_size=2, start=37, with_plan=True)))
[(event.target, event.song_id[:8], round(event.gain_db, 1)) for event in plans[0].events]

# %% [markdown]
# ## Lightning
#
# Give Lightning a `MixtureStream` as one endless epoch, and count in steps: `start=self.trainer.global_step` is all
# that a resumed run needs to know. (A `MixtureDataset` works too, but mind the epochs: when Lightning calls
# `on_train_epoch_start` for the first time, workers have already begun to draw, so that a resumed run starts with
# mixtures of the wrong epoch. Call `set_epoch` in `train_dataloader`, with `reload_dataloaders_every_n_epochs=1`.)


# %%
class Mixtures(lightning.LightningDataModule):
    def train_dataloader(self):
        stream = MixtureStream(*train, seed=0, batch_size=BATCH, start=self.trainer.global_step)
        return loader_of(stream, workers=2, batch_size=None)

    def val_dataloader(self):
        return loader_of(valid_set, workers=1)


class Separation(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = Masker()
        self.losses, self.errors_db = [], []

    def training_step(self, batch, number):
        loss = error_db(self.network(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, number):
        self.log("error_db", error_db(self.network(batch[0]), batch[1]))

    def on_validation_epoch_end(self):
        self.errors_db.append(self.trainer.callback_metrics["error_db"].item())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=4e-3)


def fit(steps, resume_from=None):
    """Train up to a step."""
    torch.manual_seed(0)
    module = Separation()
    trainer = lightning.Trainer(
        max_steps=steps,
        val_check_interval=10,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accelerator="cpu",
        default_root_dir=WORK / "lightning",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Mixtures(), ckpt_path=resume_from)
    return trainer, module


_, through = fit(steps=30)
halfway, begun = fit(steps=15)
halfway.save_checkpoint(WORK / "halfway.ckpt")
_, ended = fit(steps=30, resume_from=WORK / "halfway.ckpt")

print("validation", [f"{value:.2f} dB" for value in through.errors_db])
print("resumed to the bit:", begun.losses + ended.losses == through.losses)

# %% [markdown]
# ## Without stemloom
#
# An export writes the corpus in the layout of another project (`musdb18`, `msst`, `lhotse`, `huggingface`), and is
# read without this library. `csv` is for everything else: a row for each song, a column for each stem's file.

# %%
export_corpus(corpus, WORK / "plain", ExportRecipe(layout="csv", splits=("train", "test")))
songs = pd.read_csv(WORK / "plain" / "songs.csv")
songs.drop(columns="song_id").head()

# %%
row = songs.iloc[0]
loaded = {
    stem: soundfile.read(WORK / "plain" / row[stem], dtype="float32")[0].T for stem in ("vocals", "instrumental")
}
mixture, rate = soundfile.read(WORK / "plain" / row["mixture"], dtype="float32")
print("the stems sum to the mixture, within", np.abs(mixture.T - loaded["vocals"] - loaded["instrumental"]).max())

# %% [markdown]
# ## What next
#
# - `stemloom train` ([docs/training.md](../docs/training.md)) is a loop with published networks and losses that
#   survives everything but a lost disk; `training/loop.py` is made to be read.
# - Where decoding is what training waits for, `stemloom pack training` lays plain samples beside a corpus; open it
#   with `PackedCorpus.open` instead of `Corpus.open`, and nothing else changes.
# - To measure your network with the rest (`stemloom evaluate python:mymodule:separator --on corpus`), give it the
#   few attributes of a `Separator` ([docs/separators.md](../docs/separators.md)).
# - [docs/exports.md](../docs/exports.md) explains all layouts.
