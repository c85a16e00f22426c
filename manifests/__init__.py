"""What a corpus is: its tables, the audio that their rows refer to, the errors that name what is wrong.

audio       reading files whole, by crops or by blocks; writing them; their content ids
tables      reading and writing validated tables
schemas     what each table holds
validation  typing and checking a table against its schema
corpus      a folder of both
errors      StemloomError and its leaves
files       files that appear whole or not at all
paths       relative POSIX paths that stay under their root
decoders    libsndfile and FFmpeg behind `audio`
containers  what a file's own header claims, behind `decoders`
"""

from manifests.audio import AUDIO_SUFFIXES, Audio, AudioInfo, blocks, content_id, probe, quantise, read, write
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.errors import AudioError, BuildError, RecipeError, StemloomError, TableError
from manifests.files import replacing
from manifests.schemas import SCHEMAS
from manifests.tables import (
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
    "Corpus",
    "RecipeError",
    "StemloomError",
    "TableError",
    "TableFormat",
    "blocks",
    "content_id",
    "empty_table",
    "find_table",
    "frame_of",
    "probe",
    "quantise",
    "read",
    "read_table",
    "replacing",
    "table_path",
    "write",
    "write_table",
]
