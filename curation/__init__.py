"""What we know about tracks and stems: pure functions on arrays and tables.

tags         what a file says about itself
versions     what a title says about the release: instrumental, karaoke, live, remix ...
vocabulary   the words for it in the languages of the world
metadata     which tracks may be one song, by tags and names
chromaprint  fingerprints of tracks
matching     which fingerprints hold one recording
loudness     BS.1770
transfer     the filter and level from an instrumental to the mixture that holds it
alignment    lag, drift, polarity and edits
evidence     what two aligned signals are to each other
songs        which pair makes a song
derivation   vocals from a mixture and its instrumental
"""

from curation.alignment import Alignment, Segment, align, render
from curation.chromaprint import Fingerprint, fingerprint
from curation.derivation import METHODS, Derivation, derive_vocals
from curation.evidence import Evidence, decide, weigh
from curation.loudness import LoudnessMeter, loudness_lufs
from curation.matching import Match, best_match, best_matches, join_candidates
from curation.metadata import metadata_candidates
from curation.songs import choose_pairs
from curation.tags import Tags, read_tags
from curation.transfer import Transfer, estimate_transfer
from curation.versions import Label, label

__all__ = [
    "METHODS",
    "Alignment",
    "Derivation",
    "Evidence",
    "Fingerprint",
    "Label",
    "LoudnessMeter",
    "Match",
    "Segment",
    "Tags",
    "Transfer",
    "align",
    "best_match",
    "best_matches",
    "choose_pairs",
    "decide",
    "derive_vocals",
    "estimate_transfer",
    "fingerprint",
    "join_candidates",
    "label",
    "loudness_lufs",
    "metadata_candidates",
    "read_tags",
    "render",
    "weigh",
]
