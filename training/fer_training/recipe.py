"""Recipes: everything that decides a training result, read from a TOML file and checked field by field.

A recipe has no defaults. What is not written in `training/recipes/<name>.toml` does not happen, so the file alone
says how a published network was made. Read by `train`, kept whole in every checkpoint.
"""

import re
import sys
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from fer_contract import FACE_SIZE_PX
from fer_training.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Section = TypeVar("Section")


@dataclass(frozen=True)
class Between:
    """Inclusive limits of a number, or of each number in a list."""

    low: float
    high: float


@dataclass(frozen=True)
class NetworkRecipe:
    """Shape of the network; see `network.Classifier`."""

    stem_channels: Annotated[int, Between(1, 512)]
    """Channels after the first convolution, which halves 48 px to 24 px."""
    widths: Annotated[tuple[int, ...], Between(1, 1024)]
    """Channels of each stage. Every stage but the first halves the resolution."""
    blocks: Annotated[tuple[int, ...], Between(1, 16)]
    """Residual blocks of each stage, as many numbers as `widths` has."""
    dropout: Annotated[float, Between(0.0, 0.9)]
    """Probability of dropping a pooled feature before the last layer."""


@dataclass(frozen=True)
class AugmentationRecipe:
    """Random changes to each training image; see `augmentation.augment`."""

    view_px: Annotated[int, Between(24, FACE_SIZE_PX)]
    """Side of the random crop that training sees. Smaller is faster; evaluation always sees 48 px."""
    full_view_epochs: Annotated[int, Between(0, 1000)]
    """Last epochs trained on the whole 48 px, so that the statistics fit what the network will be given."""
    flip_probability: Annotated[float, Between(0.0, 1.0)]
    rotation_deg: Annotated[float, Between(0.0, 45.0)]
    """Largest rotation either way."""
    scale: Annotated[float, Between(0.0, 0.5)]
    """Largest relative zoom in or out."""
    shift_px: Annotated[float, Between(0.0, 12.0)]
    """Largest shift either way, besides the crop's."""
    brightness: Annotated[float, Between(0.0, 1.0)]
    """Largest offset either way, as a part of the 0..255 range."""
    contrast: Annotated[float, Between(0.0, 0.9)]
    """Largest relative change of the contrast either way."""
    erasing_probability: Annotated[float, Between(0.0, 1.0)]
    """Probability that one rectangle is painted mid-gray."""
    erasing_side: Annotated[float, Between(0.05, 0.9)]
    """Longest side of that rectangle, as a part of the view's."""


@dataclass(frozen=True)
class OptimisationRecipe:
    """SGD with Nesterov momentum, linear warm-up, cosine decay to zero; see `optimisation`."""

    epochs: Annotated[int, Between(1, 1000)]
    batch_size: Annotated[int, Between(2, 8192)]
    learning_rate: Annotated[float, Between(1e-6, 10.0)]
    """Peak, reached at the end of the warm-up."""
    warmup_epochs: Annotated[float, Between(0.0, 100.0)]
    momentum: Annotated[float, Between(0.0, 0.999)]
    weight_decay: Annotated[float, Between(0.0, 1.0)]
    """Of the weights of convolutions and the last layer; biases and batch norm have none."""
    label_smoothing: Annotated[float, Between(0.0, 0.5)]
    average_decay: Annotated[float, Between(0.0, 0.99999)]
    """Per step, of the moving average of the weights, which is what gets evaluated and exported."""


@dataclass(frozen=True)
class Recipe:
    """One training run, completely described but for the data and the machine."""

    name: str
    """The file's name without `.toml`: letters, digits, `.`, `-` and `_`, as it becomes the network's version."""
    seed: Annotated[int, Between(0, 2**31 - 1)]
    network: NetworkRecipe
    augmentation: AugmentationRecipe
    optimisation: OptimisationRecipe


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe.

    Raises:
        RecipeError: the file is missing or not TOML, or a field is missing, unknown, of the wrong type or out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}). Give --recipe a .toml file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: is not TOML: {error}") from error
    return recipe_from_table({"name": path.stem, **table}, str(path))


def recipe_from_table(table: dict[str, Any], origin: str) -> Recipe:
    """Builds a checked recipe from nested dictionaries, as TOML or a checkpoint holds them.

    Args:
        table: the fields of `Recipe`, sections as dictionaries.
        origin: the file they came from, for error messages.

    Raises:
        RecipeError: a field is missing, unknown, of the wrong type or out of range.
    """
    recipe = _build(Recipe, table, f"{origin}: ")
    network, augmentation = recipe.network, recipe.augmentation
    if not re.fullmatch(r"[\w.-]+", recipe.name, re.ASCII):
        raise RecipeError(f"{origin}: a recipe's file name must be letters, digits, '.', '-' and '_'. Rename it.")
    if len(network.widths) != len(network.blocks):
        raise RecipeError(
            f"{origin}: network.blocks must have as many numbers as network.widths ({len(network.widths)}), "
            f"but has {len(network.blocks)}."
        )
    if augmentation.full_view_epochs > recipe.optimisation.epochs:
        raise RecipeError(
            f"{origin}: augmentation.full_view_epochs must be at most optimisation.epochs "
            f"({recipe.optimisation.epochs}), but is {augmentation.full_view_epochs}."
        )
    return recipe


def _build(section: type[Section], table: dict[str, Any], prefix: str) -> Section:
    """Builds one dataclass from one table. `prefix` is what error messages put before a field's name."""
    hints = get_type_hints(section, include_extras=True)
    for name in table:
        if name not in hints:
            raise RecipeError(f"{prefix}{name} is not a field. Known here: {', '.join(hints)}.")
    values = {}
    for name, hint in hints.items():
        if name not in table:
            raise RecipeError(f"{prefix}{name} is missing. A recipe has no defaults: write it down.")
        values[name] = _read_field(hint, table[name], f"{prefix}{name}")
    return section(**values)


def _read_field(hint: Any, value: Any, name: str) -> Any:
    """Checks one value against its field's annotation and converts lists to tuples, whole numbers to floats."""
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise RecipeError(f"{name} must be a section ([{name.rpartition(' ')[2]}]), but is {value!r}.")
        return _build(hint, value, f"{name}.")
    if hint is str:
        if not isinstance(value, str):
            raise RecipeError(f"{name} must be text, but is {value!r}.")
        return value
    kind, limits = get_args(hint)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise RecipeError(f"{name} must be a list of whole numbers, but is {value!r}.")
        return tuple(_read_number(int, limits, item, name) for item in value)
    return _read_number(kind, limits, value, name)


def _read_number(kind: type, limits: Between, value: Any, name: str) -> float:
    """Checks one number. TOML's `true` is no number here, although Python takes it for one."""
    wanted = "a whole number" if kind is int else "a number"
    fits = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not fits or not limits.low <= value <= limits.high:
        raise RecipeError(f"{name} must be {wanted} from {limits.low:g} to {limits.high:g}, but is {value!r}.")
    return kind(value)  # type: ignore[no-any-return]
