"""What a corpus is: its tables, the audio that their rows refer to, the errors that name what is wrong.

audio       reading files whole, by crops or by blocks; writing them; their content ids
tables      reading and writing validated tables
schemas     what each table holds
validation  typing and checking a table against its schema
corpus      a folder of both
loudness    integrated loudness and peak, as BS.1770 says
downmix     surround sound to stereo
recipes     settings as a person writes them, and what is wrong with them
crops       many short crops out of many files
packed      a corpus' audio as plain samples, to be read without decoding
packing     laying out and writing these
errors      StemloomError and its leaves
orphans     workers that end with the process that started them
installed   which versions of packages are installed
files       files that appear whole or not at all
paths       relative POSIX paths that stay under their root
decoders    libsndfile and FFmpeg behind `audio`
containers  what a file's own header claims, behind `decoders`
encoding    WAV and FLAC, whole or block by block, behind `audio`
exports     a corpus in the layouts that other projects read
imports     songs as they lie in other projects' folders
"""

import lazy_loader

# each name is imported when it is first used: workers and scripts load what they need, not the whole house
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
