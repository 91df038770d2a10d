"""What an image costs a CPU server: seconds of one core, by process of the real embedded Triton.

CPU time is counted, not images per second, so a busy machine and the requests' own cost disturb little: what remains is
that a core that shares caches and its twin with other work does less in a second. So measure on a quiet machine.
"""

import io
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import tritonclient.grpc
from PIL import Image, ImageOps

import fer_contract as contract
from fer_bench.command import above_zero
from fer_bench.machine import Family, name_cpu
from fer_build.manifest import read_manifest
from fer_build.release import EXAMPLE_PHOTO
from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_serve.server import EmbeddedTriton, temporary_repository
from fer_sizing.capacity import MEASURED, Capacity, format_capacity
from fer_sizing.errors import SizingError

_IN_FLIGHT: Final = 4
"""Enough to keep the instances of a small machine busy."""

_WARM_UP_REQUESTS: Final = 20

_PHOTO_SIZE_PX: Final = (640, 480)
_PHOTO_QUALITY: Final = 90


def make_picture() -> tuple[str, bytes]:
    """Return the picture that is sent if none is given, and its name: the shipped photo as a small JPEG of one face.

    Returns:
        The name, and the encoded file.

    Raises:
        OSError: The photo is not there.
    """
    file = io.BytesIO()
    with Image.open(EXAMPLE_PHOTO) as photo:
        ImageOps.fit(photo.convert("RGB"), _PHOTO_SIZE_PX).save(file, "JPEG", quality=_PHOTO_QUALITY)
    width, height = _PHOTO_SIZE_PX
    return f"examples/{EXAMPLE_PHOTO.name} as JPEG of {width} x {height} px, quality {_PHOTO_QUALITY}", file.getvalue()


@dataclass
class _Tally:
    """What the senders have had answered, together."""

    images: int = 0
    faces: int = 0
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def measure(name: str, content: bytes, seconds: float) -> Capacity:
    """Send a picture to a server over and over, and divide its processes' CPU time by the answers.

    Args:
        name: The picture's name.
        content: An encoded image file.
        seconds: For how long it is sent.

    Raises:
        SizingError: Requests failed, or hardly any was answered.
        FerBuildError, FerServeError: The server could not be started.
    """
    load = psutil.getloadavg()[0]
    separate = temporary_repository(separate_classifier=True)  # so that the classifier's part can be told apart
    with separate as repository, EmbeddedTriton(repository) as server:
        manifest = read_manifest(repository)
        _send(server.grpc_url, content, requests=_WARM_UP_REQUESTS)
        before = _cpu_seconds()
        tally = _send(server.grpc_url, content, seconds=seconds)
        spent = {process: total - before.get(process, 0.0) for process, total in _cpu_seconds().items()}
    if tally.failures or tally.images < _WARM_UP_REQUESTS:
        raise SizingError(
            f"{tally.images} images were answered and {len(tally.failures)} failed, the first with: "
            f"{tally.failures[0] if tally.failures else 'nothing'}; give a good picture and more --seconds"
        )
    if not tally.faces:
        raise SizingError(f"{name} has no face: the classifier's part would be measured on the dummy row")
    preprocess, classifier = (spent.pop(model) for model in (contract.PREPROCESS_MODEL, contract.CLASSIFIER_MODEL))
    return Capacity(
        preprocess_s=preprocess / tally.images,
        classifier_s=classifier / tally.images,
        rest_s=sum(spent.values()) / tally.images,
        image_bytes=len(content),
        faces_per_image=tally.faces / tally.images,
        picture=name,
        source=(
            f"python -m fer_sizing measure --seconds {seconds:g}: {tally.images} images, {manifest['model_version']} "
            f"by {manifest['runtime']}, on {name_cpu()}, {psutil.cpu_count()} cores, load before {load:.1f}; "
            f"nvidia-pytriton {version('nvidia-pytriton')}, openvino {version('openvino')}, {time.strftime('%Y-%m-%d')}"
        ),
    )


def _send(url: str, content: bytes, *, requests: int | None = None, seconds: float = 60.0) -> _Tally:
    """Keep some requests in flight until so many have been sent, or the time is over."""
    tally, until = _Tally(), time.monotonic() + seconds
    with tritonclient.grpc.InferenceServerClient(url) as client:
        image = tritonclient.grpc.InferInput(contract.IMAGE, [1], "BYTES")
        image.set_data_from_numpy(np.array([content], np.object_))

        def send() -> None:
            while time.monotonic() < until and (requests is None or tally.images < requests) and not tally.failures:
                try:
                    answer = client.infer(contract.FER_MODEL, [image]).as_numpy(contract.PROBABILITIES)
                except tritonclient.grpc.InferenceServerException as error:
                    tally.failures.append(str(error))
                    return
                with tally.lock:
                    tally.images += 1
                    tally.faces += len(answer)

        senders = [threading.Thread(target=send) for _ in range(_IN_FLIGHT)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
    return tally


def _cpu_seconds() -> dict[str, float]:
    """Return the CPU time so far of the server that this process has started: by model, and of all the rest."""
    totals: dict[str, float] = {}
    us = psutil.Process()
    for process in Family(us).members():
        model = next((Path(word).parents[1].name for word in process.cmdline() if word.endswith("/model.py")), "rest")
        if process != us:
            spent = process.cpu_times()
            totals[model] = totals.get(model, 0.0) + spent.user + spent.system
    if not {contract.PREPROCESS_MODEL, contract.CLASSIFIER_MODEL} <= totals.keys():
        raise SizingError("the server's processes were not found: it ended while it was measured")
    return totals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = subcommand_parser(
        "python -m fer_sizing measure",
        description="Measure what an image costs a CPU server.",
        exit_codes=(ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.INTERRUPTED),
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="what your users send; default: the shipped photo")
    parser.add_argument("--seconds", type=above_zero, default=60.0, metavar="S", help="default: %(default)g")
    parser.add_argument("--out", type=Path, default=MEASURED, metavar="FILE", help="default: the one beside the code")
    options = parser.parse_args(arguments)

    def work() -> None:
        given = options.picture
        name, content = (given.name, given.read_bytes()) if given else make_picture()
        capacity = measure(name, content, options.seconds)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(format_capacity(capacity), encoding="utf-8")
        print(f"{options.out}: {capacity.images_per_core_s:.1f} images/s a core, {capacity.source}")

    return run_command(parser.prog, work, debug=options.debug)
