"""What we know about tracks and stems: pure functions on arrays and tables.

tags         what a file says about itself
versions     what a title says about the release: instrumental, karaoke, live, remix ...
vocabulary   the words for it in the languages of the world
metadata     which tracks may be one song, by tags and names
chromaprint  fingerprints of tracks
matching     which fingerprints hold one recording
transfer     the filter and level from an instrumental to the mixture that holds it
alignment    lag, drift, polarity and edits
evidence     what two aligned signals are to each other
songs        which pair makes a song; the songs of a corpus
derivation   vocals from a mixture and its instrumental
activity     where a stem sounds, step by step
measures     what a stem measures: level, silence, clipping, bandwidth
gates        which rows of a table of measures pass
genres       tags to one small vocabulary
balance      a corpus with the genres of another
artists      which songs share an artist
splits       training, validation and test: every artist in one
pins         songs that are in a split beforehand
clips        cutting songs into clips, and a balanced test set
leaks        what is nearly the same in two splits, or there twice
voice        whether somebody sings or speaks, by a small network
defects      what is wrong with a song's stems, and its grade
cleaning     voices in stems that should have none: where they are, what is taken out
anchors      where in a sound a class is heard best
labels       what labels of whole sounds mean
licenses     what a song's licence is
"""

import lazy_loader

# each name is imported when it is first used: workers and scripts load what they need, not the whole house
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
