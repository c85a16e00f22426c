"""What makes a separator out of mixtures, and measures it.

recipe       what a person writes: YAML, and the ready recipes
loop         the training loop, to be read from top to bottom
making       the network, what of it is trained, the optimizer
checks       what can be wrong with a training before its first step
batches      where mixtures come from
objective    a network and what its training minimises, as one module
losses       what a training step minimises, on torch tensors
assignments  which estimate stands for which target
schedule     the learning rate, and when training has stopped to improve
validation   how good a network is during training
journal      metrics.jsonl and TensorBoard
runs         a run's folder
processes    those that train together

evaluation   a separator measured on a corpus (behind it targets, songs, measurement, scores, excerpts, records)
metrics      SDR, SNR, SI-SDR and its parts, on arrays
bsseval      BSSEval v4
perceptual   the 2f-model
oracles      separations that know the answer
listening    material for listening tests (behind it trials)

study        what a study is: variants of a recipe, seeds, tests
ablation     running one (behind it variants, workers)
comparison   its tables
statistics   paired tests, Holm's correction, effect sizes, seeds as a random effect
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
