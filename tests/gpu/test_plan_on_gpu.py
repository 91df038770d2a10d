"""fer_build.plan with TensorRT itself, on the GPU of this machine: the plans that Triton serves."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: in the checkout, pip install -e '.[build]'")

from small_networks import write_network

import fer_contract as contract
from fer_build.errors import NotInstalledError, PlanError
from fer_build.plan import build_plan, is_up_to_date, request_plan
from fer_build.plan_file import check_plan, layers_path, parse_version, read_gpu
from fer_build.release import RELEASED_ONNX, name_precision
from fer_build.tensorrt_flavours import TENSORRT, load_tensorrt

try:
    tensorrt = load_tensorrt(TENSORRT)
    GPU = read_gpu()
except (NotInstalledError, PlanError) as error:
    pytest.skip(str(error), allow_module_level=True)
if GPU is None:
    pytest.skip("no NVIDIA GPU", allow_module_level=True)

DATATYPES = {"fp32": "Float", "fp16": "Half", "int8": "Int8"}


def count_convolutions(plan: Path) -> dict[str, int]:
    return json.loads(layers_path(plan).read_text())["summary"]["convolutions"]


@pytest.mark.parametrize("precision", DATATYPES)
def test_every_precision_is_built_and_fits_this_machine(tmp_path, precision):
    plan = tmp_path / "tiny.plan"
    request = request_plan(write_network(tmp_path / "tiny.onnx", precision), plan, "tensorrt")
    info = build_plan(request)
    assert DATATYPES[precision] in count_convolutions(plan)
    assert (info.target.gpu, info.target.compute_capability) == (GPU.name, GPU.compute_capability)
    assert is_up_to_date(request)
    check_plan(plan)


@pytest.mark.parametrize("precision", DATATYPES)
def test_the_released_classifier_answers_on_the_gpu_as_on_the_cpu(tmp_path, precision):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: in the checkout, pip install -e '.[train]'")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA")
    onnx, plan = name_precision(RELEASED_ONNX, precision), tmp_path / "fer_classifier.plan"
    build_plan(request_plan(onnx, plan, "tensorrt"))
    faces = np.random.default_rng(0).integers(0, 256, (5, 1, 48, 48), np.uint8)
    (expected,) = onnxruntime.InferenceSession(onnx).run([contract.PROBABILITIES], {contract.FACES: faces})
    runtime = tensorrt.Runtime(tensorrt.Logger())
    context = runtime.deserialize_cuda_engine(plan.read_bytes()).create_execution_context()
    on_gpu = torch.from_numpy(faces).cuda()
    rows = torch.empty(expected.shape, dtype=torch.float32, device="cuda")
    context.set_input_shape(contract.FACES, faces.shape)
    context.set_tensor_address(contract.FACES, on_gpu.data_ptr())
    context.set_tensor_address(contract.PROBABILITIES, rows.data_ptr())
    torch.cuda.synchronize()
    assert context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
    torch.cuda.synchronize()
    tolerance = {"fp32": 0.005, "fp16": 0.02, "int8": 0.1}[precision]  # another order of sums
    np.testing.assert_allclose(rows.cpu().numpy(), expected, atol=tolerance)


def test_a_timing_cache_is_kept_and_used_again(tmp_path):
    network = write_network(tmp_path / "tiny.onnx")
    cache_dir = tmp_path / "cache"
    for name in ("a", "b"):
        build_plan(request_plan(network, tmp_path / f"{name}.plan", "tensorrt", timing_cache_dir=cache_dir))
        (cache,) = cache_dir.iterdir()
        assert cache.stat().st_size > 0
        assert tensorrt.__version__ in cache.name


@pytest.mark.skipif(
    parse_version(GPU.compute_capability) < (8,), reason="hardware compatibility begins with compute capability 8.0"
)
def test_compatible_plans_are_built(tmp_path):
    plan = tmp_path / "tiny.plan"
    network = write_network(tmp_path / "tiny.onnx")
    build_plan(request_plan(network, plan, "tensorrt", version_compatible=True, hardware_compatible=True))
    assert "Float" in count_convolutions(plan)
    check_plan(plan)
