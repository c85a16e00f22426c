"""How Music-Source-Separation-Training finds and reads its data, in as few lines as tell the layouts apart.

Follows `MSSDataset` in its utils/dataset.py and `get_mixture_paths` in its valid.py; knows nothing of stemloom.

    python msst_reader.py DATASET_TYPE DATA_PATH VALID_PATH OUT.npz INSTRUMENT...
"""

import glob
import os
import sys

import numpy as np
import pandas as pd
import soundfile

SUFFIXES = ("wav", "flac")


def read(path):
    return soundfile.read(path, dtype="float32")[0].T


def tracks(dataset_type, data_path, instruments):
    """Instrument to name to path, as training draws them."""
    if dataset_type in (1, 4):
        return folders(data_path, instruments)
    if dataset_type == 2:
        return {
            instrument: {
                os.path.splitext(os.path.basename(path))[0]: path
                for suffix in SUFFIXES
                for path in sorted(glob.glob(f"{data_path}/{instrument}/*.{suffix}"))
            }
            for instrument in instruments
        }
    rows = pd.read_csv(data_path)
    return {
        instrument: {str(n): p for n, p in enumerate(rows[rows["instrum"] == instrument]["path"])}
        for instrument in instruments
    }


def folders(data_path, instruments):
    """Types 1 and 4: visible folders, and in each a file for each instrument, WAV before FLAC."""
    found = {instrument: {} for instrument in instruments}
    for folder in sorted(glob.glob(f"{data_path}/*")):
        name = os.path.basename(folder)
        if name[0] == "." or not os.path.isdir(folder):
            continue
        for instrument in instruments:
            paths = [f"{folder}/{instrument}.{suffix}" for suffix in SUFFIXES]
            found[instrument][name] = next(path for path in paths if os.path.isfile(path))
        lengths = {soundfile.info(found[instrument][name]).frames for instrument in instruments}
        assert len(lengths) == 1, f"{folder}: lengths of stems are different"
    return found


def validation(valid_path, instruments):
    """What validation looks for: a mixture of one suffix, and the instruments beside it."""
    mixtures = sorted(glob.glob(f"{valid_path}/*/mixture.wav"))
    return {
        stem: {
            os.path.basename(os.path.dirname(path)): os.path.join(os.path.dirname(path), f"{stem}.wav")
            for path in mixtures
        }
        for stem in ("mixture", *instruments)
    }


def heard(paths):
    """The same with audio for paths."""
    return {stem: {name: read(path) for name, path in named.items()} for stem, named in paths.items()}


def main(dataset_type, data_path, valid_path, out, *instruments):
    train = heard(tracks(int(dataset_type), data_path, instruments))
    valid = heard(validation(valid_path, instruments))
    both = {"train": train, "valid": valid}
    np.savez(
        out,
        **{
            f"{split}|{stem}|{name}": audio
            for split, stems in both.items()
            for stem, named in stems.items()
            for name, audio in named.items()
        },
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
