"""What does things: stages composed into builders, the engines that run them, the cache, the reports."""

from builders.cache import BuildLock, ResultCache, cache_key
from builders.engine import Failure, LocalEngine, Outcome

__all__ = ["BuildLock", "Failure", "LocalEngine", "Outcome", "ResultCache", "cache_key"]
