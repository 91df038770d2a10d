"""The two TensorRTs that build plans, and how they are found.

`tensorrt` builds on the GPU that will serve, for Triton. `rtx` (TensorRT-RTX) builds for RTX cards, also where there is
no GPU; Triton cannot serve its plans, but it is a real compiler behind the same API, which every machine can run.

Neither is imported before it is asked for.
"""

import ctypes
import importlib
import subprocess
import sys
from collections.abc import Iterable
from ctypes.util import find_library
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from fer_build.errors import NotInstalledError

if TYPE_CHECKING:
    from fer_build import tensorrt_api as trt


@dataclass(frozen=True)
class Flavour:
    """One of the two TensorRTs."""

    name: str
    title: str
    module: str
    libraries: tuple[str, ...]
    """The system's library, which is asked for its version: the first that is there."""
    install: str
    """How to install the Python module, for people."""
    oldest: tuple[int, int]
    ahead_of_time: bool
    """Whether it builds for a GPU that this machine does not have."""
    served_by_system: bool
    """Whether the server loads the system's library, whatever Python module there is."""


TENSORRT: Final = Flavour(
    "tensorrt",
    "TensorRT",
    module="tensorrt",
    libraries=("nvinfer", "libnvinfer.so.11", "libnvinfer.so.10"),
    install=(
        "in the checkout, pip install -e '.[gpu]' tensorrt==VERSION, where VERSION is that of libnvinfer in the Triton "
        "image that serves the plan"
    ),
    oldest=(10, 12),  # the first whose strongly typed networks are those of TensorRT 11
    ahead_of_time=False,
    served_by_system=True,
)
RTX: Final = Flavour(
    "rtx",
    "TensorRT-RTX",
    module="tensorrt_rtx",
    libraries=("tensorrt_rtx", "libtensorrt_rtx.so.1"),
    install="in the checkout, pip install -e '.[rtx]'",
    oldest=(1, 7),  # older ones have not been tried
    ahead_of_time=True,
    served_by_system=False,
)
FLAVOURS: Final = {flavour.name: flavour for flavour in (TENSORRT, RTX)}

_ASKING_TIMEOUT_S: Final = 60


class TensorRT(Protocol):
    """The part of the module that is used."""

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
    """Import a flavour.

    Raises:
        NotInstalledError: It is missing, broken or too old.
    """
    module = _import(flavour)
    if module is None:
        raise NotInstalledError(f"{flavour.title} is not installed: {flavour.install}")
    if tuple(int(part) for part in module.__version__.split(".")[:2]) < flavour.oldest:
        oldest = ".".join(map(str, flavour.oldest))
        raise NotInstalledError(
            f"{flavour.title} {module.__version__} is too old, {oldest} or later is needed: {flavour.install}"
        )
    return cast(TensorRT, module)


def list_capabilities(tensorrt: TensorRT) -> "dict[str, trt.ComputeCapability]":
    """Return the compute capabilities that TensorRT-RTX builds for ahead of time: `8.9` -> its enumerator."""
    members = tensorrt.ComputeCapability.__members__
    return {f"{name[2:-1]}.{name[-1]}": member for name, member in members.items() if name.startswith("SM")}


def find_version(flavour: Flavour) -> str | None:
    """Return the version that runs plans on this machine, `10.13.3.9`, or None where there is none.

    Triton loads the system's libnvinfer, whatever Python module is installed beside it; without such a library, the
    module's version is the best that is known. NVIDIA's Triton image has the library without the module. A program
    that runs plans of TensorRT-RTX does so with the module.

    Raises:
        NotInstalledError: The module is asked, and broken.
    """
    if flavour.served_by_system:
        return find_system_version(flavour) or _find_module_version(flavour)
    return _find_module_version(flavour) or find_system_version(flavour)


def find_system_version(flavour: Flavour) -> str | None:
    """Return the version of the system's library; None where there is none.

    Asked in a process of its own: in one that has imported the Python module, the loader answers with the module's
    library, which has the same soname; and the module must not come upon the system's.
    """
    command = [sys.executable, "-m", __name__, *flavour.libraries]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ASKING_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalledError(
            f"the system's library of {flavour.title} did not load within {_ASKING_TIMEOUT_S} s: try again"
        ) from None
    return answer.stdout.strip() or None


def read_first_version(libraries: Iterable[str]) -> str | None:
    """Ask TensorRT libraries, by name, soname or path, for a version; the first that has one answers."""
    for library in libraries:
        version = read_library_version(find_library(library) or library)
        if version:
            return version
    return None


def read_library_version(library: str) -> str | None:
    """Ask a TensorRT library, by path or soname, for its version; None if it is not there or is none."""
    try:
        loaded = ctypes.CDLL(library)
        parts = [getattr(loaded, f"getInferLib{part}Version")() for part in ("Major", "Minor", "Patch", "Build")]
    except (OSError, AttributeError):
        return None
    return ".".join(map(str, parts))


def _find_module_version(flavour: Flavour) -> str | None:
    module = _import(flavour)
    return None if module is None else str(module.__version__)


def _import(flavour: Flavour) -> Any:
    """Return the module, or None where it is missing.

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
    return f"{flavour.title} is installed but cannot be imported ({error}): {flavour.install}"


if __name__ == "__main__":
    sys.stdout.write(read_first_version(sys.argv[1:]) or "")
