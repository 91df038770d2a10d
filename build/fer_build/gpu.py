"""The GPU of this machine, as its driver's `nvidia-smi` describes it. Called by `fer_build.plan` and `.plan_file`."""

import subprocess
from dataclasses import dataclass
from typing import Final

from fer_build.errors import PlanError

_QUERY: Final = ("nvidia-smi", "--query-gpu=compute_cap,name", "--format=csv,noheader")
_TIMEOUT_S: Final = 30


@dataclass(frozen=True)
class Gpu:
    """A GPU."""

    compute_capability: str
    """As NVIDIA writes it: `8.9`."""
    name: str


def read_gpu() -> Gpu | None:
    """The GPU of this machine, or None where there is none; the first of several that are alike.

    Raises:
        PlanError: the driver doesn't answer, or there are GPUs of different compute capabilities.
    """
    try:
        answer = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        raise PlanError(f"nvidia-smi did not answer within {_TIMEOUT_S} s: the GPU's driver hangs") from None
    lines = (answer.stdout.strip() or answer.stderr.strip()).splitlines()
    if answer.returncode:
        raise PlanError(f"nvidia-smi fails: {lines[0] if lines else f'exit status {answer.returncode}'}")
    gpus = [_parse(line) for line in lines]
    if len({gpu.compute_capability for gpu in gpus}) > 1:
        described = ", ".join(f"{gpu.name} ({gpu.compute_capability})" for gpu in gpus)
        raise PlanError(
            f"a plan fits one kind of GPU, and this machine has several: {described}. Work in a container that is "
            "given one of them: docker run --gpus device=0"
        )
    return gpus[0] if gpus else None


def parse_version(text: str) -> tuple[int, ...]:
    """A compute capability, or a version, as numbers that compare: `8.9` -> (8, 9).

    Raises:
        ValueError: it isn't one.
    """
    return tuple(int(part) for part in text.split("."))


def _parse(line: str) -> Gpu:
    capability, _, name = line.partition(", ")
    try:
        parse_version(capability)
    except ValueError:
        raise PlanError(f"nvidia-smi describes a GPU in a way that is not known: {line!r}") from None
    return Gpu(capability, name)
