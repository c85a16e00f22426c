from .anchors import AnchorBuilder
from .cache import ResultCache, cache_key
from .card import Card, write_card
from .catalog import CatalogBuilder
from .check import check_build
from .clean import CleanBuilder
from .curate import CurateBuilder
from .engine import Failure, LocalEngine, Outcome
from .exports import export_corpus
from .imports import ImportBuilder
from .libraries import Libraries, LibrariesBuilder, load_libraries
from .listen import write_examples
from .mixtures import MixtureBuilder
from .pack import PackBuilder, Packed
from .recipe import (
    AnchorRecipe,
    CardRecipe,
    CatalogRecipe,
    CleanRecipe,
    CurateRecipe,
    ExportRecipe,
    ImportRecipe,
    LibrariesRecipe,
    MixtureRecipe,
    PackRecipe,
    SeparationRecipe,
)
from .report import write_report
from .separation import Separated, separate_files
from .stage import Product, Stage, run_stage

__all__ = [
    "AnchorBuilder",
    "AnchorRecipe",
    "Card",
    "CardRecipe",
    "CatalogBuilder",
    "CatalogRecipe",
    "CleanBuilder",
    "CleanRecipe",
    "CurateBuilder",
    "CurateRecipe",
    "ExportRecipe",
    "Failure",
    "ImportBuilder",
    "ImportRecipe",
    "Libraries",
    "LibrariesBuilder",
    "LibrariesRecipe",
    "LocalEngine",
    "MixtureBuilder",
    "MixtureRecipe",
    "Outcome",
    "PackBuilder",
    "PackRecipe",
    "Packed",
    "Product",
    "ResultCache",
    "Separated",
    "SeparationRecipe",
    "Stage",
    "cache_key",
    "check_build",
    "export_corpus",
    "load_libraries",
    "run_stage",
    "separate_files",
    "write_card",
    "write_examples",
    "write_report",
]
