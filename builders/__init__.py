"""What does things: stages composed into builders, the engines that run them, the cache, the reports."""

import lazy_loader

# each name is imported when it is first used: workers and scripts load what they need, not the whole house
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
