"""Raw requests to the running server, over both protocols, without our client in between."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from pictures import image_tensor

from fer_contract import FER_MODEL

Infer = Callable[..., dict[str, np.ndarray[Any, Any]]]


@pytest.fixture(params=["http", "grpc"])
def infer(request: pytest.FixtureRequest, server: Any) -> Iterator[Infer]:
    """`infer(image_bytes, model="fer")` -> arrays by output name."""
    module = tritonclient.http if request.param == "http" else tritonclient.grpc
    url = server.http_url if request.param == "http" else server.grpc_url
    with module.InferenceServerClient(url) as client:

        def send(data: bytes, model: str = FER_MODEL) -> dict[str, np.ndarray[Any, Any]]:
            result = client.infer(model, [image_tensor(module, data)])
            response = result.get_response()
            names = [o["name"] if isinstance(o, dict) else o.name for o in _outputs(response)]
            return {name: result.as_numpy(name) for name in names}

        yield send


def _outputs(response: Any) -> Any:
    return response["outputs"] if isinstance(response, dict) else response.outputs
