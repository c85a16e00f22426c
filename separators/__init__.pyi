from .baselines import CentreExtraction, HarmonicPercussive, Identity
from .conv_tasnet import ConvTasNet, ConvTasNetConfig
from .ensemble import Cascade, Ensemble
from .loading import load_separator
from .network import Network, NetworkConfig, Outputs
from .open_unmix import OpenUnmix, OpenUnmixConfig
from .overlap_add import NetworkSeparator
from .postprocessing import Postprocessed, Postprocessing
from .resampling import Resampled
from .separator import Separator, separate
from .stft import istft, stft
from .tagging import ClassList, Tagger, load_tagger, read_classes, tag
from .unet import UNet, UNetConfig, singing_voice_config, spleeter_config
from .weights import load_matching, load_network, save_network
from .wiener import wiener_filter

__all__ = [
    "Cascade",
    "CentreExtraction",
    "ClassList",
    "ConvTasNet",
    "ConvTasNetConfig",
    "Ensemble",
    "HarmonicPercussive",
    "Identity",
    "Network",
    "NetworkConfig",
    "NetworkSeparator",
    "OpenUnmix",
    "OpenUnmixConfig",
    "Outputs",
    "Postprocessed",
    "Postprocessing",
    "Resampled",
    "Separator",
    "Tagger",
    "UNet",
    "UNetConfig",
    "istft",
    "load_matching",
    "load_network",
    "load_separator",
    "load_tagger",
    "read_classes",
    "save_network",
    "separate",
    "singing_voice_config",
    "spleeter_config",
    "stft",
    "tag",
    "wiener_filter",
]
