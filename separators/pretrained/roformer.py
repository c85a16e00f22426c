"""RoFormer checkpoints as people share them: weights, and the YAML that they were trained with.

The layout is that of ZFTurbo's training code, whose networks have the layers of the package `BS-RoFormer` 0.3.10:
sections ``audio`` (chunk_size, sample_rate), ``model`` (sizes), ``training`` (instruments, target_instrument) and
``inference`` (chunk_size, where it is another). The YAML lies beside the weights under the same name, or is named::

    roformer:vocals.ckpt
    roformer:vocals.ckpt?config=config_vocals.yaml

Where the network was trained for one instrument, the rest of the mixture is the other source. Segments overlap as
the person says who separates; ``num_overlap`` is not read (N there is an overlap of 1 - 1/N here).

References
----------
R. Solovyev, A. Stempkovskiy, T. Habruseva, "Benchmarks and leaderboards for sound demixing tasks", 2023 (arXiv
2305.07489); https://github.com/ZFTurbo/Music-Source-Separation-Training: the training code and its files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from manifests.errors import RecipeError
from manifests.plain import yaml_of
from manifests.recipes import Settings, make_recipe
from separators.bs_roformer import BSRoformer, BSRoformerConfig
from separators.pretrained.references import local_weights, split_settings
from separators.pretrained.states import fill, plain_state, read_weights
from separators.remainder import WithRemainder
from separators.separator import Separator

if TYPE_CHECKING:
    from separators.loading import LoadOptions

__all__ = ["RoformerRecipe", "load", "read_recipe"]

# What changes the network in ways that the package's has not.
_ONLY: dict[str, object] = {
    "linear_transformer_depth": 0,
    "mlp_expansion_factor": 4,
    "skip_connection": False,
    "stft_normalized": False,
    "zero_dc": False,
}


class _Section(BaseModel):
    """What is read of a section; the rest is about training."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Audio(_Section):
    chunk_size: int = Field(ge=1)
    sample_rate: int = Field(44100, ge=1)


class _Training(_Section):
    instruments: tuple[str, ...] = Field(min_length=1)
    target_instrument: str | None = None


class _Inference(_Section):
    chunk_size: int | None = Field(None, ge=1)


class _Model(Settings):
    """All that there is in such files: what is not known could change the network."""

    dim: int
    depth: int
    stereo: bool = False
    num_stems: int = 1
    time_transformer_depth: int = 2
    freq_transformer_depth: int = 2
    freqs_per_bands: tuple[int, ...] | None = None
    num_bands: int | None = None
    dim_head: int = 64
    heads: int = 8
    dim_freqs_in: int | None = None
    sample_rate: int | None = None
    stft_n_fft: int = 2048
    stft_hop_length: int = 512
    stft_win_length: int = 2048
    mask_estimator_depth: int | None = None
    linear_transformer_depth: int = 0
    mlp_expansion_factor: int = 4
    skip_connection: bool = False
    stft_normalized: bool = False
    zero_dc: bool = False
    # Training's, or how a layer is computed.
    attn_dropout: float = 0
    ff_dropout: float = 0
    flash_attn: bool = True
    sage_attention: bool = False
    use_torch_checkpoint: bool = False
    match_input_audio_length: bool = False
    multi_stft_resolution_loss_weight: float = 1
    multi_stft_resolutions_window_sizes: tuple[int, ...] = ()
    multi_stft_hop_size: int = 147
    multi_stft_normalized: bool = False

    @field_validator(*_ONLY)
    @classmethod
    def _require_plain(cls, value: object, info: ValidationInfo) -> object:
        wanted = _ONLY[str(info.field_name)]
        if value != wanted:
            raise ValueError(f"such a network is not supported, only one where it is {wanted}")
        return value

    @model_validator(mode="after")
    def _require_bands(self) -> _Model:
        if (self.freqs_per_bands is None) == (self.num_bands is None):
            raise ValueError("give freqs_per_bands (BS-RoFormer) or num_bands (Mel-Band RoFormer)")
        if self.stft_win_length != self.stft_n_fft:
            raise ValueError(
                f"stft_win_length is {self.stft_win_length} and stft_n_fft {self.stft_n_fft}: only equal ones are "
                "supported"
            )
        return self


class RoformerRecipe(BaseModel):
    """The YAML of a checkpoint; sections that are not here are about training."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    audio: _Audio
    model: _Model
    training: _Training
    inference: _Inference = _Inference()

    @model_validator(mode="after")
    def _require_agreement(self) -> RoformerRecipe:
        if self.model.sample_rate not in (None, self.audio.sample_rate):
            raise ValueError(
                f"audio.sample_rate is {self.audio.sample_rate} and model.sample_rate {self.model.sample_rate}: "
                "let both be the same"
            )
        if len(self.targets) != self.model.num_stems:
            raise ValueError(
                f"model.num_stems is {self.model.num_stems}, and the network is of {', '.join(self.targets)}: "
                "correct training.instruments or training.target_instrument"
            )
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """Sources that the network gives."""
        target = self.training.target_instrument
        return (target,) if target else self.training.instruments

    @property
    def remainder(self) -> str | None:
        """What the rest of the mixture is called, where the network gives one source of several."""
        if not self.training.target_instrument:
            return None
        others = [name for name in self.training.instruments if name not in self.targets]
        if len(others) == 1:
            return others[0]
        return "other" if self.training.target_instrument != "other" else "rest"

    @property
    def config(self) -> BSRoformerConfig:
        """Of our network."""
        model, is_split = self.model, self.model.freqs_per_bands is not None
        return BSRoformerConfig(
            sample_rate=self.audio.sample_rate,
            channels=2 if model.stereo else 1,
            sources=self.targets,
            segment_frames=self.inference.chunk_size or self.audio.chunk_size,
            bands="split" if is_split else "mel",
            band_bins=model.freqs_per_bands or BSRoformerConfig.band_bins,
            mel_bands=model.num_bands or BSRoformerConfig.mel_bands,
            window_frames=model.stft_n_fft,
            hop_frames=model.stft_hop_length,
            features=model.dim,
            layers=model.depth,
            time_depth=model.time_transformer_depth,
            band_depth=model.freq_transformer_depth,
            heads=model.heads,
            head_features=model.dim_head,
            mask_depth=model.mask_estimator_depth or (2 if is_split else 1),
            dropout=0.0,
        )


class _TupleLoader(yaml.SafeLoader):
    """Plain values, and the one tag of Python's that these files have."""


def _tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> tuple[object, ...]:
    return tuple(loader.construct_sequence(node))


_TupleLoader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_recipe(path: Path) -> RoformerRecipe:
    """What a checkpoint's YAML says.

    Parameters
    ----------
    path : Path

    Returns
    -------
    RoformerRecipe

    Raises
    ------
    RecipeError
        The file cannot be read, or a field is missing, unknown or of a network that is not supported.
    """
    try:
        values = yaml_of(path.read_text(encoding="utf-8"), _TupleLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: cannot be read as YAML ({error}); give the YAML of the weights") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: holds a {type(values).__name__}, not audio, model and training")
    known: dict[str, object] = {name: values[name] for name in RoformerRecipe.model_fields if name in values}
    return make_recipe(known, str(path), RoformerRecipe)


def load(rest: str, options: LoadOptions) -> Separator:
    """The separator that ``roformer:`` names.

    Parameters
    ----------
    rest : str
        What stands behind the colon: weights (.ckpt, .pth, .safetensors) and maybe ``?config=FILE``.
    options : LoadOptions

    Returns
    -------
    Separator

    Raises
    ------
    RecipeError
        A file is missing, broken or wants to run code, or weights and YAML do not belong together.
    """
    reference, settings = split_settings(rest, ("config",))
    path = local_weights(reference, options.folder, options.allow_downloads)
    recipe = read_recipe(_config_path(settings.get("config"), path, options))
    separator = options.separator_of(_network(path, recipe), f"roformer:{reference.partition('#')[0]}")
    return separator if recipe.remainder is None else WithRemainder(separator, recipe.remainder)


def _config_path(given: str | None, weights: Path, options: LoadOptions) -> Path:
    if given is not None:
        return local_weights(given, options.folder, options.allow_downloads)
    beside = [weights.with_suffix(suffix) for suffix in (".yaml", ".yml")]
    for path in beside:
        if path.is_file():
            return path
    raise RecipeError(
        f"{weights}: there is no {beside[0].name} beside it; put its YAML there, or name it behind the path as in "
        f"{weights.name}?config=FILE"
    )


def _network(path: Path, recipe: RoformerRecipe) -> BSRoformer:
    content, _ = read_weights(path)
    # First weights are drawn only to be replaced: nobody else's draws are to change by it.
    with torch.random.fork_rng(devices=[]):
        try:
            network = BSRoformer(recipe.config)
        except (AssertionError, RecipeError) as error:
            raise RecipeError(f"{path}: {error}") from error
    fill(network.model, plain_state(path, content), path)
    return network.eval()
