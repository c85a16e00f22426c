"""Settings of a build, as a person writes them in YAML or on the command line.

A recipe is complete and frozen: everything that changes what a build makes is in it (the number of jobs is not),
it is written into the build folder first, and a folder holds one recipe's work only.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from manifests.recipes import Settings


def _none_if_said(value: object) -> object:
    """The command line has no null: 'none' stands for it."""
    return None if isinstance(value, str) and value.lower() in ("none", "null") else value


def _number_if_said(value: object) -> object:
    """The command line has only text, and a choice of numbers takes it for none of them."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _names_if_said(value: object) -> object:
    """The command line has no lists in mappings: commas part names."""
    names = [value] if isinstance(value, str) else value
    if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
        return tuple(part.strip() for name in names for part in name.split(",") if part.strip())
    return value


_Said = BeforeValidator(_none_if_said)
_Names = Annotated[tuple[str, ...], BeforeValidator(_names_if_said)]


class CatalogRecipe(BaseModel):
    """How a catalogue becomes a corpus. The defaults are the filters of Pretet et al. (ICASSP 2019)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    max_duration_difference_s: Annotated[Annotated[float, Field(ge=0)] | None, _Said] = 2.0
    """Largest difference between the durations of the music (not of the files) of a pair; none: any.
    Edits, where bars are missing from one release, need more than the paper's 2 s."""

    max_song_s: Annotated[Annotated[float, Field(gt=0)] | None, _Said] = 300.0
    """Longer music is left out; none: any length."""

    min_song_s: Annotated[float, Field(gt=0)] = 10.0
    """Shorter music is left out."""

    max_bit_error_rate: Annotated[float, Field(gt=0, le=0.5)] = 0.4
    """Fingerprints that differ more are not looked at further; unrelated songs are above 0.43."""

    min_votes: Annotated[int, Field(ge=2)] = 2
    """Moments, half a second apart or more, that sound alike at one offset and make two tracks candidates without
    any metadata."""

    against: Literal["everything", "labelled"] = "everything"
    """Whether the sound of any two tracks is compared, or that of labelled instrumentals with the rest: for
    catalogues of more than about a hundred thousand tracks. Tags and file names are compared in any case."""

    sample_one_in: Annotated[int, Field(ge=1, le=100)] = 1
    """Compare by sound one moment in this many: less work, and fewer pairs found."""

    min_segment_s: Annotated[float, Field(gt=0)] = 6.0
    """Shorter common stretches of an edited pair are left out."""

    method: Literal["transfer", "half-wave"] = "transfer"
    """How the vocals are derived; see `curation.derivation`."""

    loudness_lufs: Annotated[Annotated[float, Field(ge=-70, le=0)] | None, _Said] = None
    """Bring every mixture to this loudness, the same gain on its stems, so that they still sum; none: as released.
    Lower where the peak would pass full scale."""

    audio_format: Literal["flac", "wav"] = "flac"
    """Of the files that are written."""

    bit_depth: Annotated[Literal[16, 24], BeforeValidator(_number_if_said)] = 24
    """Of their samples."""

    max_item_s: Annotated[float, Field(gt=0)] = 900.0
    """A file or pair that takes longer is given up, with a row in the rejected table."""


class CurateRecipe(BaseModel):
    """How a corpus becomes one to train with: what is left out, who goes into which split, where clips are cut."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    min_grade: Literal["A", "B", "C", "D"] = "C"
    """Songs with a lower grade are left out; D keeps all."""

    audit: Literal["rejected", "unheard", "ignore"] = "rejected"
    """Which songs `stemloom audit` leaves out: those rejected by ear, those nobody has accepted as well, or none.
    What was accepted stays whatever its grade, unless ignored; limits and gates hold for it too."""

    witness: Annotated[str | None, _Said] = None
    """One more witness of voices: 'python:MODULE:FUNCTION', a function of (audio, sample_rate) to the probability
    of a voice every 0.32 s."""

    gates: tuple[str, ...] = ()
    """Songs that do not pass are left out: presets and limits such as 'lossless' or 'vocals.rms >= 0.01'."""

    clip_gates: tuple[str, ...] = ()
    """The same for clips: 'cdxdb23', 'bsrnn', 'voiced_fraction >= 0.3'."""

    duplicates: Literal["drop", "keep"] = "drop"
    """Whether of songs with the same audio only the best one stays."""

    unseen: tuple[str, ...] = ()
    """Folders with music (a test set, for example) of which nothing may be in the corpus."""

    reference: Annotated[str | None, _Said] = None
    """Genres are to be distributed like this: 'uniform', a table of genre and share (.csv, .yaml), or the folder of
    another corpus; none: as they are."""

    balance: Literal["choose", "weights"] = "choose"
    """Meet the reference by leaving songs out, or by a weight for each song."""

    missing_genres: Literal["error", "drop"] = "error"
    """What to do about a genre of the reference of which there is no song."""

    shares: Annotated[dict[str, float] | None, _Said] = None
    """Splits and their shares of the hours; with `hours` left out as well: train 0.97, validation 0.03."""

    hours: Annotated[dict[str, float] | None, _Said] = None
    """Splits and their hours; the rest is 'train'."""

    stratify: bool = True
    """Whether each genre is split alike."""

    fixed: Annotated[str | None, _Said] = None
    """Songs whose split is given: 'musdb18' (its 14 validation songs), or a table of song and split (.csv,
    .yaml)."""

    aliases: Annotated[str | None, _Said] = None
    """A table of artists' other names: alias and name (.csv, .yaml)."""

    previous: Annotated[str | None, _Said] = None
    """Folder of an earlier result, whose songs stay in their splits."""

    clip_s: Annotated[Annotated[float, Field(gt=0)] | None, _Said] = 11.88
    """Length of a clip; none: no clips."""

    hop_s: Annotated[Annotated[float, Field(gt=0)] | None, _Said] = None
    """From one clip's start to the next one's; none: the clip's length."""

    margin_s: Annotated[float, Field(ge=0)] = 0.0
    """Left out at both ends of every song (the paper: 20)."""

    per_song: Literal["all", "one"] = "all"
    """All clips of a song, or one at random."""

    within: Literal["songs", "pure"] = "songs"
    """Cut clips anywhere, or only where the stem of voices holds voices or silence and nothing else, and no other
    stem holds voices."""

    test_clips: Annotated[Annotated[int, Field(ge=1)] | None, _Said] = None
    """Clips of the split 'test', equally many of each genre (the paper: 1900); none: all there are."""

    test_by: Literal["genre", "artist", "song"] = "genre"
    """Of what the test clips are equally many: artist and song for films, whose reels are of one artist."""

    test_genres: Annotated[int, Field(ge=1)] = 10
    """The most frequent genres that the test clips are taken from; of artists and songs all are."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of every choice."""

    audio: Literal["link", "copy"] = "link"
    """Whether the corpus shares its files with the source where it can (hard links), or has its own."""

    max_item_s: Annotated[float, Field(gt=0)] = 900.0
    """A song whose inspection takes longer is given up, with a row in the rejected table."""


SINGLE_SOUNDS = ("loose", "librispeech", "fma", "fsd50k")
"""Layouts of imports with a file for each sound, which has no mixture."""


class ImportRecipe(BaseModel):
    """How somebody's folder of stems becomes a corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    layout: Literal["musdb18", "moisesdb", "folders", "loose", "librispeech", "fma", "fsd50k"]
    """What the folder is: MUSDB18-HQ, MoisesDB, a folder for each song with a file for each stem, a library with a
    file for each sound, or one of these: LibriSpeech, FMA, FSD50K."""

    license: Annotated[str | None, _Said] = None
    """Of all songs, but for those of which the library or `metadata` has one."""

    audio: Literal["copy", "link"] = "copy"
    """Whether the corpus has files of its own, or shares them with the folder where it can (hard links)."""

    make_mixture: bool = False
    """musdb18, folders: make every mixture of the stems, instead of checking and taking those that are there."""

    pad: bool = False
    """folders: let silence follow files that are shorter than others of their song, instead of refusing it."""

    mixture: str = "mixture"
    """folders: name of the mixtures' files, without suffix."""

    stems: Annotated[_Names | None, _Said] = None
    """folders: the stems to take, such as 'vocals,drums'; none: all."""

    rename: Annotated[dict[str, Annotated[str, Field(min_length=1)]] | None, _Said] = None
    """folders: what stems are called, by what their files are, such as '--rename.dx dialogue'; `stems` has the new
    names."""

    downmix: Literal["none", "itu", "loro"] = "none"
    """folders, loose: surround sound becomes stereo, as ITU-R BS.775 has it, or scaled so that it never passes full
    scale (Lo/Ro). Folders may have a file for each loudspeaker then: DX.L.wav, DX.C.wav ..."""

    segments: Annotated[str | None, _Said] = None
    """folders: name of a table in each folder, such as segments.csv, that says what is heard when in a file
    (columns file, start_s, end_s, label). Stems are the labels then, each the sum of its parts, and mixtures are
    made."""

    order: Literal["wav", "film"] = "wav"
    """folders, loose: of the channels of 5.1 files: L R C LFE Ls Rs, or L C R Ls Rs LFE."""

    centre_db: Annotated[float, Field(ge=-12, le=0)] = -3.0
    """folders, loose: level of the centre in the downmix."""

    surround_db: Annotated[float, Field(ge=-12, le=0)] = -3.0
    """folders, loose: level of the surrounds in the downmix."""

    sample_rate: Annotated[Annotated[int, Field(ge=1000)] | None, _Said] = None
    """folders, loose: resample what has another rate, in Hz; none: every song keeps its own."""

    bleed: Literal["keep", "reject"] = "keep"
    """moisesdb: what to do with songs which say of a track that other instruments are heard in it."""

    stem: Annotated[Annotated[str, Field(min_length=1)] | None, _Said] = None
    """loose: what the sounds are, such as 'speech'; none: what their top folder is called."""

    metadata: Annotated[str | None, _Said] = None
    """loose: a table (.csv) of path and any of stem, artist, title, genre, split, license, language, tags and
    transcript, which wins over what folders and names say. fma: its tracks.csv; none: that of fma_metadata in the
    folder or beside it."""

    labels: Literal["sort", "ignore"] = "sort"
    """fsd50k: sort clips by their labels into foreground and background, without those of voices and music; or take
    all of them as effects."""

    max_item_s: Annotated[float, Field(gt=0)] = 900.0
    """A song that takes longer is given up, with a row in the rejected table."""

    @model_validator(mode="after")
    def _refuse_other_layouts(self) -> Self:
        of = {
            "make_mixture": ("musdb18", "folders"),
            "pad": ("folders",),
            "mixture": ("folders",),
            "stems": ("folders",),
            "rename": ("folders",),
            "segments": ("folders",),
            **dict.fromkeys(("downmix", "order", "centre_db", "surround_db", "sample_rate"), ("folders", "loose")),
            "bleed": ("moisesdb",),
            "stem": ("loose",),
            "metadata": ("loose", "fma"),
            "labels": ("fsd50k",),
        }
        _refuse_unused(self, self.layout, of)
        return self


class MixtureRecipe(BaseModel):
    """How many mixtures are rendered, and as what; how they are drawn is a mixing recipe (`augment.recipe`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    num: Annotated[int, Field(ge=1)] = 1000
    """Mixtures, drawn from all songs of the corpora."""

    splits: Annotated[dict[str, Annotated[int, Field(ge=1)]] | None, _Said] = None
    """Instead of `num`: splits and how many mixtures each has, drawn from the songs of that split, such as
    '--splits.train 3406'."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Of every draw."""

    on_error: Literal["replace", "reject"] = "replace"
    """A mixture with a file that cannot be read is drawn again, or left out with a row in the rejected table."""

    jams: bool = True
    """Whether each mixture has its annotation as JAMS, as scaper writes it, besides its rows in the table."""

    audio_format: Literal["flac", "wav"] = "flac"
    """Of the files that are written."""

    bit_depth: Annotated[Literal[16, 24], BeforeValidator(_number_if_said)] = 24
    """Of their samples."""

    max_item_s: Annotated[float, Field(gt=0)] = 900.0
    """A mixture that takes longer is given up, with a row in the rejected table."""

    @model_validator(mode="after")
    def _refuse_num_and_splits(self) -> Self:
        default = type(self).model_fields["num"].default
        if self.splits is not None and self.num != default:
            raise ValueError(
                f"field 'num' is {self.num}, and 'splits' says how many mixtures each split has; leave one of "
                "them out"
            )
        return self


class MixedRecipe(MixtureRecipe):
    """A `MixtureRecipe` as `recipe.json` keeps it: with the mixing recipe, and what the corpora's tables hold."""

    mix: dict[str, JsonValue]
    """The mixing recipe, whole."""

    corpora: dict[str, str]
    """By name: a hash of the corpus' tables."""


class ExportRecipe(BaseModel):
    """How a corpus is written in the layout of another project."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    layout: Literal["musdb18", "msst", "lhotse", "huggingface", "csv"]
    """For whom: MUSDB18's readers, Music-Source-Separation-Training, lhotse, Hugging Face datasets, anybody."""

    splits: Annotated[_Names | None, _Said] = None
    """The splits to export, such as 'train,validation'; none: all. Songs of no split count as 'train'."""

    leave_out: _Names = ()
    """Ids of songs to leave out."""

    audio: Literal["copy", "link", "refer"] = "copy"
    """musdb18, msst, lhotse, csv: copy files that can stay as they are, hard-link them where possible, or
    (not musdb18; msst's type 3) refer to where they are."""

    stems: Annotated[dict[str, _Names] | None, _Said] = None
    """musdb18, msst: each stem of the layout, and the stems of the corpus that add up to it: '--stems.other
    bass,drums'; none: by their own names, and with musdb18 the rest as 'other'."""

    silence: bool = False
    """musdb18, msst: write silence for a stem that a song has not; right where nothing of the kind is played."""

    sample_rate: Annotated[Annotated[int, Field(ge=1000)] | None, _Said] = None
    """musdb18, msst: resample songs of other rates to this one; none: songs of several rates are an error."""

    dataset_type: Annotated[Literal[1, 2, 3, 4], BeforeValidator(_number_if_said)] = 1
    """msst: 1 folders of songs, 2 folders of stems, 3 a CSV of files, 4 folders of songs, drawn in step."""

    cuts: Literal["songs", "clips"] = "songs"
    """lhotse: whether a cut is a whole song or a row of the clips table."""

    shard_mb: Annotated[float, Field(gt=0)] = 500.0
    """huggingface: a Parquet file takes songs until it holds this much audio."""

    @model_validator(mode="after")
    def _refuse_other_layouts(self) -> Self:
        of = {
            "audio": ("musdb18", "msst", "lhotse", "csv"),
            "stems": ("musdb18", "msst"),
            "silence": ("musdb18", "msst"),
            "sample_rate": ("musdb18", "msst"),
            "dataset_type": ("msst",),
            "cuts": ("lhotse",),
            "shard_mb": ("huggingface",),
        }
        _refuse_unused(self, self.layout, of)
        return self


class CardRecipe(BaseModel):
    """What the tables of a corpus cannot know about its publication."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    title: Annotated[Annotated[str, Field(min_length=1)] | None, _Said] = None
    """Of the dataset; none: the name of its folder."""

    url: Annotated[Annotated[str, Field(pattern=r"^https?://\S+$")] | None, _Said] = None
    """Where it is, or will be, published."""

    creator: Annotated[Annotated[str, Field(min_length=1)] | None, _Said] = None
    """Who publishes it: a person or an organisation."""

    version: Annotated[Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] | None, _Said] = None
    """Of the dataset, such as 1.0.0."""

    date: Annotated[datetime.date | None, _Said] = None
    """Of its publication, such as 2025-12-31."""


class PackRecipe(BaseModel):
    """How the audio of a corpus is packed: as plain samples, to be read without decoding."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    sample_format: Literal["auto", "int16", "float32"] = "auto"
    """Of the samples; auto: int16 if that loses nothing (all files have 16 bits, and nothing is resampled or mixed
    down), else float32. int16 takes half the space, rounds 24 bits, and refuses what is beyond full scale."""

    sample_rate: Annotated[Annotated[int, Field(ge=1000)] | None, _Said] = None
    """Resample files of other rates to this one, in Hz; none: every file keeps its own."""

    channels: Annotated[Annotated[int, Field(ge=1, le=64)] | None, _Said] = None
    """1 averages the channels, more repeat those of mono files, and other files are rejected; none: as they are."""

    stems: Annotated[_Names | None, _Said] = None
    """The stems to pack, such as 'vocals,drums'; none: all."""

    splits: Annotated[_Names | None, _Said] = None
    """The splits to pack, such as 'train'; none: all, and songs of no split."""

    shard_gib: Annotated[float, Field(gt=0)] = 4.0
    """A file takes stems until it would pass this many GiB."""

    max_item_s: Annotated[float, Field(gt=0)] = 900.0
    """A file that takes longer is given up, with a row in the rejected table."""


def _refuse_unused(recipe: BaseModel, layout: str, of: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse fields that are set, and that the layout has no use for."""
    for name, layouts in of.items():
        value = getattr(recipe, name)
        if layout not in layouts and value != type(recipe).model_fields[name].default:
            raise ValueError(
                f"field '{name}' is {value!r}, and layout '{layout}' has no use for it; leave it out, or use "
                f"{' or '.join(layouts)}"
            )


class SeparationRecipe(BaseModel):
    """What is written of separated files."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    audio_format: Literal["flac", "wav"] = "flac"
    """Of the sources' files."""

    bit_depth: Annotated[Literal[16, 24, 32], BeforeValidator(_number_if_said)] = 24
    """32 are floats, which only wav holds."""

    @model_validator(mode="after")
    def _refuse_float_flac(self) -> Self:
        if self.bit_depth == 32 and self.audio_format != "wav":
            raise ValueError("bit_depth 32 are floats, which flac does not hold; use audio_format wav, or 16 or 24")
        return self


class CleanRecipe(BaseModel):
    """Which stems are cleaned of voices, and when; see `curation.cleaning`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    stems: Annotated[_Names, Field(min_length=1)]
    """That should have no voices, such as 'music,effects'."""

    voices: Annotated[_Names | None, _Said] = None
    """The separator's sources that are voices; none: by their names (vocals, speech, dialogue ...)."""

    witness: Literal["stem", "voice", "either", "none"] = "stem"
    """Where a voice must be heard: in the stem, in what the separator found, or in either; none: the ratio alone
    decides."""

    voiced: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability from which a voice is heard."""

    certain: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Probability that every part with a voice reaches at least once. Where what is left of a cleaned stem reaches
    it too, the voice is still there: that part is damaged."""

    faint_db: float = -30.0
    """Voices that lie further than this below the stem are left in it."""

    damaged_db: float = -3.0
    """Where the voice is louder than this over the stem, what would be left is damaged, and no clip holds it."""

    max_dropped: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A stem of which a larger share is damaged is dropped, and its song with it."""

    pause_steps: Annotated[int, Field(ge=0)] = 3
    """Steps of 0.32 s without a voice, between two with one, that are cleaned all the same."""

    margin_steps: Annotated[int, Field(ge=0)] = 1
    """Steps around a voice that are cleaned too."""

    fade_s: Annotated[float, Field(ge=0)] = 0.05
    """Over which the subtraction sets in, and fades out."""

    min_clip_s: Annotated[float, Field(gt=0)] = 1.0
    """What is left between damaged parts is no clip if it is shorter."""

    audio: Literal["link", "copy"] = "link"
    """How stems that stay as they are come into the new corpus."""

    audio_format: Literal["flac", "wav"] = "flac"
    """Of cleaned stems, and of what was removed."""

    bit_depth: Annotated[Literal[16, 24], BeforeValidator(_number_if_said)] = 24
    """What is beyond full scale, as lossy files may be, is written as floats, in WAV."""


class AnchorRecipe(BaseModel):
    """Where in sounds that are labelled as a whole a label is heard; see `curation.anchors`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    stems: Annotated[_Names | None, _Said] = None
    """That are heard, such as 'effects'; none: all. Of a song only one."""

    mapping: Annotated[str | None, _Said] = None
    """A table of class and label (.csv, .yaml): classes that are one label, or none."""

    unlabelled: Literal["any", "reject"] = "any"
    """In a sound without tags look for any label, or reject it."""

    length_s: Annotated[float, Field(gt=0)] = 2.0
    """Of an anchor; what is no longer is one as a whole."""

    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Of its label, over an anchor, at least."""

    max_other: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of any other label, whether the sound has it or not, over an anchor, at most; 1 lets others sound."""

    per_label: Annotated[Annotated[int, Field(ge=1)] | None, _Said] = 1
    """Anchors of one label in a sound; none: as many as there are."""

    per_song: Annotated[Annotated[int, Field(ge=1)] | None, _Said] = None
    """Anchors in a sound; none: as many as there are."""

    audio: Literal["link", "copy"] = "link"
    """Whether the corpus shares its files with the source where it can (hard links), or has its own."""


_FolderName = Annotated[str, Field(pattern=r"^\w[\w-]*$")]


class LibraryRecipe(Settings, ImportRecipe):
    """A library of sounds: where it is, and how it becomes a corpus."""

    folder: Annotated[str, Field(min_length=1)]
    """Relative to the root."""


class LibraryCleanRecipe(Settings, CleanRecipe):
    """Which stems of the libraries are cleaned of voices, and by what."""

    separator: Annotated[str, Field(min_length=1)]
    """As for 'stemloom separate', such as 'bundled:vocals'."""


class LibraryMixtureRecipe(Settings, MixtureRecipe):
    """A set of mixtures drawn from all libraries."""

    mix: Annotated[str, Field(min_length=1)]
    """The mixing recipe: the name of a ready one, or a YAML file, relative to the root."""


class LibrariesRecipe(Settings):
    """How libraries of sounds become sets of mixtures for the cinema."""

    about: str = ""
    """What this is, for people."""

    libraries: Annotated[dict[_FolderName, LibraryRecipe], Field(min_length=1)]
    """By the names that their corpora get."""

    clean: LibraryCleanRecipe | None = None
    """Before sounds are mixed; none: as they are."""

    mixtures: dict[_FolderName, LibraryMixtureRecipe] = Field(default_factory=dict)
    """By the names that the sets get."""


RECIPES: dict[str, type[BaseModel]] = {
    "catalog": CatalogRecipe,
    "curate": CurateRecipe,
    "import": ImportRecipe,
    "cinematic": MixedRecipe,
    "universal": MixedRecipe,
    "export": ExportRecipe,
    "card": CardRecipe,
    "pack": PackRecipe,
    "separate": SeparationRecipe,
    "clean": CleanRecipe,
    "anchor": AnchorRecipe,
}
"""By the name of the builder in `recipe.json`, which is the command's."""
