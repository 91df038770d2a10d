"""What a server says about the model it serves, compared with what this client expects of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import fer_contract
from fer_client._errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IMAGE_SPEC: Final = "TYPE_STRING [1]"
_FACES: Final = -1
"""The dimension that differs from image to image: how many faces there are."""


@dataclass(frozen=True)
class ServedModel:
    """What a client learns from the server instead of hard-coding it.

    Attributes:
        labels: Names of the columns of PROBABILITIES, in their order.
        version: Version of the network.
    """

    labels: tuple[str, ...]
    version: str

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each output tensor that the client reads, with -1 for the number of faces."""
        return {
            fer_contract.IMAGE_SIZE: (2,),
            fer_contract.BOXES: (_FACES, 4),
            fer_contract.LANDMARKS: (_FACES, len(fer_contract.LANDMARK_NAMES), 2),
            fer_contract.DETECTION_SCORES: (_FACES,),
            fer_contract.PROBABILITIES: (_FACES, len(self.labels)),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], url: str) -> ServedModel:
        """Read the served configuration of the model `fer`.

        Args:
            config: The model configuration as JSON, from either protocol: gRPC's has its integers as strings and
                leaves out what is zero or empty.
            url: The server's, for the message of an error.

        Raises:
            ContractError: The parameters are not the expected ones, or else inputs or outputs, whose expected shapes
                depend on the parameters. The message lists each difference.
        """
        try:
            labels = tuple(label.strip() for label in _parameter(config, fer_contract.LABELS_PARAMETER).split(","))
            served = cls(labels, _parameter(config, fer_contract.MODEL_VERSION_PARAMETER))
            differences = served._parameter_differences() or served._tensor_differences(config)
        except (AttributeError, LookupError, TypeError, ValueError) as error:  # JSON, and no model configuration.
            raise ContractError(url, f"its model configuration cannot be read ({error!r})") from error
        if differences:
            raise ContractError(url, f"model {fer_contract.FER_MODEL!r} differs: {'; '.join(differences)}")
        return served

    def _parameter_differences(self) -> list[str]:
        differences = []
        if "" in self.labels or len(set(self.labels)) < len(self.labels):
            value = ",".join(self.labels)
            differences.append(f"parameter {fer_contract.LABELS_PARAMETER!r} is {value!r}, expected a list like a,b,c")
        if not self.version:
            differences.append(f"parameter {fer_contract.MODEL_VERSION_PARAMETER!r} is missing")
        return differences

    def _tensor_differences(self, config: Mapping[str, Any]) -> list[str]:
        differences = []
        if batch := int(config.get("max_batch_size", 0)):
            differences.append(f"max_batch_size is {batch}, expected 0")
        inputs = {tensor["name"]: _spec(tensor) for tensor in config.get("input", []) if not tensor.get("optional")}
        if inputs != {fer_contract.IMAGE: _IMAGE_SPEC}:
            differences.append(f"inputs are {_listed(inputs)}, expected {fer_contract.IMAGE} {_IMAGE_SPEC}")
        outputs = {tensor["name"]: _spec(tensor) for tensor in config.get("output", [])}
        for name, shape in self.output_shapes.items():
            data_type = "TYPE_INT32" if name == fer_contract.IMAGE_SIZE else "TYPE_FP32"
            expected = f"{data_type} {list(shape)}"
            if name not in outputs:
                differences.append(f"output {name} is missing")
            elif outputs[name] != expected:
                differences.append(f"output {name} is {outputs[name]}, expected {expected}")
        return differences

    def checked(self, tensors: Mapping[str, NDArray[Any] | None], url: str) -> dict[str, NDArray[Any]]:
        """Make sure that the tensors of one answer are all there and belong together.

        Args:
            tensors: Output tensors by name; None for one that the answer lacks.
            url: The server's, for the message of an error.

        Returns:
            The same tensors, with one row per face in all that describe faces.

        Raises:
            ContractError: A tensor is missing, or has another shape than the number of boxes asks for.
        """
        boxes = tensors[fer_contract.BOXES]
        face_count = 0 if boxes is None or boxes.ndim == 0 else boxes.shape[0]
        complete = {}
        for name, shape in self.output_shapes.items():
            tensor = tensors[name]
            expected = tuple(face_count if size == _FACES else size for size in shape)
            if tensor is None:
                raise ContractError(url, f"output {name} is missing from an answer")
            if tensor.shape != expected:
                raise ContractError(url, f"output {name} has the shape {list(tensor.shape)}, expected {list(expected)}")
            complete[name] = tensor
        return complete


def _parameter(config: Mapping[str, Any], name: str) -> str:
    """A parameter of the model configuration, empty where it has none of that name."""
    return str(config.get("parameters", {}).get(name, {}).get("string_value", ""))


def _spec(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['data_type']} {[int(size) for size in tensor['dims']]}"


def _listed(specs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in specs.items()) or "none"
