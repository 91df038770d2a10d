"""Validate what the chart and the examples say in kinds of other projects, of which Kubernetes has no schema.

    python docker/kubernetes/check_custom_kinds.py

The TypeScript compiler compares each manifest with the types in npm's packages @kubernetes-models: a field that is
unknown, missing or of another type is an error. Needs node, npm and its registry, so no test runs it. Prints what was
checked, and ends with exit code 1 if something is not valid.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from fer_sizing.chart import CHART, find_helm, render

EXAMPLES: Final = Path(__file__).parent

MODELS: Final = {
    ("keda.sh", "ScaledObject"): "keda",
    ("monitoring.coreos.com", "PodMonitor"): "prometheus-operator",
    ("monitoring.coreos.com", "PrometheusRule"): "prometheus-operator",
    ("gateway.networking.k8s.io", "Gateway"): "gateway-api",
    ("gateway.networking.k8s.io", "GRPCRoute"): "gateway-api",
    ("gateway.networking.k8s.io", "HTTPRoute"): "gateway-api",
}
"""The package that has the types, by API group and kind. None has those of Envoy's, Traefik's and KServe's kinds."""

PACKAGES: Final = (
    "@kubernetes-models/gateway-api@2.0.0",
    "@kubernetes-models/keda@2.0.0",
    "@kubernetes-models/prometheus-operator@6.0.0",
    "typescript@5.9.3",
)

COMPILER: Final = ("--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler")


def find_manifests(helm: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every manifest of the chart, with each of its ci/ values, and of the examples, with the file it is from."""
    for values in sorted((CHART / "ci").glob("*.yaml")):
        yield from ((values.name, manifest) for manifest in render(helm, [values]))
    for example in ("gateway-envoy.yaml", "ingress-traefik.yaml", "kserve.yaml"):
        documents = yaml.safe_load_all((EXAMPLES / example).read_text(encoding="utf-8"))
        yield from ((example, manifest) for manifest in documents)


def write_typescript(manifest: dict[str, Any], package: str) -> str:
    """Return TypeScript that has the manifest as a constant of its kind's type."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = f"I{manifest['kind']}"
    module = f"@kubernetes-models/{package}/{group}/{version}"
    return f'import type {{{kind}}} from "{module}";\nexport const _: {kind} = {json.dumps(manifest, indent=1)};\n'


def main() -> int:
    """Run the command. Return its exit code."""
    npm = shutil.which("npm")
    if npm is None:
        sys.stderr.write("check_custom_kinds: npm is not installed\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="fer-kinds-") as name:
        folder = Path(name)
        subprocess.run([npm, "install", "--silent", "--no-save", "--prefix", name, *PACKAGES], check=True)
        files = []
        for number, (source, manifest) in enumerate(find_manifests(find_helm(folder))):
            package = MODELS.get((manifest["apiVersion"].rpartition("/")[0], manifest["kind"]))
            if package:
                files.append(f"{source}.{number}.ts")
                (folder / files[-1]).write_text(write_typescript(manifest, package), encoding="utf-8")
                sys.stdout.write(f"{files[-1]}: {manifest['kind']} {manifest['metadata']['name']}\n")
        sys.stdout.flush()
        return subprocess.run([folder / "node_modules" / ".bin" / "tsc", *COMPILER, *files], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
