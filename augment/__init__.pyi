from .alias import AliasTable, alias_table
from .dataset import MixtureDataset, MixtureStream, collate
from .distributions import Count, Distribution
from .draw import draw
from .jams import jams_of_plan, jams_roots, plan_of_jams, write_jams
from .mixer import Mixer
from .plan import Event, MixturePlan, plans_of, plans_table
from .pool import Pool, make_pool
from .reading import PoolReader
from .recipe import MixRecipe, SourceRule, load_mix, mix_names
from .render import Mixture, render
from .scaper import plans_of_scaper, scaper_roots

__all__ = [
    "AliasTable",
    "Count",
    "Distribution",
    "Event",
    "MixRecipe",
    "Mixer",
    "Mixture",
    "MixtureDataset",
    "MixturePlan",
    "MixtureStream",
    "Pool",
    "PoolReader",
    "SourceRule",
    "alias_table",
    "collate",
    "draw",
    "jams_of_plan",
    "jams_roots",
    "load_mix",
    "make_pool",
    "mix_names",
    "plan_of_jams",
    "plans_of",
    "plans_of_scaper",
    "plans_table",
    "render",
    "scaper_roots",
    "write_jams",
]
