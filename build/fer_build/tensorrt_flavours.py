"""The two TensorRTs that build plans, and how they are found. Called by the room's modules that deal with plans.

`tensorrt` builds on the GPU that will serve, for Triton. `rtx` (TensorRT-RTX) builds for RTX cards, also where there is
no GPU; Triton can't serve its plans, but it is a real compiler behind the same API, which every machine can run.

Neither is imported before it is asked for.
"""

import ctypes
import importlib
from ctypes.util import find_library
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from fer_build.errors import NotInstalledError

if TYPE_CHECKING:
    from fer_build import tensorrt_api as trt


@dataclass(frozen=True)
class Flavour:
    """One of the two."""

    name: str
    title: str
    module: str
    libraries: tuple[str, ...]
    """Where its version is asked for when the Python module is missing, the first that is there."""
    extra: str
    """What installs it: `pip install 'fer-triton[EXTRA]'`."""
    oldest: tuple[int, int]
    ahead_of_time: bool
    """Whether it builds for a GPU that this machine doesn't have."""


TENSORRT: Final = Flavour(
    "tensorrt",
    "TensorRT",
    module="tensorrt",
    libraries=("nvinfer", "libnvinfer.so.11", "libnvinfer.so.10"),
    extra="gpu",
    oldest=(10, 12),  # the first whose strongly typed networks are those of TensorRT 11
    ahead_of_time=False,
)
RTX: Final = Flavour(
    "rtx",
    "TensorRT-RTX",
    module="tensorrt_rtx",
    libraries=("tensorrt_rtx", "libtensorrt_rtx.so.1"),
    extra="rtx",
    oldest=(1, 7),  # older ones have not been tried
    ahead_of_time=True,
)
FLAVOURS: Final = {flavour.name: flavour for flavour in (TENSORRT, RTX)}


class TensorRT(Protocol):
    """What is used of the module."""

    __version__: str
    Builder: "type[trt.Builder]"
    BuilderFlag: "type[trt.BuilderFlag]"
    ComputeCapability: "type[trt.ComputeCapability]"
    """Only in TensorRT-RTX."""
    HardwareCompatibilityLevel: "type[trt.HardwareCompatibilityLevel]"
    ILogger: "type[trt.ILogger]"
    IProgressMonitor: "type[trt.IProgressMonitor]"
    LayerInformationFormat: "type[trt.LayerInformationFormat]"
    MemoryPoolType: "type[trt.MemoryPoolType]"
    NetworkDefinitionCreationFlag: "type[trt.NetworkDefinitionCreationFlag]"
    OnnxParser: "type[trt.OnnxParser]"
    ProfilingVerbosity: "type[trt.ProfilingVerbosity]"
    Runtime: "type[trt.Runtime]"


def load_tensorrt(flavour: Flavour) -> TensorRT:
    """Imports a flavour.

    Raises:
        NotInstalledError: it is missing, broken or too old.
    """
    module = _import(flavour)
    install = f"pip install 'fer-triton[{flavour.extra}]'"
    if module is None:
        raise NotInstalledError(f"{flavour.title} is not installed: {install}")
    if tuple(int(part) for part in module.__version__.split(".")[:2]) < flavour.oldest:
        oldest = ".".join(map(str, flavour.oldest))
        raise NotInstalledError(
            f"{flavour.title} {module.__version__} is too old, {oldest} or later is needed: {install}"
        )
    return cast(TensorRT, module)


def list_capabilities(tensorrt: TensorRT) -> "dict[str, trt.ComputeCapability]":
    """The compute capabilities that TensorRT-RTX builds for ahead of time: `8.9` -> its enumerator."""
    members = tensorrt.ComputeCapability.__members__
    return {f"{name[2:-1]}.{name[-1]}": member for name, member in members.items() if name.startswith("SM")}


def find_version(flavour: Flavour) -> str | None:
    """The version on this machine, `10.13.3.9`, or None where there is none.

    NVIDIA's Triton image has the library without the Python module.
    """
    module = _import(flavour)
    if module is not None:
        return str(module.__version__)
    for library in flavour.libraries:
        version = read_library_version(find_library(library) or library)
        if version:
            return version
    return None


def read_library_version(library: str) -> str | None:
    """Asks a TensorRT library, by path or soname, for its version; None if it isn't there or is none."""
    try:
        loaded = ctypes.CDLL(library)
        parts = [getattr(loaded, f"getInferLib{part}Version")() for part in ("Major", "Minor", "Patch", "Build")]
    except (OSError, AttributeError):
        return None
    return ".".join(map(str, parts))


def _import(flavour: Flavour) -> Any:
    """The module, or None where it is missing.

    `tensorrt-stubs` leaves a folder of that name without code, which Python imports as an empty package.
    """
    try:
        module = importlib.import_module(flavour.module)
    except ModuleNotFoundError as error:
        if error.name != flavour.module:
            raise NotInstalledError(_explain(flavour, error)) from error
        return None
    except (ImportError, OSError) as error:
        raise NotInstalledError(_explain(flavour, error)) from error
    return module if hasattr(module, "__version__") else None


def _explain(flavour: Flavour, error: Exception) -> str:
    return f"{flavour.title} is installed but can't be imported ({error}): pip install 'fer-triton[{flavour.extra}]'"
