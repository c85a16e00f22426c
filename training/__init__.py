"""What a separator is trained with and measured by.

losses   what a training step minimises, on torch tensors
metrics  how good a separation is, on arrays
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
