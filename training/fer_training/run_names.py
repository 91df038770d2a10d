"""Names of runs, which begin with their recipe's: `averaged-seed2`, `posed-fold3`, `polished-soup`."""

import re


def with_seed(name: str, seed: int) -> str:
    """The name of a run with another seed than its recipe's."""
    return f"{name}-seed{seed}"


def with_fold(name: str, fold: int) -> str:
    """The name of a run that one fold validates."""
    return f"{name}-fold{fold}"


def soup_of(name: str) -> str:
    """The name of the mean of several runs, from one run's."""
    return re.sub(r"-seed\d+", "", name) + "-soup"


def recipe_of(name: str) -> str:
    """The recipe's name, from a run's."""
    return re.sub(r"(-seed\d+|-fold\d+|-soup)*$", "", name)
