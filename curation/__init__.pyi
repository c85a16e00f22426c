from .activity import LevelCurve, LevelMeter, Salience, active_fraction, active_steps, level_curve, salient_segments
from .alignment import Alignment, Segment, align, render
from .anchors import Anchor, AnchorLimits, find_anchors
from .artists import artist_groups, merge_groups
from .balance import Balance, GenreBalance, choose_songs, distribution, song_weights
from .chromaprint import Fingerprint, fingerprint
from .cleaning import Cleaning, CleaningLimits, judge_rest, judge_steps, subtract
from .clips import balanced_test_set, clip_rms, cut_clips, salient_fraction, voiced_fraction
from .defects import Verdict, excess_curve, is_voice_stem, judge, leakage_curve
from .derivation import METHODS, Derivation, derive_vocals
from .evidence import Evidence, decide, weigh
from .gates import GATES, Gate, Gated, GateReport, apply_gates, parse_gate, parse_gates
from .genres import GENRES, normalise_genre, normalise_genres
from .labels import LabelSet, label_set
from .leaks import find_duplicates, find_leaks
from .licenses import (
    License,
    LicenseRow,
    joined_licenses,
    license_table,
    normalise_license,
    stem_licenses,
    unlicensed_songs,
)
from .matching import Match, best_match, best_matches, join_candidates
from .measures import Measures, StemMeter, measure
from .metadata import metadata_candidates
from .songs import choose_pairs, songs_of
from .splits import MUSDB18_VALIDATION, assign_splits
from .tags import Tags, read_tags
from .transfer import Transfer, estimate_transfer
from .versions import Label, label
from .voice import voice_probability

__all__ = [
    "GATES",
    "GENRES",
    "METHODS",
    "MUSDB18_VALIDATION",
    "Alignment",
    "Anchor",
    "AnchorLimits",
    "Balance",
    "Cleaning",
    "CleaningLimits",
    "Derivation",
    "Evidence",
    "Fingerprint",
    "Gate",
    "GateReport",
    "Gated",
    "GenreBalance",
    "Label",
    "LabelSet",
    "LevelCurve",
    "LevelMeter",
    "License",
    "LicenseRow",
    "Match",
    "Measures",
    "Salience",
    "Segment",
    "StemMeter",
    "Tags",
    "Transfer",
    "Verdict",
    "active_fraction",
    "active_steps",
    "align",
    "apply_gates",
    "artist_groups",
    "assign_splits",
    "balanced_test_set",
    "best_match",
    "best_matches",
    "choose_pairs",
    "choose_songs",
    "clip_rms",
    "cut_clips",
    "decide",
    "derive_vocals",
    "distribution",
    "estimate_transfer",
    "excess_curve",
    "find_anchors",
    "find_duplicates",
    "find_leaks",
    "fingerprint",
    "is_voice_stem",
    "join_candidates",
    "joined_licenses",
    "judge",
    "judge_rest",
    "judge_steps",
    "label",
    "label_set",
    "leakage_curve",
    "level_curve",
    "license_table",
    "measure",
    "merge_groups",
    "metadata_candidates",
    "normalise_genre",
    "normalise_genres",
    "normalise_license",
    "parse_gate",
    "parse_gates",
    "read_tags",
    "render",
    "salient_fraction",
    "salient_segments",
    "song_weights",
    "songs_of",
    "stem_licenses",
    "subtract",
    "unlicensed_songs",
    "voice_probability",
    "voiced_fraction",
    "weigh",
]
