"""The description of a plan in a JSON file beside it, and whether the plan fits this machine's GPU and TensorRT.

The description is written after everything else, so that a plan without it is unfinished. Whoever packs or serves a
plan reads it: NVIDIA's own loader notices a misfit late, and says little.
"""

import hashlib
import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fer_build.errors import NotInstalledError, PlanError
from fer_build.tensorrt_flavours import FLAVOURS, find_version

AMPERE: Final = "8.0"
"""The oldest compute capability that a hardware-compatible plan runs on."""

_NEWER_MAJOR_VERSIONS: Final = {(10, 11)}
"""Built with, running: the pairs of major versions that NVIDIA supports for version-compatible plans.

Source: the support matrix of TensorRT 11.4.
"""


_DRIVER_QUERY: Final = ("nvidia-smi", "--query-gpu=compute_cap,name", "--format=csv,noheader")
_DRIVER_TIMEOUT_S: Final = 30


@dataclass(frozen=True)
class Target:
    """The GPU and the TensorRT that a plan is built for and by. Another target is another plan."""

    flavour: str
    """A key of FLAVOURS."""
    tensorrt_version: str
    compute_capability: str | None
    """`8.9`; None for TensorRT-RTX's plan for all from 8.0 on."""
    gpu: str | None
    """The name of the GPU it is built on; None if it is built ahead of time."""
    version_compatible: bool
    hardware_compatible: bool
    workspace_mib: int
    batches: tuple[int, int, int]
    """The smallest, the one it is tuned for, the largest."""


@dataclass(frozen=True)
class PlanInfo:
    """The description of a plan."""

    target: Target
    model_version: str
    precision: str
    onnx_sha256: str
    metrics: dict[str, Any] | None
    """How the ONNX file's precision passed its gate on accuracy, by CPU runtime; None where there is no gate.

    Measured on the ONNX file by those runtimes, not on this engine.
    """
    inputs: dict[str, Any]
    """Name -> datatype and shape."""
    outputs: dict[str, Any]
    plan_sha256: str
    plan_bytes: int
    layers_sha256: str
    built_with: dict[str, str]


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine."""

    compute_capability: str
    """As NVIDIA writes it: `8.9`."""
    name: str


@dataclass(frozen=True)
class Machine:
    """The GPU and the TensorRT that a plan has to fit."""

    tensorrt_version: str | None
    gpu: Gpu | None


def info_path(plan: Path) -> Path:
    """Return the path of a plan's description: `NAME.plan` -> `NAME.plan.json`."""
    return plan.with_name(f"{plan.name}.json")


def layers_path(plan: Path) -> Path:
    """Return the path of the list of a plan's layers: `NAME.plan` -> `NAME.plan.layers.json`."""
    return plan.with_name(f"{plan.name}.layers.json")


def format_info(info: PlanInfo) -> str:
    """Return the text of a plan's description."""
    return json.dumps(asdict(info), indent=2) + "\n"


def read_plan(plan: Path) -> PlanInfo:
    """Read a plan's description, and make sure that it is of this very plan and these layers.

    Raises:
        PlanError: The plan, its description or its layers are missing, unreadable, or do not belong together.
    """
    path, layers = info_path(plan), layers_path(plan)
    if not plan.is_file():
        raise PlanError(f"{plan}: no such plan")
    for beside in (path, layers):
        if not beside.is_file():
            raise PlanError(f"{plan}: {beside.name} is missing beside it, so it was not finished: build it again")
    try:
        info = _parse_info(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"{path}: not the description of a plan ({error!r}): build the plan again") from error
    if info.target.flavour not in FLAVOURS:
        raise PlanError(f"{path}: the flavour must be one of {', '.join(FLAVOURS)}, not {info.target.flavour!r}")
    _check_content(plan, "is not the plan", path, info.plan_sha256)
    _check_content(layers, "are not the layers", path, info.layers_sha256)
    return info


def _check_content(file: Path, complaint: str, info: Path, expected: str) -> None:
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    if sha256 != expected:
        raise PlanError(
            f"{file}: {complaint} that {info.name} describes (SHA-256 {sha256[:8]}..., not {str(expected)[:8]}...): "
            "build it again"
        )


def _parse_info(table: dict[str, Any]) -> PlanInfo:
    smallest, preferred, largest = table["target"]["batches"]
    info = PlanInfo(**table | {"target": Target(**table["target"] | {"batches": (smallest, preferred, largest)})})
    parse_version(info.target.tensorrt_version)
    parse_version(info.target.compute_capability or AMPERE)
    return info


def read_machine(flavour: str) -> Machine:
    """Return this machine, as far as plans of a flavour are concerned.

    Raises:
        NotInstalledError: TensorRT is installed but broken.
        PlanError: The GPU's driver does not answer, or there are GPUs of different kinds.
    """
    return Machine(find_version(FLAVOURS[flavour]), read_gpu())


def check_plan(plan: Path, machine: Machine | None = None) -> None:
    """Make sure that this machine can run a plan.

    Args:
        plan: The file; its description is beside it.
        machine: The machine that runs it; by default this one.

    Raises:
        PlanError: The plan does not belong to its description, or does not fit; the message is one line.
        NotInstalledError: There is no TensorRT.
    """
    target = read_plan(plan).target
    machine = machine or read_machine(target.flavour)
    _check_version(plan, target, machine.tensorrt_version)
    _check_gpu(plan, target, machine.gpu)


def _check_version(plan: Path, target: Target, running: str | None) -> None:
    flavour = FLAVOURS[target.flavour]
    if running is None:
        raise NotInstalledError(
            f"{plan}: needs {flavour.title} {target.tensorrt_version}, and none is installed on this machine: "
            f"{flavour.install}"
        )
    if not _runs_with(target, running):
        newer = " or later" if target.version_compatible else ""
        raise PlanError(
            f"{plan}: needs {flavour.title} {target.tensorrt_version}{newer}, which built it, but this machine has "
            f"{running}: build it in the image that serves it"
        )


def _runs_with(target: Target, running: str) -> bool:
    """Return whether a TensorRT runs a plan: without version compatibility all four numbers have to be the same."""
    built, runs = parse_version(target.tensorrt_version), parse_version(running)
    if not target.version_compatible:
        return built == runs
    return runs >= built and (built[0] == runs[0] or (built[0], runs[0]) in _NEWER_MAJOR_VERSIONS)


def _check_gpu(plan: Path, target: Target, gpu: Gpu | None) -> None:
    if gpu is None:
        raise PlanError(f"{plan}: needs an NVIDIA GPU, and nvidia-smi finds none on this machine")
    if target.hardware_compatible:
        needed = f"{AMPERE} or later"
        fits = parse_version(gpu.compute_capability) >= parse_version(AMPERE)
    else:
        needed = str(target.compute_capability)
        fits = gpu.compute_capability == target.compute_capability
    if not fits:
        raise PlanError(
            f"{plan}: needs a GPU of compute capability {needed}, but this machine's {gpu.name} has "
            f"{gpu.compute_capability}: build it for this GPU"
        )


def read_gpu() -> Gpu | None:
    """Return the GPU of this machine as `nvidia-smi` describes it, or None; the first of several that are alike.

    Raises:
        PlanError: The driver does not answer, or there are GPUs of different compute capabilities.
    """
    try:
        answer = subprocess.run(_DRIVER_QUERY, capture_output=True, text=True, timeout=_DRIVER_TIMEOUT_S, check=False)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        raise PlanError(f"nvidia-smi did not answer within {_DRIVER_TIMEOUT_S} s: the GPU's driver hangs") from None
    lines = (answer.stdout.strip() or answer.stderr.strip()).splitlines()
    if answer.returncode:
        raise PlanError(f"nvidia-smi fails: {lines[0] if lines else f'exit code {answer.returncode}'}")
    gpus = [_parse_gpu(line) for line in lines]
    if len({gpu.compute_capability for gpu in gpus}) > 1:
        described = ", ".join(f"{gpu.name} ({gpu.compute_capability})" for gpu in gpus)
        raise PlanError(
            f"a plan fits one kind of GPU, and this machine has several: {described}. Work in a container that is "
            "given one of them: docker run --gpus device=0"
        )
    return gpus[0] if gpus else None


def parse_version(text: str) -> tuple[int, ...]:
    """Parse a compute capability or a version into numbers that compare: `8.9` -> (8, 9).

    Raises:
        ValueError: It is neither.
    """
    return tuple(int(part) for part in text.split("."))


def _parse_gpu(line: str) -> Gpu:
    capability, _, name = line.partition(", ")
    try:
        parse_version(capability)
    except ValueError:
        raise PlanError(f"nvidia-smi describes a GPU in a way that is not known: {line!r}") from None
    return Gpu(capability, name)
