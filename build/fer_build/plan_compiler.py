"""Compile an ONNX file to a TensorRT plan and the list of its layers, in the same way for both flavours.

The network is strongly typed: its precision is that of the ONNX file. TF32, which TensorRT would otherwise use for
products of float32, is off.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, TextIO

import fer_contract as contract
from fer_build.atomic_file import write_atomically
from fer_build.engine_layers import Layer, parse_inspection, parse_listing
from fer_build.errors import ContractError, PlanError
from fer_build.onnx_weights import read_onnx
from fer_build.plan_file import AMPERE, Target
from fer_build.tensorrt_flavours import FLAVOURS, Flavour, TensorRT, list_capabilities, load_tensorrt

if TYPE_CHECKING:
    from fer_build import tensorrt_api as trt

_ERROR_LINES: Final = 3


@dataclass(frozen=True)
class CompiledPlan:
    """A plan, and the layers of its engine."""

    content: bytes
    layers: tuple[Layer, ...]


@dataclass
class _Log:
    """The parts of TensorRT's log that are kept."""

    errors: list[str] = field(default_factory=list)
    listing: str = ""
    """The engine's layers; TensorRT-RTX's builder logs them where the profiling verbosity is DETAILED."""

    def last_errors(self) -> str:
        lines = [" ".join(message.split()) for message in self.errors[-_ERROR_LINES:]]
        return "; ".join(lines) or "its log has no error"


@dataclass
class _Interrupt:
    """Whether the user has pressed Ctrl-C."""

    requested: bool = False

    def request(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        self.requested = True


def compile_plan(
    onnx: Path, target: Target, timing_cache: Path | None = None, progress: TextIO | None = None
) -> CompiledPlan:
    """Compile a classifier that fits the contract.

    The same inputs do not give the same bytes. In what TensorRT-RTX 1.7 builds, the numbers of some generated names
    (`__mye2184`) follow memory addresses; so does what is sorted by them, and the size by a few bytes. The layers are
    the same. TensorRT times kernels on the GPU and may choose others the next time, unless a timing cache tells it.

    Args:
        onnx: The file.
        target: The GPU and TensorRT to compile for.
        timing_cache: A file to read measured times from, if it is there, and to keep them in.
        progress: A terminal to show the progress on, on one line.

    Raises:
        ContractError: TensorRT cannot read the graph; the message names the node.
        PlanError: It cannot build the plan; the message ends with its last errors.
        NotInstalledError: The flavour is missing.
        KeyboardInterrupt: The user pressed Ctrl-C; TensorRT has stopped by then.
    """
    tensorrt = load_tensorrt(FLAVOURS[target.flavour])
    with _hold_interrupt() as interrupt:
        return _compile(tensorrt, onnx, target, timing_cache, progress, interrupt)


@contextlib.contextmanager
def _hold_interrupt() -> Iterator[_Interrupt]:
    """Let Ctrl-C set a flag, and raise KeyboardInterrupt at the end of the block in any case.

    Raised earlier, in a method that TensorRT calls, it would be lost: the log's are swallowed, the monitor's fail the
    build. Where Ctrl-C raises nothing anyway - in another thread, or where it is ignored - nothing is changed.
    """
    interrupt = _Interrupt()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield interrupt
        return
    signal.signal(signal.SIGINT, interrupt.request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
        if interrupt.requested:
            raise KeyboardInterrupt


def _compile(
    tensorrt: TensorRT,
    onnx: Path,
    target: Target,
    timing_cache: Path | None,
    progress: TextIO | None,
    interrupt: _Interrupt,
) -> CompiledPlan:
    flavour = FLAVOURS[target.flavour]
    log = _Log()
    logger = _make_logger(tensorrt, log)
    builder = _start_builder(tensorrt, flavour, logger, log)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(tensorrt.OnnxParser(network, logger), onnx, flavour)
    config = builder.create_builder_config()
    _configure(config, tensorrt, target, _make_profile(builder, target.batches))
    if timing_cache is not None:
        _load_timing_cache(config, timing_cache)
    config.progress_monitor = _make_monitor(tensorrt, progress, interrupt)
    plan = builder.build_serialized_network(network, config)
    _show(progress, "")
    if plan is None:
        raise PlanError(f"{onnx}: {flavour.title} cannot build a plan for {_explain(target, log.last_errors())}")
    if timing_cache is not None:
        _save_timing_cache(config, timing_cache)
    content = bytes(plan)
    layers = parse_listing(log.listing) if flavour.ahead_of_time else _inspect(tensorrt, logger, log, content)
    return CompiledPlan(content, layers)


def _explain(target: Target, errors: str) -> str:
    capability = target.compute_capability or f"{AMPERE} and later"
    lacks_memory = "workspace" in errors or "OutOfMemory" in errors
    remedy = " - give it more with --workspace" if lacks_memory else ""
    return f"compute capability {capability}: {errors}{remedy}"


def _start_builder(tensorrt: TensorRT, flavour: Flavour, logger: "trt.ILogger", log: _Log) -> "trt.Builder":
    try:
        return tensorrt.Builder(logger)
    except TypeError:  # pybind11: the factory returned nullptr
        raise PlanError(f"{flavour.title} cannot start on this machine: {log.last_errors()}") from None


def _parse(parser: "trt.OnnxParser", onnx: Path, flavour: Flavour) -> None:
    if parser.parse(read_onnx(onnx)):
        return
    reasons = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        description = " ".join(error.desc().split())
        reason = f"node {error.node_name()} ({error.node_operator()}): {error.code().name}, {description}"
        if error.node_operator() == "DequantizeLinear" and "Int32" in description:
            reason += " - biases must not be quantised"
        reasons.append(reason)
    raise ContractError(
        f"{onnx}: {flavour.title} cannot read this graph: {'; '.join(reasons) or 'it does not say why'}"
    )


def _configure(
    config: "trt.IBuilderConfig", tensorrt: TensorRT, target: Target, profile: "trt.IOptimizationProfile"
) -> None:
    config.add_optimization_profile(profile)
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, target.workspace_mib << 20)
    if target.version_compatible:
        config.set_flag(tensorrt.BuilderFlag.VERSION_COMPATIBLE)
    if FLAVOURS[target.flavour].ahead_of_time:
        _name_target(config, tensorrt, target.compute_capability)
    elif target.hardware_compatible:
        config.hardware_compatibility_level = tensorrt.HardwareCompatibilityLevel.AMPERE_PLUS


def _name_target(config: "trt.IBuilderConfig", tensorrt: TensorRT, capability: str | None) -> None:
    """Name the target. Without one, TensorRT-RTX builds for all GPUs from 8.0 on."""
    if capability is None:
        return
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(list_capabilities(tensorrt)[capability], 0):
        raise PlanError(f"TensorRT-RTX refuses to build for compute capability {capability}")


def _make_profile(builder: "trt.Builder", batches: tuple[int, int, int]) -> "trt.IOptimizationProfile":
    profile = builder.create_optimization_profile()
    smallest, preferred, largest = ((size, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX) for size in batches)
    profile.set_shape(contract.FACES, smallest, preferred, largest)
    return profile


def _load_timing_cache(config: "trt.IBuilderConfig", path: Path) -> None:
    """Load a cache of measured times. One that does not fit is replaced: TensorRT measures again."""
    written = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(written)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _save_timing_cache(config: "trt.IBuilderConfig", path: Path) -> None:
    write_atomically(path, bytes(config.get_timing_cache().serialize()))


def _inspect(tensorrt: TensorRT, logger: "trt.ILogger", log: _Log, content: bytes) -> tuple[Layer, ...]:
    runtime = tensorrt.Runtime(logger)
    runtime.engine_host_code_allowed = True  # a version-compatible plan carries its own runtime; this one is ours
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise PlanError(f"TensorRT cannot load the plan that it has just built: {log.last_errors()}")
    inspector = engine.create_engine_inspector()
    return parse_inspection(inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON))


def _make_logger(tensorrt: TensorRT, log: _Log) -> "trt.ILogger":
    if not TYPE_CHECKING:
        trt = tensorrt  # a base class that is known only now; mypy takes the one of the stubs

    class Logger(trt.ILogger):
        def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
            if severity <= tensorrt.ILogger.ERROR:
                log.errors.append(msg)
            elif msg.startswith("Layers:"):
                log.listing = msg

    return Logger()


def _make_monitor(tensorrt: TensorRT, progress: TextIO | None, interrupt: _Interrupt) -> "trt.IProgressMonitor":
    """Return a monitor that shows the progress, and ends the build after Ctrl-C."""
    if not TYPE_CHECKING:
        trt = tensorrt

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            _show(progress, f"{parent_phase}: {phase_name}" if parent_phase else phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            _show(progress, f"{phase_name} {step + 1}/{self._steps.get(phase_name, '?')}")
            return not interrupt.requested

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


def _show(progress: TextIO | None, text: str) -> None:
    """Replace the line on the terminal, if any. An error must not escape into TensorRT's threads."""
    if progress is None:
        return
    with contextlib.suppress(OSError, ValueError):
        progress.write(f"\r{text}\x1b[K")
        progress.flush()
