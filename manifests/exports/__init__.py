"""A corpus in the layouts that other projects read.

musdb18      MUSDB18-HQ's folders, for `musdb` and whatever reads MUSDB18
msst         the dataset types 1 to 4 of Music-Source-Separation-Training
lhotse       recordings and cuts as JSONL, for `lhotse`
huggingface  Parquet that holds the audio, for `datasets`
csv          plain tables, for everything else

Each has an `export(corpus, out, ...)`. They share:

songs        the songs that are exported: checked against their files, named
groups       which stems of the corpus make which stems of the layout
mixing       files decoded side by side and added up
placing      files linked, copied or encoded
names        names for files and folders
folder       a folder that appears when it is complete
"""
