from .alias import AliasTable, alias_table
from .dataset import MixtureDataset, MixtureStream, collate
from .distributions import Count, Distribution
from .draw import draw
from .plan import Event, MixturePlan, plans_of, plans_table
from .pool import Pool, make_pool
from .recipe import MixRecipe, SourceRule, load_mix, mix_names
from .render import Mixture, render

__all__ = [
    "AliasTable",
    "Count",
    "Distribution",
    "Event",
    "MixRecipe",
    "Mixture",
    "MixtureDataset",
    "MixturePlan",
    "MixtureStream",
    "Pool",
    "SourceRule",
    "alias_table",
    "collate",
    "draw",
    "load_mix",
    "make_pool",
    "mix_names",
    "plans_of",
    "plans_table",
    "render",
]
