"""Training mixtures out of corpora: drawn as plans, rendered as audio, streamed to torch or written to disk.

recipe         how mixtures are drawn, as a person writes it; ready recipes by name
distributions  numbers and counts that a recipe leaves to chance
pool           what the sources of a recipe can be drawn from
alias          weighted draws in constant time
draw           a plan out of a recipe, a pool and (seed, epoch, index)
plan           what a mixture is made of, and its rows in the mixtures table
render         audio out of a plan
mixer          mixtures by their number, drawn again where a file cannot be read
reading        where sources are read from: packed stores, or files
transforms     what happens to sources and targets on the way
dataset        mixtures for torch
jams, scaper   what scaper writes and draws as plans, and plans as JAMS (soundscape, annotation: how)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
