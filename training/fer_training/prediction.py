"""Faces through a trained network, in PyTorch or in ONNX Runtime. Used by `training_run`, `evaluate` and `export`."""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx.external_data_helper import uses_external_data
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

from fer_contract import FACE_SIZE_PX, FACES, LABELS, ONNX_LABELS_KEY, PROBABILITIES
from fer_training.backbones.repconv import reparameterise
from fer_training.checkpoint import Checkpoint
from fer_training.errors import ModelFileError
from fer_training.faces import LabelledFaces
from fer_training.metrics import negative_log_likelihood
from fer_training.network import Classifier

BATCH: Final = 256
GPU_BATCH: Final = 2048

# What ONNX Runtime raises for a file it cannot run; they share no base below Exception.
REFUSALS: Final = (
    onnxruntime_state.Fail,
    onnxruntime_state.InvalidGraph,
    onnxruntime_state.InvalidProtobuf,
    onnxruntime_state.NotImplemented,
)


def build_network(checkpoint: Checkpoint) -> Classifier:
    """The network of a checkpoint with its averaged weights, on the CPU, in the form in which it is used."""
    network = Classifier(checkpoint.recipe.network, len(checkpoint.class_names))
    network.load_state_dict(weights_without_votes(checkpoint))
    reparameterise(network)
    return network


def weights_without_votes(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The averaged weights but for the head for FER+ votes, which has done its work when training ends."""
    return {name: weight for name, weight in checkpoint.average.items() if not name.startswith("votes_head.")}


@torch.inference_mode()
def predict_logits(network: Classifier, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Scores faces in float32 on the network's device. Leaves the network in evaluation mode.

    Args:
        network: as trained.
        images: uint8, (N, 48, 48), gray, 0..255.

    Returns:
        float32, (N, 7), not calibrated.
    """
    network.eval()
    device = next(network.parameters()).device
    logits = []
    size = GPU_BATCH if device.type == "cuda" else BATCH
    for batch in torch.split(torch.from_numpy(images).unsqueeze(1), size):
        faces = network.preprocess(batch.to(device)).contiguous(memory_format=torch.channels_last)
        logits.append(network(faces).cpu())
    return torch.cat(logits).numpy()


def accuracy_and_nll(network: Classifier, faces: LabelledFaces) -> tuple[float, float]:
    """How well a network does, without any temperature. Leaves it in evaluation mode.

    Returns:
        Accuracy, 0..1, and mean negative log likelihood of the labels, in nats.
    """
    probabilities = softmax(predict_logits(network, faces.images))
    accuracy = float((probabilities.argmax(axis=1) == faces.labels).mean())
    return accuracy, negative_log_likelihood(probabilities, faces.labels)


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities of each row: float64, the same shape."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def open_onnx(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Opens a classifier on the CPU.

    Args:
        path: a file made by `fer_training.export`.
        threads: CPU threads for one inference; 0 takes all cores.

    Raises:
        ModelFileError: the file is missing, is no ONNX file, keeps its weights elsewhere, or its input, output or
            labels don't fit the contract.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: is not there. Give a file made by fer_training.export.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # Its own complaint about a broken file would precede ours.
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise ModelFileError(f"{path}: ONNX Runtime refuses it: {error}") from error
    if any(uses_external_data(weight) for weight in onnx.load(path, load_external_data=False).graph.initializer):
        raise ModelFileError(
            f"{path}: keeps its weights in another file, of which its hash says nothing. Export it into one file."
        )
    found = [(tensor.name, tensor.type, tensor.shape[1:]) for tensor in (*session.get_inputs(), *session.get_outputs())]
    wanted = [
        (FACES, "tensor(uint8)", [1, FACE_SIZE_PX, FACE_SIZE_PX]),
        (PROBABILITIES, "tensor(float)", [len(LABELS)]),
    ]
    if found != wanted:
        raise ModelFileError(
            f"{path}: its tensors must be {wanted}, but are {found}. Export it with fer_training.export."
        )
    labels = session.get_modelmeta().custom_metadata_map.get(ONNX_LABELS_KEY)
    if labels != ",".join(LABELS):
        raise ModelFileError(f"{path}: its metadata {ONNX_LABELS_KEY} must be {','.join(LABELS)}, but is {labels}.")
    return session


def predict_onnx(session: onnxruntime.InferenceSession, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Classifies faces with an opened ONNX file.

    Args:
        session: from `open_onnx`.
        images: uint8, (N, 48, 48), gray, 0..255.

    Returns:
        PROBABILITIES, float32, (N, 7).
    """
    batches = [images[start : start + BATCH, None] for start in range(0, len(images), BATCH)]  # (B, 1, 48, 48)
    return np.concatenate([session.run([PROBABILITIES], {FACES: batch})[0] for batch in batches])
