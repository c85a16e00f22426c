"""What may happen to sources and mixtures on the way: transforms that are drawn first and applied later.

rule         what a transform is: settings, drawing, applying
rules        all of them by name; steps and chains of steps
channels     swap, polarity, any order of channels
gain         one gain for all targets, or one for each
filtering    the random band-stop filter of the singing-voice study
warping      its stretch and shift, on waveforms
spectrogram  the study's transforms on batches of magnitude spectrograms (torch)
repitch      pitch and tempo
equalizer    random peaks and shelves
bandwidth    low-pass and high-pass filters
codec        MP3, Vorbis, Opus and back
reverb       synthetic rooms and measured ones
stereo       from mono to stereo, wider and narrower
loudness     loudness and peak of the mixture
limiter      a look-ahead limiter on the mixture
fade         fades in and out
foreign      the waveform transforms of audiomentations
convolution  what filters share
batch        batches on one device (torch)
"""
