"""Check a model repository before it is served: that it is as it was assembled, and that its plan fits this machine.

    fer-build verify [REPOSITORY] && tritonserver --model-repository=REPOSITORY ...

Triton itself says little of a plan that was built for another GPU or by another TensorRT.
"""

from collections.abc import Sequence
from pathlib import Path

import fer_contract as contract
from fer_build.errors import EXIT_CODES, ChangedError, PlanError
from fer_build.manifest import GPU, ONNX, PLAN, find_changes, read_manifest
from fer_build.onnx_weights import list_parts
from fer_build.plan_file import Machine, check_plan
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command


def verify(repository: Path, machine: Machine | None = None) -> str:
    """Make sure that a repository can be served.

    Args:
        repository: Made by `fer-build assemble`.
        machine: The machine that a plan has to fit; by default this one.

    Returns:
        What was found, for people.

    Raises:
        ContractError: Its ONNX file is broken.
        RepositoryError: It is no repository.
        ChangedError: It is not as it was assembled, or its ONNX file lacks its weights.
        PlanError: It is for a GPU, and its plan is missing or does not fit; the message is one line.
        NotInstalledError: There is no TensorRT for its plan.
    """
    manifest = read_manifest(repository)
    changes = find_changes(repository, manifest)
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise ChangedError(f"{repository} is not as it was assembled: {changes[0]}{more}; assemble it again")
    onnx = repository / contract.CLASSIFIER_MODEL / "1" / ONNX
    parts = list_parts(onnx)
    if parts:
        raise ChangedError(f"{onnx} keeps its weights in {', '.join(parts)}, which is not served: assemble it again")
    if manifest["profile"] == GPU:
        if manifest["plan"] is None:
            raise PlanError(f"{repository} has no plan yet: fer-build plan --repository {repository}")
        check_plan(repository / contract.CLASSIFIER_MODEL / "1" / PLAN, machine)
    return (
        f"{repository} is as it was assembled: {len(manifest['sha256'])} files, profile {manifest['profile']}, model "
        f"{manifest['model_version']}, {manifest['precision']} by {manifest['runtime']}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-build verify` and return its exit code."""
    parser = subcommand_parser(
        "fer-build verify",
        description="Check that a model repository is as it was assembled, and that its plan fits this machine.",
        exit_codes=EXIT_CODES,
    )
    parser.add_argument("repository", type=Path, nargs="?", default=Path("repository"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: print(verify(options.repository)), debug=options.debug)
