"""The runtimes that execute the classifier's ONNX file on a CPU.

Used by the models `fer_classifier` and `fer_preprocess` and, to measure, by `fer_build`.

Imports a runtime only when it is asked for, so that a machine needs no more than the one it serves with.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import fer_contract as contract

ONNX_RUNTIME: Final = "onnxruntime"
OPENVINO: Final = "openvino"
RUNTIMES: Final = (ONNX_RUNTIME, OPENVINO)

OPENVINO_BATCHES: Final = (4, 1)
"""Faces that it works on at once, the largest first; a batch is made up of these. A network that takes any number is
prepared anew whenever the number changes, which costs as much as a face itself, and under load it changes all the time.
"""

SERVED_ONNX: Final = Path(__file__).resolve().parent / "fer_classifier" / "1" / "model.onnx"
"""The classifier of an assembled repository."""

Classify = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""FACES, uint8, (N, 1, 48, 48), gray, 0..255 -> PROBABILITIES, float32, (N, 7). Not to be shared between threads."""


def open_classifier(path: Path, runtime: str, threads: int) -> Classify:
    """Load an ONNX file.

    Args:
        path: The file.
        runtime: One of `RUNTIMES`.
        threads: How many cores a batch is worked on with.

    Raises:
        ValueError: There is no such runtime.
        ImportError: It is not installed.
        Exception: It cannot load the file; the runtimes have no common class for that.
    """
    if runtime == ONNX_RUNTIME:
        return _open_onnx_runtime(path, threads)
    if runtime == OPENVINO:
        return _open_openvino(path, threads)
    raise ValueError(f"RUNTIME must be one of {', '.join(RUNTIMES)}, not {runtime!r}")


def open_served_classifier(runtime: str, threads: int) -> Classify:
    """Load the classifier of the assembled repository that this module lies in, and run it once.

    Called by the models `fer_classifier` and `fer_preprocess` with their settings; raises what `open_classifier` does.
    """
    classify = open_classifier(SERVED_ONNX, runtime, threads)
    classify(np.zeros((sum(OPENVINO_BATCHES), 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX), np.uint8))
    return classify


def _open_onnx_runtime(path: Path, threads: int) -> Classify:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def classify(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        (probabilities,) = session.run([contract.PROBABILITIES], {contract.FACES: faces})
        return np.asarray(probabilities)

    return classify


def _open_openvino(path: Path, threads: int) -> Classify:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # detection runs on the same cores
        "INFERENCE_PRECISION_HINT": "f32",  # what is not INT8 in the file, on CPUs that have bfloat16 too
    }
    core = openvino.Core()
    network = core.read_model(path)
    requests = []
    for size in OPENVINO_BATCHES:
        sized = network.clone()
        sized.reshape({contract.FACES: [size, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX]})
        request = core.compile_model(sized, "CPU", settings).create_infer_request()
        # The runtime's own tensors: filled and read in place.
        requests.append((size, request, request.get_input_tensor().data, request.get_output_tensor().data))

    def classify(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        probabilities = np.empty((len(faces), len(contract.LABELS)), np.float32)
        start = 0
        for size, request, taken, answered in requests:
            while start + size <= len(faces):
                taken[:] = faces[start : start + size]
                request.infer(share_outputs=True)
                probabilities[start : start + size] = answered
                start += size
        return probabilities

    return classify
