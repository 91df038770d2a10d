"""Makes a servable model repository of the sources in triton_models/ and a trained ONNX file.

    python -m fer_build.assemble [--onnx FILE] [--out DIR] [--profile cpu|gpu] [--plan FILE] [--cores N]

The sources are copied, the classifier put in its place, the model's version and the instance counts for this
machine's cores written into the copies, and manifest.json laid beside them. The result is complete: it can be moved,
mounted or baked into an image.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final

import fer_contract as contract
from fer_build.errors import FerBuildError, RepositoryError
from fer_build.onnx_file import ClassifierFile, read_classifier

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = _CHECKOUT / "triton_models"
RELEASED_ONNX: Final = _CHECKOUT / "training" / "release" / "fer_classifier.onnx"
MANIFEST: Final = "manifest.json"
PROFILES: Final = ("cpu", "gpu")


def assemble(
    out: Path, onnx: Path = RELEASED_ONNX, profile: str = "cpu", plan: Path | None = None, cores: int | None = None
) -> dict[str, Any]:
    """Writes a model repository to `out`, replacing one that is there.

    Args:
        out: the folder to make. What is there already is replaced only if it is such a repository.
        onnx: the classifier.
        profile: `cpu` (ONNX Runtime) or `gpu` (a TensorRT plan).
        plan: for `gpu`: the plan built from `onnx` on the GPU that will serve it.
        cores: what the instance counts are made for; by default the cores this process may use.

    Returns:
        The manifest, as written to manifest.json.

    Raises:
        ContractError: the ONNX file doesn't fit the contract.
        RepositoryError: the sources are missing, `out` is something else, or an argument makes no sense.
        OSError: `out` can't be written.
    """
    if profile not in PROFILES or (profile == "gpu") != (plan is not None):
        raise RepositoryError("profile gpu needs a plan (--plan FILE), and profile cpu takes none")
    if cores is not None and cores < 1:
        raise RepositoryError(f"instances are made for 1 core at least, not {cores}")
    if plan is not None and not plan.is_file():
        raise RepositoryError(f"{plan}: no such TensorRT plan")
    if not (SOURCES / "fer_contract.py").is_file():
        raise RepositoryError("the model sources (triton_models/) are missing: install from a checkout, pip install -e")
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RepositoryError(f"{out} is not empty and not a model repository: it will not be replaced")
    classifier = read_classifier(onnx)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as aside:
        made = Path(aside) / "repository"
        shutil.copytree(SOURCES, made, ignore=shutil.ignore_patterns("__pycache__"))
        _place_classifier(made / contract.CLASSIFIER_MODEL, classifier, plan)
        _write_version(made, classifier.version)
        instances = _write_instance_counts(made, _usable_cores() if cores is None else cores)
        manifest = _manifest(made, classifier, profile, instances)
        (made / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        if out.exists():
            out.rename(Path(aside) / "replaced")
        made.rename(out)
    return manifest


def read_instances(repository: Path) -> int:
    """The largest number of instances that a model of an assembled repository has.

    Raises:
        RepositoryError: `repository` is not an assembled one.
    """
    try:
        manifest = json.loads((repository / MANIFEST).read_text())
        return int(max(manifest["instances"].values()))
    except (OSError, ValueError, KeyError, AttributeError):
        raise RepositoryError(f"{repository} is not a model repository: make one with fer_build.assemble") from None


def _usable_cores() -> int:
    """The cores that this process may use: what instance counts are made for."""
    return len(os.sched_getaffinity(0))


def _place_classifier(model: Path, classifier: ClassifierFile, plan: Path | None) -> None:
    if plan is None:
        shutil.copyfile(classifier.path, model / "1" / "model.onnx")
    else:
        (model / "1" / "model.py").unlink()
        shutil.copyfile(plan, model / "1" / "model.plan")


def _write_version(repository: Path, version: str) -> None:
    for model in (contract.FER_MODEL, contract.FER_CROPPED_MODEL):
        _substitute(repository / model / "config.pbtxt", r'"unassembled"', f'"{version}"')


def _write_instance_counts(repository: Path, cores: int) -> dict[str, int]:
    """One busy instance per core.

    Detection takes most of a request's time, so it gets an instance per core; the classifier works on batches and is
    given one for every four cores, as is the preprocessing of ready crops. Preprocessing never gets a single one: the
    queue in front of it would stall (see DECISIONS.md).
    """
    configs = {
        contract.PREPROCESS_MODEL: ("config.pbtxt", max(2, cores)),
        contract.PREPROCESS_CROPPED_MODEL: ("config.pbtxt", max(2, cores // 4)),
        contract.CLASSIFIER_MODEL: ("configs/cpu.pbtxt", max(1, cores // 4)),
    }
    for model, (config, count) in configs.items():
        _substitute(repository / model / config, r"count: \d+", f"count: {count}")
    return {model: count for model, (_, count) in configs.items()}


def _substitute(config: Path, pattern: str, replacement: str) -> None:
    """Replaces the one match of `pattern`: the rest of a hand-written file stays as it was written."""
    text, matches = re.subn(pattern, lambda _: replacement, config.read_text())
    if matches != 1:
        raise RepositoryError(f"{config}: expected {pattern} once, found it {matches} times")
    config.write_text(text)


def _manifest(repository: Path, classifier: ClassifierFile, profile: str, instances: dict[str, int]) -> dict[str, Any]:
    files = sorted(path for path in repository.rglob("*") if path.is_file())
    return {
        "model_version": classifier.version,
        "profile": profile,
        "instances": instances,
        "labels": list(classifier.labels),
        "onnx_sha256": classifier.sha256,
        "built_with": {
            "python": platform.python_version(),
            **{name: package_version(name) for name in ("fer-triton", "numpy", "onnxruntime")},
        },
        "sha256": {
            path.relative_to(repository).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0, or 1 with one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_build.assemble", description="Make a servable model repository of a trained ONNX file."
    )
    parser.add_argument("--onnx", type=Path, default=RELEASED_ONNX, metavar="FILE", help="default: the released one")
    parser.add_argument("--out", type=Path, default=Path("repository"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--profile", choices=PROFILES, default="cpu", help="default: %(default)s")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="the TensorRT plan, for --profile gpu")
    parser.add_argument("--cores", type=int, metavar="N", help="size for N cores; default: this machine's")
    options = parser.parse_args(arguments)
    try:
        manifest = assemble(options.out, options.onnx, options.profile, options.plan, options.cores)
    except (FerBuildError, OSError) as error:
        print(f"fer_build.assemble: {error}", file=sys.stderr)
        return 1
    print(f"Assembled {options.out}: model {manifest['model_version']}, profile {manifest['profile']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
