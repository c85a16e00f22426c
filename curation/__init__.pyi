from .alignment import Alignment, Segment, align, render
from .chromaprint import Fingerprint, fingerprint
from .derivation import METHODS, Derivation, derive_vocals
from .evidence import Evidence, decide, weigh
from .loudness import LoudnessMeter, loudness_lufs
from .matching import Match, best_match, best_matches, join_candidates
from .metadata import metadata_candidates
from .songs import choose_pairs
from .tags import Tags, read_tags
from .transfer import Transfer, estimate_transfer
from .versions import Label, label

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
