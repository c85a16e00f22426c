"""What takes mixtures apart: networks of the published sizes, and what lets them work on audio of any length.

separator       the protocol: blocks of a mixture in, blocks of its sources out
loading         from a line of text or a YAML file to a separator
overlap_add     a network as a separator: overlapping segments, in a stream
ensemble        several as one: weighted means, one behind another
postprocessing  what is done around one: levels, least squares, mixture consistency, the Wiener filter
remainder       what one leaves of the mixture, as another source
summed          sums of one's sources: drums, bass and other as an accompaniment
resampling      one for audio of other rates and channels
streams         blocks cut alike, read by several, kept on disk
baselines       separators without weights
weights         networks on disk: safetensors with the config inside
pretrained      other people's: Demucs, MDX-Net, RoFormers, programs, Python objects

network         what all networks have in common: sources, rates, settings that go with the weights
stft            audio to spectra and back, any length
wiener          the multichannel Wiener filter
unet            U-Nets on magnitudes: the singing-voice study's and Spleeter's
open_unmix      Open-Unmix, a recurrent network for each target
conv_tasnet     Conv-TasNet for music, on the waveform
bsrnn           band-split RNN
mrx             the multi-resolution cross network, and the one with an activity network
tdcn            TDCN++ and the iterative one, conditioned on what a sound classifier hears
embedder        that classifier: a local ONNX file, or a small one of ours
tagging         one as a detector of sound events, over files of any length
dnn_ds          the small convolutional network for dialogue
ht_demucs       HTDemucs, by its package
bs_roformer     BS-RoFormer and Mel-Band RoFormer, by their package
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
