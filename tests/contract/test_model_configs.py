"""The hand-written config.pbtxt files agree with fer_contract and with each other."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

import fer_contract as contract
from fer_client import QualityBound

MODELS = Path(contract.__file__).parent
PUBLIC_OUTPUTS = {
    contract.IMAGE_SIZE: ("TYPE_INT32", [2]),
    contract.FACES_FOUND: ("TYPE_INT32", [1]),
    contract.BOXES: ("TYPE_FP32", [-1, 4]),
    contract.LANDMARKS: ("TYPE_FP32", [-1, len(contract.LANDMARK_NAMES), 2]),
    contract.DETECTION_SCORES: ("TYPE_FP32", [-1]),
    contract.PROBABILITIES: ("TYPE_FP32", [-1, len(contract.LABELS)]),
    contract.QUALITY: ("TYPE_FP32", [-1, len(contract.QUALITY_COLUMNS)]),
}
FACE = [1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX]


def read(path: Path) -> ModelConfig:
    return text_format.Parse(path.read_text(), ModelConfig())


def config(model: str) -> ModelConfig:
    return read(MODELS / model / "config.pbtxt")


def tensors(declared) -> dict[str, tuple[str, list[int]]]:
    names = ModelConfig.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
    return {t.name: (names.values_by_number[t.data_type].name, list(t.dims)) for t in declared}


@pytest.mark.parametrize("path", sorted(MODELS.rglob("*.pbtxt")), ids=lambda path: str(path.relative_to(MODELS)))
def test_each_model_is_named_like_its_folder(path):
    assert read(path).name == path.relative_to(MODELS).parts[0]


def test_no_folder_is_without_a_config():
    """Triton takes every folder in the repository's root for a model, and ends if one is not."""
    folders = {path.name for path in MODELS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {path.parent.name for path in MODELS.glob("*/config.pbtxt")}
    assert all((MODELS / folder / "1").is_dir() for folder in folders)


def test_fer_is_the_public_contract():
    fer = config(contract.FER_MODEL)
    assert fer.platform == "ensemble"
    assert fer.max_batch_size == 0
    assert tensors(fer.input) == {contract.IMAGE: ("TYPE_STRING", [1])}
    assert tensors(fer.output) == PUBLIC_OUTPUTS


def test_fer_cropped_is_the_public_contract():
    cropped = config(contract.FER_CROPPED_MODEL)
    assert cropped.platform == "ensemble"
    assert cropped.max_batch_size == 0
    assert tensors(cropped.input) == {contract.IMAGE: ("TYPE_STRING", [1])}
    assert tensors(cropped.output) == {
        contract.IMAGE_SIZE: ("TYPE_INT32", [2]),
        contract.PROBABILITIES: ("TYPE_FP32", [1, len(contract.LABELS)]),
        contract.QUALITY: ("TYPE_FP32", [1, len(contract.CROP_QUALITY_COLUMNS)]),
    }


@pytest.mark.parametrize("file", ["config.pbtxt", "configs/cpu.pbtxt"])
def test_both_profiles_of_the_classifier_are_the_same_model(file):
    classifier = read(MODELS / contract.CLASSIFIER_MODEL / file)
    assert classifier.name == contract.CLASSIFIER_MODEL
    assert classifier.max_batch_size == contract.MAX_CLASSIFIER_BATCH
    assert tensors(classifier.input) == {contract.FACES: ("TYPE_UINT8", FACE)}
    assert tensors(classifier.output) == {contract.PROBABILITIES: ("TYPE_FP32", [len(contract.LABELS)])}
    assert classifier.HasField("dynamic_batching")
    assert {warmup.batch_size for warmup in classifier.model_warmup} >= {1, contract.MAX_CLASSIFIER_BATCH}


def test_the_profiles_run_on_what_they_are_for():
    assert config(contract.CLASSIFIER_MODEL).platform == "tensorrt_plan"
    assert read(MODELS / contract.CLASSIFIER_MODEL / "configs" / "cpu.pbtxt").backend == "python"


def test_all_faces_of_a_photo_fit_into_one_batch():
    assert contract.MAX_FACES <= contract.MAX_CLASSIFIER_BATCH


@pytest.mark.parametrize("model", [contract.FER_MODEL, contract.FER_CROPPED_MODEL])
def test_the_served_labels_are_the_contract_s(model):
    parameters = config(model).parameters
    assert parameters[contract.LABELS_PARAMETER].string_value == ",".join(contract.LABELS)
    assert contract.MODEL_VERSION_PARAMETER in parameters


def bounds_of(model: str) -> list[QualityBound]:
    text = config(model).parameters[contract.QUALITY_BOUNDS_PARAMETER].string_value
    return [QualityBound.parse(part) for part in text.split(",")]


def test_the_served_quality_columns_are_the_contract_s():
    for model, columns in (
        (contract.FER_MODEL, contract.QUALITY_COLUMNS),
        (contract.FER_CROPPED_MODEL, contract.CROP_QUALITY_COLUMNS),
    ):
        assert config(model).parameters[contract.QUALITY_COLUMNS_PARAMETER].string_value == ",".join(columns)
        assert {bound.column for bound in bounds_of(model)} <= set(columns)


def test_a_crop_has_the_bounds_of_a_photo_for_what_is_known_of_it():
    known = [bound for bound in bounds_of(contract.FER_MODEL) if bound.column in contract.CROP_QUALITY_COLUMNS]
    assert bounds_of(contract.FER_CROPPED_MODEL) == known


def cpu_config(model: str) -> ModelConfig:
    """What `tritonserver --model-config-name=cpu` reads."""
    own = MODELS / model / "configs" / "cpu.pbtxt"
    return read(own) if own.is_file() else config(model)


def test_fer_is_the_same_to_a_client_in_both_profiles():
    profiles = [config(contract.FER_MODEL), cpu_config(contract.FER_MODEL)]
    assert [len(profile.ensemble_scheduling.step) for profile in profiles] == [3, 1]
    for profile in profiles:
        profile.ClearField("ensemble_scheduling")
    assert profiles[0] == profiles[1]


def test_preprocessing_is_the_same_in_both_profiles_but_for_classifying():
    gpu, cpu = config(contract.PREPROCESS_MODEL), cpu_config(contract.PREPROCESS_MODEL)
    others, own = tensors(gpu.output), tensors(cpu.output)
    assert {others.pop(name)[0] for name in (contract.FACES, contract.FACE_COUNT)} == {"TYPE_UINT8", "TYPE_INT32"}
    assert own.pop(contract.PROBABILITIES) == PUBLIC_OUTPUTS[contract.PROBABILITIES]
    assert own == others
    runs = {name: cpu.parameters.pop(name) for name in ("runtime", "threads")}
    assert runs == {name: cpu_config(contract.CLASSIFIER_MODEL).parameters[name] for name in runs}
    for profile in (gpu, cpu):
        for field in ("output", "instance_group"):
            profile.ClearField(field)
    assert gpu == cpu


@pytest.mark.parametrize("profile", [config, cpu_config], ids=["gpu", "cpu"])
@pytest.mark.parametrize("model", [contract.FER_MODEL, contract.FER_CROPPED_MODEL])
def test_ensemble_steps_fit_the_models_they_call(model, profile):
    ensemble = profile(model)
    produced = set(tensors(ensemble.input))
    for step in ensemble.ensemble_scheduling.step:
        called = profile(step.model_name)
        assert set(step.input_map) == set(tensors(called.input))
        assert set(step.output_map) == set(tensors(called.output))
        assert set(step.input_map.values()) <= produced
        produced |= set(step.output_map.values())
    assert set(tensors(ensemble.output)) <= produced


@pytest.mark.parametrize("model", [contract.PREPROCESS_MODEL, contract.PREPROCESS_CROPPED_MODEL])
def test_images_can_not_pile_up(model):
    assert config(model).dynamic_batching.default_queue_policy.max_queue_size > 0


def test_both_ways_in_have_the_same_limits():
    full, cropped = config(contract.PREPROCESS_MODEL), config(contract.PREPROCESS_CROPPED_MODEL)
    for name in ("max_image_bytes", "max_image_pixels"):
        assert full.parameters[name] == cropped.parameters[name]


def test_the_running_server_publishes_the_contract(server):
    """What a client sees is what was written."""
    import tritonclient.grpc

    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        metadata = client.get_model_metadata(contract.FER_MODEL, as_json=True)
        served = client.get_model_config(contract.FER_MODEL).config
    outputs = {t["name"]: (f"TYPE_{t['datatype']}", [int(side) for side in t["shape"]]) for t in metadata["outputs"]}
    assert outputs == PUBLIC_OUTPUTS
    assert served.parameters[contract.LABELS_PARAMETER].string_value == ",".join(contract.LABELS)
    assert "+" in served.parameters[contract.MODEL_VERSION_PARAMETER].string_value
