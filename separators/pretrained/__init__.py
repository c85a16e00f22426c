"""Other people's separators as ours: weights in the formats that they are shared in, programs, Python objects.

demucs      Demucs: its .th files, safetensors and bags, or one of its names
mdx         MDX-Net in ONNX files, as Ultimate Vocal Remover shares them
roformer    BS-RoFormer and Mel-Band RoFormer checkpoints with their YAML
programs    a program that reads the mixture from a file and writes its sources into files
objects     an object of Python's, by its module or file and its name

references  what names a file of weights: a path, or an address with its hash; settings behind it
states      tensors out of files, without running any code of the files'
checked     a separator that is held to what it promises
"""
