"""manifest.json: what an assembled model repository consists of, and whether it still does.

Written by `fer_build.assemble`; read by it, `fer_build.plan`, `fer_build.verify` and `fer_build.server`.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

from fer_build.errors import RepositoryError
from fer_build.whole_file import write_whole

CPU: Final = "cpu"
GPU: Final = "gpu"
PROFILES: Final = (CPU, GPU)

MANIFEST: Final = "manifest.json"
ONNX: Final = "model.onnx"
"""The classifier's file in its version folder."""
PLAN: Final = "model.plan"
"""The TensorRT plan's file in the classifier's version folder: what Triton looks for."""


_BYTECODE: Final = r"[^/]+/1/__pycache__/"

_KEYS: Final = {"model_version", "profile", "runtime", "precision", "instances", "onnx_sha256", "plan", "sha256"}
"""What is read of it."""


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_files(repository: Path) -> dict[str, str]:
    """SHA-256 of each file of a repository by its path in it, but for the manifest and the models' own bytecode."""
    names = {path.relative_to(repository).as_posix(): path for path in sorted(repository.rglob("*")) if path.is_file()}
    return {name: hash_file(path) for name, path in names.items() if name != MANIFEST and not re.match(_BYTECODE, name)}


def read_manifest(repository: Path) -> dict[str, Any]:
    """The manifest of an assembled repository.

    Raises:
        RepositoryError: `repository` is not an assembled one.
    """
    try:
        manifest = json.loads((repository / MANIFEST).read_text(encoding="utf-8"))
        if manifest.keys() >= _KEYS:
            return dict(manifest)
    except (OSError, ValueError, AttributeError):
        pass
    raise RepositoryError(f"{repository} is not a model repository: make one with fer_build.assemble")


def write_manifest(repository: Path, manifest: dict[str, Any]) -> None:
    """Lays the manifest beside the models, as a whole or not at all."""
    write_whole(repository / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def find_changes(repository: Path, manifest: dict[str, Any]) -> list[str]:
    """What differs from the manifest, for people: files that are missing, changed or were added."""
    expected, found = manifest["sha256"], hash_files(repository)
    folders = {parent.as_posix() for name in expected for parent in Path(name).parents}
    changes = [f"{name} is missing" for name in expected if name not in found]
    changes += [f"{name} was changed" for name in expected if name in found and found[name] != expected[name]]
    changes += [f"{name} was added" for name in found if name not in expected]
    # Triton takes each folder for a model, and in that each number for a version. A link may lead anywhere.
    others = {path.relative_to(repository).as_posix(): path for path in repository.rglob("*") if not path.is_file()}
    strays = {name: path for name, path in sorted(others.items()) if name not in folders}
    changes += [
        f"the folder {name} was added" if path.is_dir() else f"{name} was added"
        for name, path in strays.items()
        if not re.match(_BYTECODE, f"{name}/")
    ]
    return changes
