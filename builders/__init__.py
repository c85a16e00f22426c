"""What does things: stages composed into builders, the engines that run them, the cache, the reports."""

from builders.cache import BuildLock, ResultCache, cache_key
from builders.catalog import CatalogBuilder
from builders.check import check_build
from builders.engine import Failure, LocalEngine, Outcome
from builders.recipe import CatalogRecipe, load_recipe
from builders.report import write_report
from builders.stage import Product, Stage, run_stage

__all__ = [
    "BuildLock",
    "CatalogBuilder",
    "CatalogRecipe",
    "Failure",
    "LocalEngine",
    "Outcome",
    "Product",
    "ResultCache",
    "Stage",
    "cache_key",
    "check_build",
    "load_recipe",
    "run_stage",
    "write_report",
]
