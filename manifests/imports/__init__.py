"""Collections of recorded stems, as they lie in somebody's folder.

musdb18      MUSDB18-HQ, and what `manifests.exports.musdb18` writes
moisesdb     MoisesDB: a folder for each song with a `data.json`, and a folder for each stem
folders      a folder for each song with a file for each stem
loose        a file for each sound: libraries of speech, music, effects
librispeech  LibriSpeech: read books
fma          FMA: music, with voices in much of it
fsd50k       FSD50K: sounds by their labels

Each has a `find_songs(folder, ...)`; `songs` holds what a found song is, and takes it into a corpus.
"""
