"""Checks a model repository before it is served: that it is as it was assembled, and that its plan fits this machine.

    python -m fer_build.verify [REPOSITORY] && tritonserver --model-repository=REPOSITORY ...

Triton itself says little of a plan that was built for another GPU or by another TensorRT.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import fer_contract as contract
from fer_build.command import EXIT_STATUSES, run_command
from fer_build.errors import PlanError, RepositoryError
from fer_build.manifest import GPU, ONNX, PLAN, find_changes, read_manifest
from fer_build.onnx_parts import list_parts
from fer_build.plan_file import Machine, check_plan


def verify(repository: Path, machine: Machine | None = None) -> str:
    """Makes sure that a repository can be served.

    Args:
        repository: made by `fer_build.assemble`.
        machine: what a plan has to fit; by default this machine.

    Returns:
        What was found, for people.

    Raises:
        ContractError: its ONNX file is broken.
        RepositoryError: it is no repository, not as it was assembled, or its ONNX file lacks its weights.
        PlanError: it is for a GPU, and its plan is missing or doesn't fit; the message is one line.
        NotInstalledError: there is no TensorRT for its plan.
    """
    manifest = read_manifest(repository)
    changes = find_changes(repository, manifest)
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise RepositoryError(f"{repository} is not as it was assembled: {changes[0]}{more}; assemble it again")
    onnx = repository / contract.CLASSIFIER_MODEL / "1" / ONNX
    parts = list_parts(onnx)
    if parts:
        raise RepositoryError(f"{onnx} keeps its weights in {', '.join(parts)}, which is not served: assemble it again")
    if manifest["profile"] == GPU:
        if manifest["plan"] is None:
            raise PlanError(f"{repository} has no plan yet: python -m fer_build.plan --repository {repository}")
        check_plan(repository / contract.CLASSIFIER_MODEL / "1" / PLAN, machine)
    return (
        f"{repository} is as it was assembled: {len(manifest['sha256'])} files, profile {manifest['profile']}, model "
        f"{manifest['model_version']}, {manifest['precision']} by {manifest['runtime']}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_build.verify",
        description="Check that a model repository is as it was assembled, and that its plan fits this machine.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("repository", type=Path, nargs="?", default=Path("repository"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    return run_command("fer_build.verify", lambda: print(verify(options.repository)))


if __name__ == "__main__":
    sys.exit(main())
