"""A plan that nothing can load, with a description that looks real."""

import hashlib
from pathlib import Path

from fer_build.plan_file import PlanInfo, Target, format_info, info_path, layers_path

CONTENT = b"a plan"
LAYERS = b"{}\n"
TARGET = Target("tensorrt", "10.13.3.9", "8.9", "NVIDIA L4", False, False, 1024, (1, 16, 64))


def write_plan(folder: Path, target: Target = TARGET, onnx_sha256: str = "0" * 64) -> Path:
    plan = folder / "model.plan"
    plan.write_bytes(CONTENT)
    info = PlanInfo(
        target=target,
        model_version="tiny+01234567",
        precision="fp32",
        onnx_sha256=onnx_sha256,
        metrics={"accuracy_lost": 0.001},
        inputs={"FACES": {"datatype": "uint8", "shape": ["N", 1, 48, 48]}},
        outputs={"PROBABILITIES": {"datatype": "float32", "shape": ["N", 7]}},
        plan_sha256=hashlib.sha256(CONTENT).hexdigest(),
        plan_bytes=len(CONTENT),
        layers_sha256=hashlib.sha256(LAYERS).hexdigest(),
        built_with={"python": "3.11.7"},
    )
    info_path(plan).write_text(format_info(info))
    layers_path(plan).write_bytes(LAYERS)
    return plan
