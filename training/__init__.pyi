from .ablation import Ablation, StudyTick, run_study
from .assignments import mixit, one_and_rest, permutation_invariant
from .bsseval import BssEval, bss_eval
from .checks import check_training
from .comparison import comparisons, summaries
from .evaluation import Evaluation, evaluate
from .listening import ListeningItem, RemixSettings, write_listening_test
from .loop import Tick, TrainedRun, train
from .losses import (
    Loss,
    activity_cross_entropy,
    guided_cross_entropy,
    l1_loss,
    magnitude_l1,
    magnitude_mse,
    magnitudes,
    mixture_consistency,
    mse_loss,
    multi_resolution_stft,
    negative_si_sdr,
    negative_snr,
)
from .making import make_network
from .measurement import EvaluationSettings
from .metrics import Summary, improvements, measure, sdr, si_metrics, si_sdr, snr, summarise
from .objective import Objective
from .oracles import ORACLES, ideal_binary_mask, ideal_ratio_mask, scaled_identity
from .perceptual import PeaqBackend, PeaqProgram, two_f_model, two_f_scores
from .recipe import LossRule, TrainRecipe, load_training, training_names
from .statistics import AcrossSeeds, Effect, Paired, across_seeds, effect, holm, paired_t, wilcoxon
from .study import StudyRecipe, load_study, study_names
from .trials import listening_items
from .validation import Validation, validate

__all__ = [
    "ORACLES",
    "Ablation",
    "AcrossSeeds",
    "BssEval",
    "Effect",
    "Evaluation",
    "EvaluationSettings",
    "ListeningItem",
    "Loss",
    "LossRule",
    "Objective",
    "Paired",
    "PeaqBackend",
    "PeaqProgram",
    "RemixSettings",
    "StudyRecipe",
    "StudyTick",
    "Summary",
    "Tick",
    "TrainRecipe",
    "TrainedRun",
    "Validation",
    "across_seeds",
    "activity_cross_entropy",
    "bss_eval",
    "check_training",
    "comparisons",
    "effect",
    "evaluate",
    "guided_cross_entropy",
    "holm",
    "ideal_binary_mask",
    "ideal_ratio_mask",
    "improvements",
    "l1_loss",
    "listening_items",
    "load_study",
    "load_training",
    "magnitude_l1",
    "magnitude_mse",
    "magnitudes",
    "make_network",
    "measure",
    "mixit",
    "mixture_consistency",
    "mse_loss",
    "multi_resolution_stft",
    "negative_si_sdr",
    "negative_snr",
    "one_and_rest",
    "paired_t",
    "permutation_invariant",
    "run_study",
    "scaled_identity",
    "sdr",
    "si_metrics",
    "si_sdr",
    "snr",
    "study_names",
    "summaries",
    "summarise",
    "train",
    "training_names",
    "two_f_model",
    "two_f_scores",
    "validate",
    "wilcoxon",
    "write_listening_test",
]
