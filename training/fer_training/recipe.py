"""Recipes: everything that decides a training result, read from a TOML file and checked field by field.

What a recipe does not name does not happen: fields may be left out only where that means "off" or "none", so the file
alone says how a published network was made. One that begins with `extends = "other.toml"`, a file beside it, is that
one but for the fields and sections that it names; it can leave none out. Read by `train`, kept whole in checkpoints.
"""

import re
import sys
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

from fer_contract import FACE_SIZE_PX
from fer_training.backbones import ATTENTIONS, BACKBONES, REPCONV
from fer_training.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Section = TypeVar("Section")

LOGITS_SUFFIX: Final = ".npz"
CONVERTED_SUFFIX: Final = ".npz"
EXTENDS: Final = "extends"


@dataclass(frozen=True)
class Between:
    """Inclusive limits of a number, or of each number in a list or table."""

    low: float
    high: float


@dataclass(frozen=True)
class OneOf:
    """The values that a text may have."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class RepconvRecipe:
    """Shape of the backbone `repconv`; see `backbones.repconv`."""

    stem_channels: Annotated[int, Between(1, 512)]
    """Channels after the first convolution, which halves the resolution."""
    stages: Annotated[tuple[tuple[int, ...], ...], Between(1, 1024)]
    """Channels of each convolution, stage by stage. Every stage but the first halves the resolution."""
    branches: bool = True
    """Whether each convolution is trained as a sum of a 3x3, a 1x1 and an identity one."""


@dataclass(frozen=True)
class NetworkRecipe:
    """The network; see `network.Classifier`."""

    backbone: Annotated[str, OneOf(BACKBONES)]
    input_px: Annotated[int, Between(32, 512)] = FACE_SIZE_PX
    """Side to which the network enlarges the 48 px that it is given."""
    channels: Annotated[int, Between(1, 3)] = 1
    """1, or 3 for a network made for colour: the gray is repeated."""
    attention: Annotated[str, OneOf(ATTENTIONS)] = "none"
    width: Annotated[float, Between(0.1, 4.0)] = 1.0
    """Factor on all channel counts of a backbone that has a paper's."""
    local_regions: bool = False
    """Whether eyes and mouth get a small network of their own besides."""
    equalise: bool = False
    """Whether the network equalises each face's histogram first."""
    normalise_appearance: bool = False
    """Whether the network evens out each face's light and sharpness first; see `appearance`."""
    dropout: Annotated[float, Between(0.0, 0.9)] = 0.0
    """Probability of dropping a feature before the last layer."""
    repconv: RepconvRecipe | None = None

    def has_weights_of(self, other: "NetworkRecipe") -> bool:
        """Tell whether the other network's weights mean the same in this one: all but the dropout is alike."""
        return replace(self, dropout=other.dropout) == other

    def can_start_from(self, other: "NetworkRecipe") -> bool:
        """Tell whether the other network's weights fit this one, so that training can adapt them to the rest."""
        return self.has_weights_of(replace(other, normalise_appearance=self.normalise_appearance))


@dataclass(frozen=True)
class DataRecipe:
    """Training images to leave out besides those that always are; see `fer2013.load_training_data`."""

    drop_conflicting: bool = False
    """Identical images with different labels."""
    drop_no_face: bool = False
    """Images that FER+'s people say have no face."""
    hold_out: bool = False
    """The same 2,000 images for every run, which watch it in PublicTest's place; see `fer2013.choose_held_out`."""


@dataclass(frozen=True)
class AugmentationRecipe:
    """Random changes to each training image; see `augmentation.augment`."""

    view_px: Annotated[int, Between(24, FACE_SIZE_PX)]
    """Side of the random crop that training sees. Smaller is faster; evaluation always sees 48 px."""
    full_view_epochs: Annotated[int, Between(0, 1000)]
    """Last epochs trained on the whole 48 px, so that the statistics fit what the network will be given."""
    flip_probability: Annotated[float, Between(0.0, 1.0)] = 0.0
    rotation_deg: Annotated[float, Between(0.0, 45.0)] = 0.0
    """Largest rotation either way."""
    scale: Annotated[float, Between(0.0, 0.5)] = 0.0
    """Largest relative zoom in or out."""
    shift_px: Annotated[float, Between(0.0, 12.0)] = 0.0
    """Largest shift either way in px of the 48, besides the crop's."""
    brightness: Annotated[float, Between(0.0, 0.9)] = 0.0
    """Largest relative change of all pixel values."""
    contrast: Annotated[float, Between(0.0, 0.9)] = 0.0
    """Largest relative change of the distances from mid-gray."""
    noise: Annotated[float, Between(0.0, 64.0)] = 0.0
    """Largest standard deviation of Gaussian noise, in steps of the 0..255 range."""
    erasing_probability: Annotated[float, Between(0.0, 1.0)] = 0.0
    """Probability that one rectangle is painted mid-gray."""
    erasing_side: Annotated[float, Between(0.05, 0.9)] = 0.05
    """Longest side of that rectangle, as a part of the view's."""
    mixup_alpha: Annotated[float, Between(0.0, 4.0)] = 0.0
    """Parameter of the Beta distribution of mixup's weights; 0 mixes nothing."""


@dataclass(frozen=True)
class CaptureRecipe:
    """Damage by cameras, distance and files, to a part of the training images; see `augmentation.degrade`."""

    probability: Annotated[float, Between(0.0, 1.0)]
    """Part of each batch that is changed, each image in one or two of the following ways."""
    darkest: Annotated[float, Between(0.01, 1.0)] = 1.0
    """Least factor on the pixels. The logarithm of the factor is uniform."""
    brightest: Annotated[float, Between(1.0, 4.0)] = 1.0
    """Largest factor on the pixels; what exceeds 255 is cut off."""
    noise: Annotated[float, Between(0.0, 64.0)] = 0.0
    """Largest standard deviation of Gaussian noise, in steps of the 0..255 range, after the light."""
    blur_px: Annotated[float, Between(0.0, 4.0)] = 0.0
    """Largest standard deviation of a Gaussian blur, in px of the 48."""
    smallest_px: Annotated[int, Between(8, FACE_SIZE_PX)] = FACE_SIZE_PX
    """Least side of the face that is enlarged to 48 px again."""
    jpeg_quality: Annotated[int, Between(1, 100)] = 100
    """Lowest quality of JPEG; 100 is none."""


@dataclass(frozen=True)
class LossRecipe:
    """Training targets and their weights; see `losses`."""

    label_smoothing: Annotated[float, Between(0.0, 0.5)] = 0.0
    class_weights: Annotated[dict[str, float], Between(0.1, 10.0)] = field(default_factory=dict)
    """Factor on the loss of images of a class, by its name; classes not named have 1."""
    focal_gamma: Annotated[float, Between(0.0, 5.0)] = 0.0
    """How much more hard examples weigh; 0 weighs all alike."""
    votes_as_labels: Annotated[float, Between(0.0, 1.0)] = 0.0
    """Part of the target that FER+ votes make; the label makes the rest."""
    votes_auxiliary: Annotated[float, Between(0.0, 10.0)] = 0.0
    """Weight of a second head's loss that predicts the FER+ votes themselves, in training only."""


@dataclass(frozen=True)
class DistillationRecipe:
    """Learning from networks trained before; see `distillation`."""

    teachers: tuple[str, ...]
    """Names of their recipes, whose checkpoints are `<runs>/<name>/checkpoint.pt`; or, with `.onnx` or `.npz` at the
    end, of exported files or kept answers, `<runs>/<name>`."""
    temperature: Annotated[float, Between(1.0, 20.0)]
    weight: Annotated[float, Between(0.0, 1.0)]
    """Part of the loss that is the distance to the teachers; labels make the rest."""
    views: Annotated[str, OneOf(("augmented", "plain"))]
    """What the teachers see: the student's augmented view of each step, or once and for all the plain image and its
    mirror image, which costs next to nothing."""


@dataclass(frozen=True)
class OptimisationRecipe:
    """Optimiser, its learning rate over time, and the average of the weights; see `optimisation`."""

    optimiser: Annotated[str, OneOf(("sgd", "adamw"))]
    """SGD is with Nesterov momentum."""
    epochs: Annotated[int, Between(1, 1000)]
    batch_size: Annotated[int, Between(2, 8192)]
    learning_rate: Annotated[float, Between(1e-6, 10.0)]
    """Peak, reached at the end of the linear warm-up; a cosine leads from there to zero."""
    warmup_epochs: Annotated[float, Between(0.0, 100.0)]
    momentum: Annotated[float, Between(0.0, 0.999)]
    """AdamW: its first beta. The second is 0.999."""
    weight_decay: Annotated[float, Between(0.0, 1.0)]
    """Decay of the weights of convolutions and linear layers; biases and batch norm have none."""
    average_decay: Annotated[float, Between(0.0, 0.99999)]
    """Per step, of the moving average of the weights, which is what gets evaluated and exported."""
    gradient_clip: Annotated[float, Between(0.0, 1000.0)] = 0.0
    """Largest norm of the gradient; 0 clips nothing."""
    backbone_rate: Annotated[float, Between(0.0, 1.0)] = 1.0
    """Factor on the learning rate of the backbone's weights. The last layers, which start anew where those do not, have
    the rate as it is."""
    frozen_epochs: Annotated[int, Between(0, 1000)] = 0
    """First epochs in which only the last layers learn."""
    fresh_statistics: bool = False
    """Whether the averaged network's batch norms are given new statistics after the last epoch, of the whole training
    images as they are: those gathered in training are of cropped and partly hidden ones."""


@dataclass(frozen=True)
class Recipe:
    """One training run, completely described but for the data and the machine."""

    name: str
    """The file's name without `.toml`: letters, digits, `.`, `-` and `_`, as it becomes the network's version."""
    seed: Annotated[int, Between(0, 2**31 - 1)]
    network: NetworkRecipe
    augmentation: AugmentationRecipe
    loss: LossRecipe
    optimisation: OptimisationRecipe
    starts_from: str = ""
    """Name of a finished run of the same network, with whose averaged weights this one starts; or, with `.npz` at the
    end, of a file of `fer-train convert-dlib` beside the runs. Without it the weights are drawn from the seed."""
    data: DataRecipe = field(default_factory=DataRecipe)
    capture: CaptureRecipe | None = None
    distillation: DistillationRecipe | None = None

    @property
    def needs_votes(self) -> bool:
        """Tell whether the run works with FER+ votes."""
        return bool(self.loss.votes_as_labels or self.loss.votes_auxiliary or self.data.drop_no_face)


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: The file is missing or not TOML, or a field is missing, unknown, of the wrong type or out of range,
            or it extends a recipe that extends another.
    """
    table = _read_toml(path)
    if EXTENDS in table:
        base = path.parent / _read_text(None, table.pop(EXTENDS), f"{path}: {EXTENDS}")
        extended = _read_toml(base)
        if EXTENDS in extended:
            raise RecipeError(f"{path}: {base.name}, which it extends, extends another one. Extend that one.")
        table = _merge(Recipe, extended, table)
    return recipe_from_table({"name": path.stem, **table}, str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}). Give --recipe a .toml file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: is not TOML: {error}") from error
    return table


def _merge(section: type[Any], base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge one section's fields, those of `base` where the changes do not name them, and its sections likewise."""
    hints = get_type_hints(section, include_extras=True)
    merged = dict(base)
    for name, value in changes.items():
        inner = _find_section(hints.get(name))
        if inner is not None and isinstance(base.get(name), dict) and isinstance(value, dict):
            merged[name] = _merge(inner, base[name], value)
        else:
            merged[name] = value
    return merged


def recipe_from_table(table: dict[str, Any], origin: str) -> Recipe:
    """Build a checked recipe from nested dictionaries, as TOML or a checkpoint holds them.

    Args:
        table: The fields of `Recipe`, sections as dictionaries.
        origin: The file they came from, for error messages.

    Raises:
        RecipeError: A field is missing, unknown, of the wrong type or out of range.
    """
    recipe = _build(Recipe, table, f"{origin}: ")
    if not re.fullmatch(r"[\w.-]+", recipe.name, re.ASCII):
        raise RecipeError(f"{origin}: a recipe's file name must be letters, digits, '.', '-' and '_'. Rename it.")
    if (recipe.network.backbone == REPCONV) != (recipe.network.repconv is not None):
        raise RecipeError(f"{origin}: [network.repconv] must be there if, and only if, network.backbone is 'repconv'.")
    if recipe.augmentation.full_view_epochs > recipe.optimisation.epochs:
        raise RecipeError(
            f"{origin}: augmentation.full_view_epochs must be at most optimisation.epochs "
            f"({recipe.optimisation.epochs}), but is {recipe.augmentation.full_view_epochs}."
        )
    if recipe.optimisation.frozen_epochs >= recipe.optimisation.epochs:
        raise RecipeError(
            f"{origin}: optimisation.frozen_epochs must be below optimisation.epochs ({recipe.optimisation.epochs}), "
            f"but is {recipe.optimisation.frozen_epochs}."
        )
    return recipe


def _build(section: type[Section], table: dict[str, Any], prefix: str) -> Section:
    """Build one dataclass from one table. `prefix` is what error messages put before a field's name."""
    hints = get_type_hints(section, include_extras=True)
    for name in table:
        if name not in hints:
            raise RecipeError(f"{prefix}{name} is not a field. Known here: {', '.join(hints)}.")
    values = {}
    for known in fields(section):  # type: ignore[arg-type]
        if known.name in table:
            values[known.name] = _read_field(hints[known.name], table[known.name], f"{prefix}{known.name}")
        elif known.default is MISSING and known.default_factory is MISSING:
            raise RecipeError(f"{prefix}{known.name} is missing. It has no default: write it down.")
    return section(**values)


def _read_field(hint: Any, value: Any, name: str) -> Any:
    """Check one value against its field's annotation, and convert lists to tuples, whole numbers to floats."""
    section = _find_section(hint)
    if section is not None:
        if value is None and type(None) in get_args(hint):  # As a checkpoint holds a section that was left out.
            return None
        if not isinstance(value, dict):
            raise RecipeError(f"{name} must be a section ([{name.rpartition(' ')[2]}]), but is {value!r}.")
        return _build(section, value, f"{name}.")
    kind, *rules = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    return _read_value(kind, {type(rule): rule for rule in rules}, value, name)


def _find_section(hint: Any) -> type[Any] | None:
    """Find the dataclass in a field's annotation, where the field is a section."""
    return next((kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)), None)


def _read_value(kind: Any, rules: dict[type, Any], value: Any, name: str) -> Any:
    if kind is str:
        return _read_text(rules.get(OneOf), value, name)
    if kind is bool:
        if not isinstance(value, bool):
            raise RecipeError(f"{name} must be true or false, but is {value!r}.")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise RecipeError(f"{name} must be a list that is not empty, but is {value!r}.")
        return tuple(_read_value(get_args(kind)[0], rules, item, name) for item in value)
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise RecipeError(f"{name} must be a table, but is {value!r}.")
        return {key: _read_number(float, rules[Between], item, f"{name}.{key}") for key, item in value.items()}
    return _read_number(kind, rules[Between], value, name)


def _read_text(known: OneOf | None, value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RecipeError(f"{name} must be text, but is {value!r}.")
    if known is not None and value not in known.values:
        raise RecipeError(f"{name} must be one of {', '.join(known.values)}, but is {value!r}.")
    return value


def _read_number(kind: type, limits: Between, value: Any, name: str) -> float:
    """Check one number. TOML's `true` is no number here, although Python takes it for one."""
    wanted = "a whole number" if kind is int else "a number"
    fits = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not fits or not limits.low <= value <= limits.high:
        raise RecipeError(f"{name} must be {wanted} from {limits.low:g} to {limits.high:g}, but is {value!r}.")
    return kind(value)  # type: ignore[no-any-return]
