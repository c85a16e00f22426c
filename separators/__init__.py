"""Networks that separate: the published sizes, behind one face.

network      what all networks have in common: sources, rates, settings that go with the weights
stft         audio to spectra and back, any length
unet         U-Nets on magnitudes: the singing-voice study's and Spleeter's
open_unmix   Open-Unmix, a recurrent network for each target
wiener       the multichannel Wiener filter behind Open-Unmix
conv_tasnet  Conv-TasNet for music, on the waveform
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
