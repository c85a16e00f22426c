from .audio import AUDIO_SUFFIXES, Audio, AudioInfo, blocks, content_id, probe, quantise, read, write
from .corpus import CORPUS_ROOT, Corpus, open_corpora
from .crops import CropReader
from .downmix import Surround, stereo_matrix
from .errors import AudioError, BuildError, RecipeError, StemloomError, TableError
from .files import replacing
from .lock import BuildLock
from .loudness import LoudnessMeter, loudness_lufs
from .packed import PackedCorpus, PackedReader, read_index
from .packing import plan_layout
from .recipes import Settings, load_recipe
from .schemas import SCHEMAS
from .tables import (
    TableFormat,
    empty_table,
    find_table,
    frame_of,
    read_table,
    table_path,
    write_table,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "CORPUS_ROOT",
    "SCHEMAS",
    "Audio",
    "AudioError",
    "AudioInfo",
    "BuildError",
    "BuildLock",
    "Corpus",
    "CropReader",
    "LoudnessMeter",
    "PackedCorpus",
    "PackedReader",
    "RecipeError",
    "Settings",
    "StemloomError",
    "Surround",
    "TableError",
    "TableFormat",
    "blocks",
    "content_id",
    "empty_table",
    "find_table",
    "frame_of",
    "load_recipe",
    "loudness_lufs",
    "open_corpora",
    "plan_layout",
    "probe",
    "quantise",
    "read",
    "read_index",
    "read_table",
    "replacing",
    "stereo_matrix",
    "table_path",
    "write",
    "write_table",
]
