from .cache import BuildLock, ResultCache, cache_key
from .catalog import CatalogBuilder
from .check import check_build
from .engine import Failure, LocalEngine, Outcome
from .recipe import CatalogRecipe, load_recipe
from .report import write_report
from .stage import Product, Stage, run_stage

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
