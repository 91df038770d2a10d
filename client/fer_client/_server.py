"""What a server says about itself: the contract of the models it serves, and what `FerClient.describe` shows people.

`ServedModel` compares a model's configuration, and later each answer, with what this client expects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import fer_contract
from fer_client._errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOW_CONFIDENCE: Final = "low confidence"
"""The reason where the highest probability is below the server's threshold."""

_IMAGE_SPEC: Final = "TYPE_STRING [1]"
_FACES: Final = -1
"""The dimension that differs from image to image: how many faces there are."""
_INTEGERS: Final = (fer_contract.IMAGE_SIZE, fer_contract.FACES_FOUND)
"""Outputs of int32; the others are float32."""


@dataclass(frozen=True)
class QualityBound:
    """One of the bounds that a server publishes for the quality of a face.

    Attributes:
        column: The measure that it is about, one of the server's columns.
        minimum: A lower value is out of bounds; minus infinity where there is no such bound.
        maximum: A higher value is out of bounds; infinity where there is no such bound.
        reason: Why a face beyond it is uncertain, in the server's words: `too small`, `turned away`.
    """

    column: str
    minimum: float
    maximum: float
    reason: str

    @classmethod
    def parse(cls, text: str) -> QualityBound:
        """Read `column:min:max:reason`.

        One of the numbers may be missing, and so may the reason, which is `COLUMN out of bounds` then.

        Raises:
            ValueError: It is something else.
        """
        column, low, high, *rest = (part.strip() for part in [*text.split(":"), "", ""])
        reason, *more = rest
        minimum, maximum = float(low or "-inf"), float(high or "inf")
        if not column or any(more) or not minimum <= maximum or not (low or high):
            raise ValueError(text)
        return cls(column, minimum, maximum, reason or f"{column} out of bounds")

    def is_broken_by(self, value: float) -> bool:
        """Tell whether a value lies beyond the bound. Not-a-number does."""
        return not self.minimum <= value <= self.maximum

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: a bound that is not there is null."""
        return {
            "column": self.column,
            "min": self.minimum if math.isfinite(self.minimum) else None,
            "max": self.maximum if math.isfinite(self.maximum) else None,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        low = f"at least {self.minimum:g}" if math.isfinite(self.minimum) else ""
        high = f"at most {self.maximum:g}" if math.isfinite(self.maximum) else ""
        return f"{self.column} {' and '.join(filter(None, (low, high)))}, else {self.reason}"


@dataclass(frozen=True)
class ServedModel:
    """What a client learns from the server instead of hard-coding it, about `fer` or `fer_cropped`.

    Attributes:
        name: `fer` or `fer_cropped`.
        labels: Names of the columns of PROBABILITIES, in their order.
        version: Version of the network.
        uncertain_below: A face whose highest probability is below it is uncertain; 0, so none, where the server does
            not say.
        tells_faces_found: Whether answers say how many faces were found. Older servers of `fer` do not, nor does
            `fer_cropped`.
        quality_columns: Names of the columns of QUALITY, in their order; none where an older server has no such output.
        quality_bounds: What makes a face uncertain besides a low probability.
    """

    name: str
    labels: tuple[str, ...]
    version: str
    uncertain_below: float = 0.0
    tells_faces_found: bool = False
    quality_columns: tuple[str, ...] = ()
    quality_bounds: tuple[QualityBound, ...] = ()

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each output tensor that the client reads, with -1 for the number of faces."""
        is_crop = self.name == fer_contract.FER_CROPPED_MODEL
        rows = 1 if is_crop else _FACES
        quality = {fer_contract.QUALITY: (rows, len(self.quality_columns))} if self.quality_columns else {}
        if is_crop:
            return {fer_contract.IMAGE_SIZE: (2,), fer_contract.PROBABILITIES: (1, len(self.labels)), **quality}
        return {
            fer_contract.IMAGE_SIZE: (2,),
            **({fer_contract.FACES_FOUND: (1,)} if self.tells_faces_found else {}),
            fer_contract.BOXES: (_FACES, 4),
            fer_contract.LANDMARKS: (_FACES, len(fer_contract.LANDMARK_NAMES), 2),
            fer_contract.DETECTION_SCORES: (_FACES,),
            fer_contract.PROBABILITIES: (_FACES, len(self.labels)),
            **quality,
        }

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any], url: str) -> ServedModel:
        """Read a served configuration.

        Args:
            name: The model's.
            config: The model configuration as JSON, from either protocol: gRPC's has its integers as strings and
                leaves out what is zero or empty.
            url: The server's, for the message of an error.

        Raises:
            ContractError: The parameters are not the expected ones, or else inputs or outputs, whose expected shapes
                depend on the parameters. The message lists each difference.
        """
        differences: list[str] = []
        try:
            outputs = _outputs(config)
            threshold = parameter(config, fer_contract.UNCERTAIN_BELOW_PARAMETER) or "0"
            has_quality = fer_contract.QUALITY in outputs
            served = cls(
                name,
                _names(parameter(config, fer_contract.LABELS_PARAMETER)),
                parameter(config, fer_contract.MODEL_VERSION_PARAMETER),
                _decimal(threshold),
                fer_contract.FACES_FOUND in outputs,
                _names(parameter(config, fer_contract.QUALITY_COLUMNS_PARAMETER)) if has_quality else (),
                _read_bounds(config, differences) if has_quality else (),
            )
            differences += served._parameter_differences(threshold, has_quality)
            differences = differences or served._tensor_differences(config)
        except (AttributeError, LookupError, TypeError, ValueError) as error:  # JSON, and no model configuration.
            raise ContractError(url, f"its model configuration cannot be read ({error!r})") from error
        if differences:
            raise ContractError(url, f"model {name!r} differs: {'; '.join(differences)}")
        return served

    def _parameter_differences(self, threshold: str, has_quality: bool) -> list[str]:
        differences = []
        lists = [(fer_contract.LABELS_PARAMETER, self.labels)]
        if has_quality:
            lists.append((fer_contract.QUALITY_COLUMNS_PARAMETER, self.quality_columns))
        for name, values in lists:
            if "" in values or len(set(values)) < len(values):
                differences.append(f"parameter {name!r} is {','.join(values)!r}, expected a list like a,b,c")
        if not self.version:
            differences.append(f"parameter {fer_contract.MODEL_VERSION_PARAMETER!r} is missing")
        if not 0 <= self.uncertain_below <= 1:  # Not a number is neither.
            name = fer_contract.UNCERTAIN_BELOW_PARAMETER
            differences.append(f"parameter {name!r} is {threshold!r}, expected a decimal from 0 to 1")
        for bound in self.quality_bounds:
            if bound.column not in self.quality_columns:
                name, columns = fer_contract.QUALITY_BOUNDS_PARAMETER, fer_contract.QUALITY_COLUMNS_PARAMETER
                differences.append(f"parameter {name!r} bounds {bound.column!r}, which {columns!r} does not list")
        return differences

    def _tensor_differences(self, config: Mapping[str, Any]) -> list[str]:
        differences = []
        if batch := int(config.get("max_batch_size", 0)):
            differences.append(f"max_batch_size is {batch}, expected 0")
        inputs = {tensor["name"]: _spec(tensor) for tensor in config.get("input", []) if not tensor.get("optional")}
        if inputs != {fer_contract.IMAGE: _IMAGE_SPEC}:
            differences.append(f"inputs are {_listed(inputs)}, expected {fer_contract.IMAGE} {_IMAGE_SPEC}")
        outputs = _outputs(config)
        for name, shape in self.output_shapes.items():
            data_type = "TYPE_INT32" if name in _INTEGERS else "TYPE_FP32"
            expected = f"{data_type} {list(shape)}"
            if name not in outputs:
                differences.append(f"output {name} is missing, expected {expected}")
            elif outputs[name] != expected:
                differences.append(f"output {name} is {outputs[name]}, expected {expected}")
        return differences

    def checked(self, tensors: Mapping[str, NDArray[Any]], url: str) -> dict[str, NDArray[Any]]:
        """Make sure that the tensors of one answer are all there and belong together.

        Args:
            tensors: Output tensors by name.
            url: The server's, for the message of an error.

        Returns:
            The tensors of `output_shapes`, with one row per face in all that describe faces.

        Raises:
            ContractError: A tensor is missing, or has another type, or another shape than the number of boxes asks for,
                or fewer faces were found than there are boxes.
        """
        boxes = tensors.get(fer_contract.BOXES)
        face_count = 0 if boxes is None or boxes.ndim == 0 else boxes.shape[0]
        complete = {}
        for name, shape in self.output_shapes.items():
            if name not in tensors:
                raise ContractError(url, f"output {name} is missing from an answer")
            tensor = tensors[name]
            expected = tuple(face_count if size == _FACES else size for size in shape)
            if tensor.shape != expected:
                raise ContractError(url, f"output {name} has the shape {list(tensor.shape)}, expected {list(expected)}")
            data_type = "int32" if name in _INTEGERS else "float32"
            if tensor.dtype != data_type:
                raise ContractError(url, f"output {name} is of {tensor.dtype}, expected {data_type}")
            complete[name] = tensor
        if self.tells_faces_found and (found := int(complete[fer_contract.FACES_FOUND][0])) < face_count:
            raise ContractError(
                url,
                f"output {fer_contract.FACES_FOUND} is {found}, expected the number of boxes, {face_count}, or more",
            )
        return complete

    def find_reasons(self, confidence: float, quality: Mapping[str, float]) -> tuple[str, ...]:
        """Tell why a face is uncertain.

        Args:
            confidence: Highest probability of the face, 0..1.
            quality: Value by column, for all of `quality_columns`.

        Returns:
            The reasons of the bounds that are broken, in the server's order, then LOW_CONFIDENCE; each once.
        """
        broken = [bound.reason for bound in self.quality_bounds if bound.is_broken_by(quality[bound.column])]
        return tuple(dict.fromkeys([*broken, *[LOW_CONFIDENCE] * (confidence < self.uncertain_below)]))


@dataclass(frozen=True)
class ModelInfo:
    """One model of the server.

    Attributes:
        name: Its name.
        versions: The versions of it that the server has loaded, as Triton counts them; empty where it is not there.
        ready: Whether the server says that it is ready.
    """

    name: str
    versions: tuple[str, ...]
    ready: bool


@dataclass(frozen=True)
class ServerInfo:
    """A server and what it serves.

    Attributes:
        url: The server's.
        name: Name of the software, `triton` for Triton.
        version: Its version.
        extensions: Names of the protocol's extensions that it has.
        models: The models of the contract, whether the server has them or not.
        labels: The expressions told apart, in the model's order.
        model_version: Version of the network.
        uncertain_below: A face whose highest probability is below it is uncertain.
        quality_columns: What is measured of each face's picture; empty where the server does not say.
        quality_bounds: A face beyond one of them is uncertain too.
        max_image_bytes: The largest file that it accepts; None where it does not say.
        max_image_pixels: The largest image that it accepts, width times height; None where it does not say.
    """

    url: str
    name: str
    version: str
    extensions: tuple[str, ...]
    models: tuple[ModelInfo, ...]
    labels: tuple[str, ...]
    model_version: str
    uncertain_below: float
    quality_columns: tuple[str, ...]
    quality_bounds: tuple[QualityBound, ...]
    max_image_bytes: int | None
    max_image_pixels: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "quality_bounds": [bound.to_dict() for bound in self.quality_bounds]}


def parameter(config: Mapping[str, Any], name: str) -> str:
    """Return a parameter of a model configuration, empty where there is none. Raises as reading JSON does."""
    return str(config.get("parameters", {}).get(name, {}).get("string_value", ""))


def _outputs(config: Mapping[str, Any]) -> dict[str, str]:
    """Type and shape of each output, by name."""
    return {tensor["name"]: _spec(tensor) for tensor in config.get("output", [])}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _read_bounds(config: Mapping[str, Any], differences: list[str]) -> tuple[QualityBound, ...]:
    """Read the bounds of a model configuration. Text that is no bound is added to `differences`."""
    bounds = []
    name = fer_contract.QUALITY_BOUNDS_PARAMETER
    for text in filter(None, _names(parameter(config, name))):
        try:
            bounds.append(QualityBound.parse(text))
        except ValueError:
            differences.append(f"parameter {name!r} has {text!r}, expected column:min:max:reason")
    return tuple(bounds)


def _decimal(text: str) -> float:
    """Read a decimal; return not-a-number where the text is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _spec(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['data_type']} {[int(size) for size in tensor['dims']]}"


def _listed(specs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in specs.items()) or "none"
