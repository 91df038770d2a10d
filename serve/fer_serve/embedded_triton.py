"""The tritonserver inside the wheel `nvidia-pytriton`: where it is, and the environment that it needs.

Only the wheel's binaries are used, none of its Python code.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fer_build.errors import NotInstalledError

_INSTALL_COMMAND: Final = "pip install nvidia-pytriton==0.7.0"


@dataclass(frozen=True)
class StagedTriton:
    """A tritonserver ready to be started."""

    binary: Path
    backends: Path
    """Folder for `--backend-directory`."""
    environment: dict[str, str]
    """The whole environment to start it in."""


def stage(work_dir: Path) -> StagedTriton:
    """Lay out a backend folder in `work_dir` with the Python stub that fits this interpreter.

    Raises:
        NotInstalledError: The wheel, a stub for this version of Python, or libpython is missing, or NumPy is too new.
    """
    if int(version("numpy").split(".")[0]) >= 2:
        raise NotInstalledError(
            f"NumPy {version('numpy')} is installed, with which the embedded Triton's Python backend reads every "
            "array wrongly: pip install 'numpy<2'"
        )
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalledError(f"the embedded Triton is not installed: {_INSTALL_COMMAND}")
    package = Path(next(iter(spec.submodule_search_locations)))
    triton = package / "tritonserver"
    stub = triton / "python_backend_stubs" / _python_version() / "triton_python_backend_stub"
    if not stub.is_file():
        have = ", ".join(sorted(path.parent.name for path in stub.parent.parent.glob("*/triton_python_backend_stub")))
        raise NotInstalledError(f"the embedded Triton has no stub for Python {_python_version()}, only for: {have}")
    python_backend = work_dir / "backends" / "python"
    shutil.copytree(triton / "backends" / "python", python_backend, symlinks=True, ignore=_no_bytecode)
    shutil.copy2(stub, python_backend)
    libraries = [package.parent / "nvidia_pytriton.libs", _libpython_dir()]
    return StagedTriton(triton / "bin" / "tritonserver", python_backend.parent, _environment(libraries))


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _no_bytecode(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"}


def _libpython_dir() -> Path:
    """Return the folder of libpython3.X.so.1.0, which the stub is linked against."""
    name = f"libpython{_python_version()}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"]
    for folder in filter(None, folders):
        if (Path(folder) / name).is_file():
            return Path(folder)
    raise NotInstalledError(
        f"{name} is missing, which Triton's Python backend needs. On Debian and Ubuntu: apt-get install "
        f"libpython{_python_version()}; with pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install "
        f"{_python_version()}"
    )


def _environment(libraries: list[Path]) -> dict[str, str]:
    """Return the caller's environment, corrected for the server and its stubs.

    The stub embeds Python, which finds its packages from the first `python3` on PATH: that must be this one's, or a
    server started by `.venv/bin/fer-serve` would look into the system's site-packages. AIP_MODE, which Vertex AI sets,
    would exchange Triton's HTTP and gRPC for a port with Vertex AI's protocol.
    """
    misleading = ("PYTHONHOME", "PYTHONPATH", "AIP_MODE")
    environment = {name: value for name, value in os.environ.items() if name not in misleading}
    search_path = [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    library_path = [*map(str, libraries), *filter(None, [environment.get("LD_LIBRARY_PATH")])]
    return environment | {
        "PATH": os.pathsep.join(search_path),
        "LD_LIBRARY_PATH": os.pathsep.join(library_path),
        "OMP_NUM_THREADS": "1",
    }
