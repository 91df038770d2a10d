"""Faces through a classifier, wherever it is: a network, a checkpoint, an ONNX file, or a running server.

`training_run` and `export` work with networks; `evaluate`, `compare` and `robustness` take the others.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from fer_client import ContractError, CroppedPrediction, FerClient, FerClientError
from fer_contract import FER_CROPPED_MODEL, LABELS
from fer_training.backbones.repconv import reparameterise
from fer_training.checkpoint import Checkpoint, load_checkpoint
from fer_training.errors import DataError
from fer_training.faces import LabelledFaces
from fer_training.metrics import Floats, negative_log_likelihood
from fer_training.network import Classifier
from fer_training.onnx_classifier import ONNX_SUFFIX, open_onnx, predict_onnx

BATCH: Final = 256
GPU_BATCH: Final = 2048
IN_FLIGHT: Final = 8
"""Requests at a time: enough to keep a server busy and its batches filled, far below the 32 that may wait there."""
RETRIES: Final = 6
"""Repeats of a request that an overloaded server has no room for: 3 s of pauses on average, 6 s at most."""


def predict(model: str, faces: LabelledFaces) -> Floats:
    """Return a classifier's probabilities: float, (N, C).

    Args:
        model: A server's URL with `http://` or `grpc://`, a file whose name ends in `.onnx`, or else a checkpoint.
        faces: N faces of the classifier's C classes.

    Raises:
        CheckpointError, ModelFileError, DataError, ValueError, FerClientError: As the `predict_with_*` of its kind.
    """
    if "://" in model:
        return predict_with_server(model, faces)
    path = Path(model)
    return predict_with_onnx(path, faces) if path.suffix == ONNX_SUFFIX else predict_with_checkpoint(path, faces)


def predict_with_onnx(path: Path, faces: LabelledFaces) -> Floats:
    """Return the probabilities of an ONNX file in ONNX Runtime on the CPU: float32, (N, 7).

    Raises:
        ModelFileError: The file is missing or does not fit the contract.
        DataError: The faces have other classes than the contract.
    """
    _require_classes(str(path), LABELS, faces)
    return predict_onnx(open_onnx(path), faces.images)


def predict_with_checkpoint(path: Path, faces: LabelledFaces) -> Floats:
    """Return the probabilities of a checkpoint's averaged weights on the CPU, at temperature 1: float64, (N, C).

    Raises:
        CheckpointError: The file is missing or is no checkpoint.
        DataError: The faces have other classes than the checkpoint.
    """
    checkpoint = load_checkpoint(path)
    _require_classes(str(path), checkpoint.class_names, faces)
    return softmax(predict_logits(build_network(checkpoint), faces.images))


def predict_with_server(url: str, faces: LabelledFaces) -> Floats:
    """Return the probabilities of a running server's model `fer_cropped`: float32, (N, 7).

    Each face is sent as any client would send it, as one PNG file, which loses nothing.

    Args:
        url: `host:port`, `http://host:port` or `grpc://host:port`.
        faces: N faces of the contract's classes.

    Raises:
        DataError: The faces have other classes than the contract.
        ValueError: The URL is not valid.
        ServerUnreachableError: No server answers there.
        ContractError: It does not serve this model, or one of other labels.
        RequestTimeoutError: An answer takes longer than 30 s.
        ServerOverloadedError: It has no room for a request, seven times in a row.
        ImageRefusedError: It does not accept a face.
        ServerError: It failed.
    """
    _require_classes(url, LABELS, faces)
    with (
        FerClient(url, retries=RETRIES) as client,
        closing(client.predict_many(faces.images, concurrency=IN_FLIGHT, cropped=True)) as answers,
    ):
        return np.array([_order_probabilities(answer, client.url) for answer in answers], np.float32)  # (N, 7)


def _order_probabilities(answer: CroppedPrediction | FerClientError, url: str) -> list[float]:
    """Return the probabilities of one face in the order of LABELS. Raises what `predict_with_server` raises."""
    if isinstance(answer, FerClientError):
        raise answer
    if tuple(answer.probabilities) != LABELS:
        labels = ",".join(answer.probabilities)
        raise ContractError(url, f"labels of {FER_CROPPED_MODEL!r} are {labels}, expected {','.join(LABELS)}")
    return list(answer.probabilities.values())


def _require_classes(model: str, class_names: Sequence[str], faces: LabelledFaces) -> None:
    if tuple(class_names) != faces.class_names:
        raise DataError(
            f"{model} tells apart {', '.join(class_names)}, but the images are labelled "
            f"{', '.join(faces.class_names)}. Measure it on images of its own classes."
        )


def build_network(checkpoint: Checkpoint) -> Classifier:
    """Build the network of a checkpoint with its averaged weights, on the CPU, in the form in which it is used."""
    network = Classifier(checkpoint.recipe.network, len(checkpoint.class_names))
    network.load_state_dict(weights_without_votes(checkpoint))
    reparameterise(network)
    return network


def weights_without_votes(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return the averaged weights without the head for FER+ votes, which only training needs."""
    return {name: weight for name, weight in checkpoint.average.items() if not name.startswith("votes_head.")}


@torch.inference_mode()
def predict_logits(network: Classifier, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Score faces in float32 on the network's device. The network is left in evaluation mode.

    Args:
        network: In the form in which it is trained or used.
        images: uint8, (N, 48, 48), gray, 0..255.

    Returns:
        Logits before any temperature, float32, (N, C).
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
    """Measure a network without any temperature. It is left in evaluation mode.

    Returns:
        Accuracy, 0..1, and mean negative log likelihood of the labels, in nats.
    """
    probabilities = softmax(predict_logits(network, faces.images))
    accuracy = float((probabilities.argmax(axis=1) == faces.labels).mean())
    return accuracy, negative_log_likelihood(probabilities, faces.labels)


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the probabilities of each row: float64, the same shape."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
