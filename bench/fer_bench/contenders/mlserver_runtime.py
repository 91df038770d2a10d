"""MLServer: `mlserver start DIR`, whose model-settings.json names this runtime and whose settings.json the workers."""

import json

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.errors import MLServerError
from mlserver.types import InferenceRequest, InferenceResponse

from fer_bench.pipeline import Pipeline
from fer_images import ImageRefusedError


class Fer(MLModel):  # type: ignore[misc]
    """One pipeline in each worker. The image comes as base64 in the tensor IMAGE, the answer goes as JSON."""

    async def load(self) -> bool:
        """Load it."""
        self._pipeline = Pipeline()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Do all the work."""
        (image,) = self.decode(payload.inputs[0])
        try:
            answer = self._pipeline(image)
        except ImageRefusedError as error:
            raise MLServerError(str(error), 400) from error
        outputs = [StringCodec.encode_output("ANSWER", [json.dumps(answer.to_dict())])]
        return InferenceResponse(model_name=self.name, outputs=outputs)
