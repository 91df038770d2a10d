"""manifest.json: the files that an assembled model repository consists of, and whether they have changed since."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

from fer_build.atomic_file import write_atomically
from fer_build.errors import RepositoryError

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
"""The keys that are read."""


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_files(repository: Path) -> dict[str, str]:
    """Return the SHA-256 by path of all files of a repository but the manifest and the models' own bytecode."""
    names = {path.relative_to(repository).as_posix(): path for path in sorted(repository.rglob("*")) if path.is_file()}
    return {name: hash_file(path) for name, path in names.items() if name != MANIFEST and not re.match(_BYTECODE, name)}


def read_manifest(repository: Path) -> dict[str, Any]:
    """Return the manifest of an assembled repository.

    Raises:
        RepositoryError: `repository` is not an assembled one.
    """
    try:
        manifest = json.loads((repository / MANIFEST).read_text(encoding="utf-8"))
        if manifest.keys() >= _KEYS:
            return dict(manifest)
    except (OSError, ValueError, AttributeError):
        pass
    raise RepositoryError(f"{repository} is not a model repository: make one with fer-build assemble")


def write_manifest(repository: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest beside the models."""
    write_atomically(repository / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def find_changes(repository: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the differences from the manifest, for people: files that are missing, changed or were added."""
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
