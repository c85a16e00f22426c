"""A small music catalogue made in code, and the catalogue build measured against what is true about it.

run          `stemloom demo`: write, build, compare
catalog      the releases of the catalogue, its decoys and its truth tables
releases     one release: lead-in, gain, polarity, clock, codec, tags
sheets       the songs: style, key, tempo, words, artist
score        what is played and sung when
performance  a score to stems
instruments  oscillators, strings, drums
voice        a formant voice that sings
tags         writing tags
"""

from builders.demo.catalog import DemoTruth, write_demo_catalog
from builders.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "DemoTruth", "run_demo", "write_demo_catalog"]
