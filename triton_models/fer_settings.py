"""Settings of a Python model: the `parameters` of its config.pbtxt. Shared by all of them; imports nothing heavy.

Runs inside Triton's Python backend only, which alone offers `triton_python_backend_utils`.
"""

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

import triton_python_backend_utils as pb_utils

Setting = TypeVar("Setting", int, float, str)


class Settings:
    """The `parameters` of a model's config.pbtxt. A missing or malformed one stops the model from loading."""

    def __init__(self, args: Mapping[str, str]) -> None:
        """Read what Triton hands to `initialize`."""
        config = json.loads(args["model_config"])
        self._parameters = config["parameters"]
        self.outputs = tuple(output["name"] for output in config["output"])
        """Names of the tensors that the model answers with."""

    def read(self, name: str, kind: Callable[[str], Setting]) -> Setting:
        """Return the parameter `name` as `kind`: int, float or str."""
        try:
            return kind(self._parameters[name]["string_value"])
        except (KeyError, ValueError) as error:
            raise pb_utils.TritonModelException(
                f"config.pbtxt: parameter {name} is missing or malformed ({error!r})"
            ) from None
