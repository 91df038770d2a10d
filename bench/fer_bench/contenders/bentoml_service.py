"""BentoML: `bentoml serve bentoml_service:Fer --port PORT`, with WORKERS in the environment."""

import os
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import InvalidArgument

from fer_bench.pipeline import Pipeline
from fer_images import ImageRefusedError


@bentoml.service(workers=int(os.environ.get("WORKERS", "1")), threads=1)
class Fer:
    """One pipeline in each worker, used by one thread."""

    def __init__(self) -> None:
        """Load it."""
        self._pipeline = Pipeline()

    @bentoml.api
    def predict(self, image: Path, /) -> dict[str, Any]:
        """Answer the encoded image that is the body, which BentoML hands over as a file."""
        try:
            return self._pipeline(image.read_bytes()).to_dict()
        except ImageRefusedError as error:
            raise InvalidArgument(str(error)) from error
