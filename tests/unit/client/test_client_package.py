import subprocess
import sys
from pathlib import Path

import pytest

import fer_client

PUBLIC = [
    "AsyncFerClient",
    "AuthenticationError",
    "Box",
    "Channels",
    "ContractError",
    "CroppedPrediction",
    "Face",
    "FerClient",
    "FerClientError",
    "ImageRefusedError",
    "ImageSize",
    "ImageSource",
    "ImageUnreadableError",
    "Landmarks",
    "MissingExtraError",
    "ModelInfo",
    "Point",
    "Prediction",
    "QualityBound",
    "RequestTimeoutError",
    "ServerError",
    "ServerInfo",
    "ServerOverloadedError",
    "ServerUnreachableError",
    "Tls",
    "TlsError",
]

HEAVY = {
    "PIL",
    "aiohttp",
    "asyncio",
    "av",
    "cv2",
    "gevent",
    "google.protobuf",
    "grpc",
    "numpy",
    "onnx",
    "onnxruntime",
    "torch",
    "tritonclient",
}


def run_python(code: str) -> str:
    """What the code prints, run by a fresh interpreter that sees the packages that this one sees."""
    program = f"import sys; sys.path[:] = {sys.path!r}\n{code}"
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_the_public_names_are_these():
    assert fer_client.__all__ == PUBLIC
    assert all(hasattr(fer_client, name) for name in PUBLIC)


def test_the_package_is_typed():
    assert (Path(fer_client.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("module", ["fer_client", "fer_client.cli", "fer_client.protocol"])
def test_importing_loads_nothing_heavy(module):
    loaded = run_python(f"import {module}\nprint(*sys.modules)").split()
    assert HEAVY.isdisjoint(loaded)


@pytest.mark.parametrize("kind", ["FerClient", "AsyncFerClient"])
@pytest.mark.parametrize(("protocol", "own"), [("http", "aiohttp"), ("grpc", "grpc")])
def test_a_client_loads_its_own_protocol_alone(kind, protocol, own):
    loaded = run_python(f"import fer_client; fer_client.{kind}(protocol={protocol!r})\nprint(*sys.modules)").split()
    assert (own in loaded) == (protocol == "grpc" or kind == "AsyncFerClient")
    others = {"aiohttp", "grpc"} - {own}
    assert {*others, "gevent", "PIL", "cv2", "onnx", "onnxruntime", "torch"}.isdisjoint(loaded)


def test_importing_takes_less_than_150_ms():
    """Of this process's own time, so that what else the machine is busy with does not count."""
    code = "import time; start = time.process_time(); import fer_client; print(time.process_time() - start)"
    assert min(float(run_python(code)) for _ in range(5)) < 0.150
