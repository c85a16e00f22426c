from .conv_tasnet import ConvTasNet, ConvTasNetConfig
from .network import Network, NetworkConfig
from .open_unmix import OpenUnmix, OpenUnmixConfig
from .stft import istft, stft
from .unet import UNet, UNetConfig, singing_voice_config, spleeter_config
from .wiener import wiener_filter

__all__ = [
    "ConvTasNet",
    "ConvTasNetConfig",
    "Network",
    "NetworkConfig",
    "OpenUnmix",
    "OpenUnmixConfig",
    "UNet",
    "UNetConfig",
    "istft",
    "singing_voice_config",
    "spleeter_config",
    "stft",
    "wiener_filter",
]
