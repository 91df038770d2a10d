"""Build a TensorRT plan of an ONNX file.

    fer-build plan --repository DIR     # of an assembled repository, into it, on the GPU that serves it
    fer-build plan --out FILE [--onnx FILE] [--flavour tensorrt|rtx] [--compute-capability 8.9]

Beside the plan are its description, FILE.json, and its layers, FILE.layers.json. A plan whose description says that it
was built of the same file for the same target is left alone. Everything is written aside and renamed, the description
last.
"""

import argparse
import hashlib
import json
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final, TextIO

import fer_contract as contract
from fer_build.atomic_file import write_together
from fer_build.classifier_file import ClassifierFile, read_classifier
from fer_build.engine_layers import count_promised, describe_layers, require_precision
from fer_build.errors import EXIT_CODES, PlanError, RepositoryError
from fer_build.manifest import GPU, ONNX, PLAN, hash_file, read_manifest, write_manifest
from fer_build.plan_compiler import CompiledPlan, compile_plan
from fer_build.plan_file import (
    AMPERE,
    Gpu,
    PlanInfo,
    Target,
    format_info,
    info_path,
    layers_path,
    parse_version,
    read_gpu,
    read_plan,
)
from fer_build.release import SERVED_ONNX
from fer_build.tensorrt_flavours import (
    FLAVOURS,
    RTX,
    TENSORRT,
    TensorRT,
    find_system_version,
    list_capabilities,
    load_tensorrt,
)
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command

BATCHES: Final = (1, 16, contract.MAX_CLASSIFIER_BATCH)
"""The optimisation profile: the middle one is the first preferred batch of the classifier's config.pbtxt."""

WORKSPACE_MIB: Final = 1024


@dataclass(frozen=True)
class PlanRequest:
    """A plan that can be built, as far as can be told beforehand."""

    classifier: ClassifierFile
    out: Path
    target: Target
    timing_cache: Path | None

    def describe(self) -> str:
        """Return a description for people: `int8 plan for compute capability 8.9 by TensorRT-RTX 1.7.1.116`."""
        target = self.target
        capability = f"{AMPERE} and later" if target.hardware_compatible else target.compute_capability
        later = " and later" if target.version_compatible else ""
        title = FLAVOURS[target.flavour].title
        return f"{self.classifier.precision} plan for compute capability {capability} by {title} " + (
            f"{target.tensorrt_version}{later}"
        )


def request_plan(
    onnx: Path,
    out: Path,
    flavour: str,
    compute_capability: str | None = None,
    *,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    timing_cache_dir: Path | None = None,
    workspace_mib: int = WORKSPACE_MIB,
) -> PlanRequest:
    """Check all that can be checked before building. Nothing is written.

    Args:
        onnx: The classifier. Its metadata say its precision and how that passed its gate.
        out: The plan to write.
        flavour: `tensorrt` or `rtx`.
        compute_capability: That of the GPU that will serve, `8.9`; by default this machine's. TensorRT knows no other.
        version_compatible: Whether later TensorRTs run it too. Not for `rtx`.
        hardware_compatible: Whether all GPUs from compute capability 8.0 on run it. May be slower.
        timing_cache_dir: A folder to keep measured times of kernels in. Not for `rtx`, which measures none.
        workspace_mib: The memory on the GPU, MiB, that a layer may use besides its tensors.

    Raises:
        ContractError: The ONNX file does not fit the contract, or its metadata are not understood.
        GateError: It is of a smaller precision that has not passed its gate.
        PlanError: The options contradict each other, there is no such target, or the server has another TensorRT.
        NotInstalledError: The flavour is missing or too old.
    """
    if flavour not in FLAVOURS:
        raise PlanError(f"the flavour must be one of {', '.join(FLAVOURS)}, not {flavour!r}")
    if workspace_mib < 1:
        raise PlanError(f"the workspace must be 1 MiB at least, not {workspace_mib}")
    _check_out(out, onnx)
    classifier = read_classifier(onnx)
    tensorrt = load_tensorrt(FLAVOURS[flavour])
    if flavour == RTX.name:
        if version_compatible:
            raise PlanError("TensorRT-RTX runs plans of its own version only: leave --version-compatible out")
        if timing_cache_dir is not None:
            raise PlanError("TensorRT-RTX measures nothing while it builds: leave --timing-cache out")
        gpu, capability = None, _choose_capability(tensorrt, compute_capability, hardware_compatible)
    else:
        _require_served_version(tensorrt)
        gpu = _require_gpu(compute_capability, hardware_compatible)
        capability = gpu.compute_capability
    target = Target(
        flavour=flavour,
        tensorrt_version=tensorrt.__version__,
        compute_capability=capability,
        gpu=gpu.name if gpu else None,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        workspace_mib=workspace_mib,
        batches=BATCHES,
    )
    timing_cache = timing_cache_dir / _name_timing_cache(target) if timing_cache_dir else None
    return PlanRequest(classifier, out, target, timing_cache)


def _check_out(out: Path, onnx: Path) -> None:
    if out.is_dir():
        raise PlanError(f"{out} is a folder: name the file to write")
    if onnx.resolve() in [path.resolve() for path in (out, info_path(out), layers_path(out))]:
        raise PlanError(f"{out} would overwrite the ONNX file that it is built of: name another file to write")


def _choose_capability(tensorrt: TensorRT, wanted: str | None, hardware_compatible: bool) -> str | None:
    if hardware_compatible:
        if wanted is not None:
            raise PlanError("give --compute-capability or --hardware-compatible, not both")
        return None
    known = sorted(list_capabilities(tensorrt), key=parse_version)
    if wanted is None:
        gpu = read_gpu()
        if gpu is None:
            raise PlanError(f"this machine has no GPU: say whose plan it is, --compute-capability {'|'.join(known)}")
        wanted = gpu.compute_capability
    if wanted not in known:
        raise PlanError(f"TensorRT-RTX builds for compute capability {', '.join(known)}, not {wanted}")
    return wanted


def _require_gpu(wanted: str | None, hardware_compatible: bool) -> Gpu:
    gpu = read_gpu()
    if gpu is None:
        raise PlanError(
            "TensorRT builds on the GPU that will serve, and nvidia-smi finds none on this machine; for an RTX card, "
            "--flavour rtx needs none"
        )
    if wanted not in (None, gpu.compute_capability):
        raise PlanError(
            f"TensorRT builds for this machine's {gpu.name}, compute capability {gpu.compute_capability}, not {wanted}"
        )
    if hardware_compatible and parse_version(gpu.compute_capability) < parse_version(AMPERE):
        raise PlanError(
            f"a hardware-compatible plan is built on a GPU of compute capability {AMPERE} or later; this machine's "
            f"{gpu.name} has {gpu.compute_capability}"
        )
    return gpu


def _require_served_version(tensorrt: TensorRT) -> None:
    """Make sure that the Python module is of the version of the system's library, which the server loads."""
    built, served = tensorrt.__version__, find_system_version(FLAVOURS[TENSORRT.name])
    if served is not None and parse_version(built) != parse_version(served):
        raise PlanError(
            f"the Python module is TensorRT {built}, but Triton loads this system's libnvinfer {served}, which would "
            f"refuse its plans: pip install tensorrt=={served}"
        )


def _name_timing_cache(target: Target) -> str:
    gpu = re.sub(r"[^A-Za-z0-9.]+", "-", str(target.gpu))
    return f"{target.flavour}_{target.tensorrt_version}_{gpu}.timing"


def is_up_to_date(request: PlanRequest) -> bool:
    """Return whether the plan is there, complete with its layers, and built of the same file for the same target."""
    try:
        info = read_plan(request.out)
    except PlanError:
        return False
    return (info.onnx_sha256, info.target) == (request.classifier.sha256, request.target)


def build_plan(request: PlanRequest, progress: TextIO | None = None) -> PlanInfo:
    """Build a plan, unless it is there already. Half-written files never look finished.

    Args:
        request: Made by `request_plan`.
        progress: A terminal to show the progress on, on one line.

    Returns:
        The plan's description, as it is in the file beside it.

    Raises:
        ContractError: TensorRT cannot read the graph; the message names the node.
        PlanError: It cannot build the plan, or the engine does not compute in the file's precision.
        NotInstalledError: The flavour, or `onnx`, is missing.
        OSError: The files cannot be written.
    """
    if is_up_to_date(request):
        return read_plan(request.out)
    classifier = request.classifier
    promised = count_promised(classifier.path, classifier.precision)
    compiled = compile_plan(classifier.path, request.target, request.timing_cache, progress)
    try:
        require_precision(compiled.layers, classifier.precision, promised)
    except PlanError as error:
        raise PlanError(f"{classifier.path}: {error}") from None
    layers = (json.dumps(describe_layers(compiled.layers), indent=2) + "\n").encode()
    info = _describe(request, compiled, layers)
    _write(request.out, compiled.content, layers, info)
    return info


def _describe(request: PlanRequest, compiled: CompiledPlan, layers: bytes) -> PlanInfo:
    side = contract.FACE_SIZE_PX
    return PlanInfo(
        target=request.target,
        model_version=request.classifier.version,
        precision=request.classifier.precision,
        onnx_sha256=request.classifier.sha256,
        metrics=request.classifier.gate,
        inputs={contract.FACES: {"datatype": "uint8", "shape": ["N", 1, side, side]}},
        outputs={contract.PROBABILITIES: {"datatype": "float32", "shape": ["N", len(contract.LABELS)]}},
        plan_sha256=hashlib.sha256(compiled.content).hexdigest(),
        plan_bytes=len(compiled.content),
        layers_sha256=hashlib.sha256(layers).hexdigest(),
        built_with={"python": platform.python_version(), "fer-triton": package_version("fer-triton")},
    )


def _write(out: Path, plan: bytes, layers: bytes, info: PlanInfo) -> None:
    """Write a plan's files. Until the description is renamed, the old one names the SHA-256 of another plan."""
    write_together({out: plan, layers_path(out): layers, info_path(out): format_info(info).encode()})


def add_to_repository(repository: Path, plan: Path) -> None:
    """Note in the manifest of an assembled repository that its plan was built, unless it says so already.

    Args:
        repository: A repository of profile gpu.
        plan: The plan inside it.

    Raises:
        RepositoryError: It is no repository.
        PlanError: The plan is not finished, of another ONNX file, or not for Triton.
    """
    manifest, info = read_manifest(repository), read_plan(plan)
    if (info.onnx_sha256, info.target.flavour) != (manifest["onnx_sha256"], TENSORRT.name):
        raise PlanError(f"{plan} is not a TensorRT plan of {repository}'s ONNX file: build it again")
    files = {
        path.relative_to(repository).as_posix(): hash_file(path) for path in (plan, info_path(plan), layers_path(plan))
    }
    noted = manifest | {"plan": json.loads(format_info(info)), "sha256": manifest["sha256"] | files}
    if noted != manifest:
        write_manifest(repository, noted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-build plan` and return its exit code."""
    parser = subcommand_parser(
        "fer-build plan",
        description="Build a TensorRT plan of an ONNX file.",
        examples=(
            "  fer-build plan --repository repository    # of profile gpu, on the GPU that serves it\n"
            "  fer-build plan --flavour rtx --compute-capability 8.9 --out FILE.plan"
        ),
        exit_codes=EXIT_CODES,
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="FILE", help="the plan; FILE.json will be beside it")
    place.add_argument(
        "--repository", type=Path, metavar="DIR", help="build the plan of this repository's ONNX file, into it"
    )
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="with --out; default: the released one, INT8")
    parser.add_argument(
        "--flavour",
        choices=sorted(FLAVOURS),
        default=TENSORRT.name,
        help="tensorrt: for Triton, on the GPU that will serve. rtx: for RTX cards, needs no GPU. Default: %(default)s",
    )
    parser.add_argument(
        "--compute-capability", metavar="X.Y", help="of the GPU that will serve, such as 8.9; default: this machine's"
    )
    parser.add_argument(
        "--version-compatible",
        action="store_true",
        help="later TensorRTs run it too; Triton needs --backend-config=tensorrt,version-compatible=true then",
    )
    parser.add_argument(
        "--hardware-compatible", action="store_true", help=f"all GPUs from compute capability {AMPERE} on run it"
    )
    parser.add_argument(
        "--timing-cache", type=Path, metavar="DIR", help="keep measured times of kernels in this folder"
    )
    parser.add_argument(
        "--workspace",
        type=int,
        default=WORKSPACE_MIB,
        metavar="MIB",
        help="GPU memory a layer may use; default: %(default)s",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be built, and write nothing")
    options = parser.parse_args(arguments)
    if options.repository and (options.onnx or options.flavour != TENSORRT.name):
        parser.error("a repository has its own ONNX file, and Triton serves plans of flavour tensorrt only")
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    onnx, out = options.onnx or SERVED_ONNX, options.out
    if options.repository:
        folder = options.repository / contract.CLASSIFIER_MODEL / "1"
        onnx, out = folder / ONNX, folder / PLAN
        if read_manifest(options.repository)["profile"] != GPU:
            raise RepositoryError(f"{options.repository} is for a CPU: assemble one with --profile gpu")
    request = request_plan(
        onnx,
        out,
        options.flavour,
        options.compute_capability,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        timing_cache_dir=options.timing_cache,
        workspace_mib=options.workspace,
    )
    if is_up_to_date(request):
        print(f"{request.out} is up to date: {request.describe()}")
    elif options.dry_run:
        print(f"would build {request.out}: {request.describe()}")
        return
    else:
        info = build_plan(request, sys.stderr if sys.stderr.isatty() else None)
        summary = json.loads(layers_path(request.out).read_text())["summary"]["convolutions"]
        counts = ", ".join(f"{count} {datatype}" for datatype, count in summary.items()) or "none"
        print(f"built {request.out}: {request.describe()}, {info.plan_bytes / 1e6:.1f} MB, convolutions: {counts}")
    if options.repository and not options.dry_run:
        add_to_repository(options.repository, out)
