"""Measures what an image costs a CPU server: seconds of one core, by process of the real embedded Triton.

    python -m fer_sizing.measure [--picture FILE] [--seconds 60] [--out capacity.toml]

CPU time is counted, not images per second, so a busy machine and the requests' own cost disturb little: what remains is
that a core that shares caches and its twin with other work does less in a second. So measure on a quiet machine.
"""

import argparse
import io
import platform
import sys
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
from fer_build.errors import FerBuildError
from fer_build.manifest import read_manifest
from fer_serve.errors import FerServeError
from fer_serve.server import EmbeddedTriton, temporary_repository
from fer_sizing.capacity import MEASURED, Capacity
from fer_sizing.errors import SizingError

_IN_FLIGHT: Final = 4
"""Enough to keep the instances of a small machine busy."""

_WARM_UP_REQUESTS: Final = 20

_PHOTO: Final = Path(__file__).resolve().parents[3] / "examples" / "astronaut.png"
_PHOTO_SIZE_PX: Final = (640, 480)
_PHOTO_QUALITY: Final = 90


def make_picture() -> tuple[str, bytes]:
    """What is measured with if nothing else is given: the shipped photo as a small JPEG with one face, and its name.

    Raises:
        OSError: the photo is not there.
    """
    file = io.BytesIO()
    with Image.open(_PHOTO) as photo:
        ImageOps.fit(photo.convert("RGB"), _PHOTO_SIZE_PX).save(file, "JPEG", quality=_PHOTO_QUALITY)
    width, height = _PHOTO_SIZE_PX
    return f"examples/{_PHOTO.name} as JPEG of {width} x {height} px, quality {_PHOTO_QUALITY}", file.getvalue()


@dataclass
class _Tally:
    """What the senders have had answered, together."""

    images: int = 0
    faces: int = 0
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def measure(name: str, content: bytes, seconds: float) -> Capacity:
    """Sends a picture to a server of its own, over and over, and divides its processes' CPU time by the answers.

    Args:
        name: of the picture.
        content: an encoded image file.
        seconds: for how long.

    Raises:
        SizingError: requests failed, or hardly any was answered.
        FerBuildError, FerServeError: the server could not be started.
    """
    load = psutil.getloadavg()[0]
    with temporary_repository() as repository, EmbeddedTriton(repository) as server:
        manifest = read_manifest(repository)
        _send(server.grpc_url, content, requests=_WARM_UP_REQUESTS)
        before = _cpu_seconds(server)
        tally = _send(server.grpc_url, content, seconds=seconds)
        spent = {name: total - before.get(name, 0.0) for name, total in _cpu_seconds(server).items()}
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
        source=_describe(tally.images, seconds, load, f"{manifest['model_version']} by {manifest['runtime']}"),
    )


def _send(url: str, content: bytes, *, requests: int | None = None, seconds: float = 60.0) -> _Tally:
    """Keeps some requests in flight until so many have been sent, or the time is over."""
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


def _cpu_seconds(server: EmbeddedTriton) -> dict[str, float]:
    """CPU time of the server so far, by model for Python processes, `tritonserver` for its own."""
    totals: dict[str, float] = {}
    for process in psutil.process_iter(["cmdline", "cpu_times"]):
        words = process.info["cmdline"] or []
        if not any(f"--http-port={server.ports.http}" in word for word in words[1:]):
            continue
        if Path(words[0]).name != "tritonserver":
            continue
        times = process.info["cpu_times"]
        totals["tritonserver"] = times.user + times.system
        for stub in process.children(recursive=True):
            name = next((Path(word).parents[1].name for word in stub.cmdline() if word.endswith("/model.py")), "other")
            spent = stub.cpu_times()
            totals[name] = totals.get(name, 0.0) + spent.user + spent.system
    if "tritonserver" not in totals:
        raise SizingError("the server's processes were not found: it ended while it was measured")
    return totals


def _describe(images: int, seconds: float, load: float, model: str) -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return (
        f"python -m fer_sizing.measure --seconds {seconds:g}: {images} images, {model}, on {cpu}, "
        f"{psutil.cpu_count()} cores, load before {load:.1f}; nvidia-pytriton {version('nvidia-pytriton')}, "
        f"openvino {version('openvino')}, {time.strftime('%Y-%m-%d')}"
    )


def format_capacity(capacity: Capacity) -> str:
    """As TOML."""
    return (
        "# What one image costs a CPU server, in seconds of one core. Written by python -m fer_sizing.measure.\n"
        f"preprocess_s = {capacity.preprocess_s:.6f}\n"
        f"classifier_s = {capacity.classifier_s:.6f}\n"
        f"rest_s = {capacity.rest_s:.6f}\n"
        f"image_bytes = {capacity.image_bytes}\n"
        f"faces_per_image = {capacity.faces_per_image:.3f}\n"
        f'picture = "{capacity.picture}"\n'
        f'source = "{capacity.source}"\n'
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_sizing.measure", description="Measure what an image costs a CPU server."
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="what your users send; default: the shipped photo")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="default: %(default)g")
    parser.add_argument("--out", type=Path, default=MEASURED, metavar="FILE", help="default: the one beside the code")
    options = parser.parse_args(arguments)
    try:
        given = options.picture
        name, content = (given.name, given.read_bytes()) if given else make_picture()
        capacity = measure(name, content, options.seconds)
        options.out.write_text(format_capacity(capacity), encoding="utf-8")
    except (SizingError, FerBuildError, FerServeError, OSError) as error:
        print(f"fer_sizing.measure: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: {capacity.images_per_core_s:.1f} images/s a core, {capacity.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
