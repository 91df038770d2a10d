"""Make a servable model repository of the sources in triton_models/ and a trained ONNX file.

    fer-build assemble [--onnx FILE] [--out DIR] [--profile cpu|gpu] [--runtime NAME] [--cores N]

The sources are copied, the classifier put in its place, the model's version, the CPU's runtime and the instance counts
for this machine's cores written into the copies, and manifest.json laid beside them. For a CPU the result is complete:
it can be moved, mounted or baked into an image. For a GPU it holds the ONNX file of which `fer-build plan --repository`
makes the TensorRT plan, on the GPU that serves it.
"""

import argparse
import contextlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final

import numpy as np

import fer_contract as contract
from fer_build.classifier_file import MADE_OF_KEY, ClassifierFile, read_classifier
from fer_build.detector_options import add_detector_options, check_detector, read_detector_options
from fer_build.errors import EXIT_CODES, ContractError, NotInstalledError, RepositoryError
from fer_build.manifest import (
    CPU,
    GPU,
    MANIFEST,
    ONNX,
    PROFILES,
    find_changes,
    hash_file,
    hash_files,
    read_manifest,
    write_manifest,
)
from fer_build.release import RELEASED_ONNX, SERVED_ONNX, SERVED_RUNTIME, SOURCES
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_runtimes import ONNX_RUNTIME, RUNTIMES, open_classifier

_CONFIG: Final = "config.pbtxt"
_CPU_CONFIG: Final = "configs/cpu.pbtxt"
"""Of models that are configured differently for a CPU: what `tritonserver --model-config-name=cpu` reads."""
COUNTED_MODELS: Final = {
    contract.PREPROCESS_MODEL: (_CONFIG, _CPU_CONFIG),
    contract.PREPROCESS_CROPPED_MODEL: (_CONFIG,),
    contract.CLASSIFIER_MODEL: (_CPU_CONFIG,),
}
"""Models whose instance counts are chosen for the machine, and the files that name the counts."""


def assemble(
    out: Path,
    onnx: Path = SERVED_ONNX,
    profile: str = CPU,
    *,
    runtime: str = SERVED_RUNTIME,
    threads: int = 1,
    cores: int | None = None,
    instances: Mapping[str, int] | None = None,
    queue_delay_us: int | None = None,
    detector: Mapping[str, int | float | str] | None = None,
    separate_classifier: bool = False,
    dry_run: bool = False,
) -> tuple[dict[str, Any], bool]:
    """Write a model repository to `out`, replacing one that is there.

    Args:
        out: The folder to make. What is there already is replaced only if it is such a repository, and left alone if
            it is this very one.
        onnx: The classifier.
        profile: `cpu`, or `gpu` for a TensorRT plan.
        runtime: For `cpu`: one of `fer_runtimes.RUNTIMES`.
        threads: For `cpu`: how many cores an instance of the classifier works with.
        cores: The number of cores that the instance counts are chosen for; by default those this process may use.
        instances: Counts by model, for those of `COUNTED_MODELS` that should have another one.
        queue_delay_us: For `cpu`: how long the classifier waits for more faces, in microseconds; by default not at all.
        detector: Parameters of `fer_preprocess` that should have another value, of `detector_options.PARAMETERS`.
        separate_classifier: For `cpu`: whether `fer_classifier` classifies the faces of `fer`, as on a GPU. By default
            `fer_preprocess` does it in its own process, which gives the same answers and takes less of a CPU.
        dry_run: Whether to do all but write.

    Returns:
        The manifest, as written to manifest.json, and whether anything had to be written.

    Raises:
        ContractError: The ONNX file does not fit the contract, or the runtime cannot run it.
        NotInstalledError: The runtime is not installed.
        RepositoryError: The sources are missing, `out` is something else, or an argument makes no sense.
    """
    _check_arguments(out, profile, runtime, min(threads, 1 if cores is None else cores))
    _check_tuning(instances or {}, queue_delay_us)
    check_detector(detector or {})
    classifier = read_classifier(onnx)
    _check_origin(classifier)
    is_separate = separate_classifier or profile != CPU
    with _folder_aside(out, dry_run) as aside:
        made = aside / "repository"
        counts = count_instances(_usable_cores() if cores is None else cores, is_separate) | dict(instances or {})
        _copy_models(made, classifier, is_separate, counts, detector or {})
        _write_profile(made, profile, runtime, threads, queue_delay_us)
        manifest = _manifest(made, classifier, profile, runtime, counts)
        if _is_there(out, manifest):
            return manifest, False
        if profile == CPU:
            _check_runtime(made, classifier, runtime, threads)
        if not dry_run:
            write_manifest(made, manifest)
            _exchange(made, out, aside / "replaced")
    return manifest, True


def _check_arguments(out: Path, profile: str, runtime: str, least: int) -> None:
    if profile not in PROFILES or runtime not in RUNTIMES:
        raise RepositoryError(f"a profile is one of {', '.join(PROFILES)}, a runtime one of {', '.join(RUNTIMES)}")
    if least < 1:
        raise RepositoryError("instances are made for 1 core and 1 thread at least")
    if not (SOURCES / "fer_contract.py").is_file():
        raise RepositoryError(
            "the model sources are missing from this installation: pip install --force-reinstall fer-triton"
        )
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RepositoryError(f"{out} is not empty and not a model repository: it will not be replaced")


@contextlib.contextmanager
def _folder_aside(out: Path, dry_run: bool) -> Iterator[Path]:
    """Make a temporary folder, on the same disk as `out` unless nothing is to be renamed to that."""
    if not dry_run:
        out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=None if dry_run else out.parent, prefix=f".{out.name}-") as folder:
        yield Path(folder)


def _copy_models(
    made: Path,
    classifier: ClassifierFile,
    is_separate: bool,
    counts: Mapping[str, int],
    detector: Mapping[str, int | float | str],
) -> None:
    shutil.copytree(SOURCES, made, ignore=shutil.ignore_patterns("__pycache__", "*.md"))
    (made / contract.CLASSIFIER_MODEL / "1" / ONNX).write_bytes(classifier.content)
    _write_description(made, classifier)
    _choose_steps(made, is_separate)
    _write_instance_counts(made, counts)
    _write_detector(made, detector)


def _check_origin(classifier: ClassifierFile) -> None:
    """Make sure that the released INT8 file is of the released network: one may have been exported since."""
    if classifier.path == SERVED_ONNX and classifier.metadata.get(MADE_OF_KEY) != hash_file(RELEASED_ONNX):
        raise ContractError(
            f"{classifier.path} was made of another network than {RELEASED_ONNX.name} beside it: make it again with "
            f"fer-build calibrate and fer-build quantize, or serve --onnx {RELEASED_ONNX} --runtime {ONNX_RUNTIME}"
        )


def _exchange(made: Path, out: Path, replaced: Path) -> None:
    """Put a folder in another's place, which is removed only when that has worked."""
    if not out.exists():
        made.rename(out)
        return
    out.rename(replaced)
    try:
        made.rename(out)
    except BaseException:
        replaced.rename(out)
        raise


def _is_there(out: Path, manifest: dict[str, Any]) -> bool:
    """Return whether `out` is this repository already; a plan may have been built into it since."""
    if not (out / MANIFEST).is_file():
        return False
    present = read_manifest(out)
    same = all(present.get(key) == value for key, value in manifest.items() if key not in ("sha256", "plan"))
    return same and manifest["sha256"].items() <= present["sha256"].items() and not find_changes(out, present)


def _usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _write_description(repository: Path, classifier: ClassifierFile) -> None:
    """Write what the server publishes about the classifier."""
    for model in (contract.FER_MODEL, contract.FER_CROPPED_MODEL):
        for config in _find_configs(repository / model, _CONFIG, _CPU_CONFIG):
            _write_parameter(config, contract.MODEL_VERSION_PARAMETER, classifier.version)
            _write_parameter(config, contract.UNCERTAIN_BELOW_PARAMETER, f"{classifier.uncertain_below:g}")


def _find_configs(model: Path, *names: str) -> list[Path]:
    """Return those of a model's configurations that it has."""
    return [model / name for name in names if (model / name).is_file()]


def _choose_steps(repository: Path, is_separate: bool) -> None:
    """Remove what is not served: the one step of the CPU profile, or the last of the three steps."""
    if is_separate:
        for model in (contract.FER_MODEL, contract.PREPROCESS_MODEL):
            shutil.rmtree(repository / model / "configs")
    else:
        shutil.rmtree(repository / contract.POSTPROCESS_MODEL)


def _write_profile(repository: Path, profile: str, runtime: str, threads: int, queue_delay_us: int | None) -> None:
    if profile == GPU:
        (repository / contract.CLASSIFIER_MODEL / "1" / "model.py").unlink()
        return
    for model in (contract.PREPROCESS_MODEL, contract.CLASSIFIER_MODEL):
        for config in _find_configs(repository / model, _CPU_CONFIG):
            _write_parameter(config, "runtime", runtime)
            _write_parameter(config, "threads", str(threads))
    if queue_delay_us is not None:
        config = repository / contract.CLASSIFIER_MODEL / _CPU_CONFIG
        _substitute(config, r"max_queue_delay_microseconds: \d+", f"max_queue_delay_microseconds: {queue_delay_us}")


def _check_runtime(repository: Path, classifier: ClassifierFile, runtime: str, threads: int) -> None:
    """Make sure that the runtime that will serve the file can run it; it was read with ONNX Runtime."""
    try:
        classify = open_classifier(repository / contract.CLASSIFIER_MODEL / "1" / ONNX, runtime, threads)
        classify(np.zeros((1, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX), np.uint8))
    except ImportError:
        raise NotInstalledError(f"{runtime} is not installed: in the checkout, pip install -e '.[serve]'") from None
    except Exception as error:  # The runtimes have no common class for what they cannot load.
        reason = " ".join(str(error).split())[-300:]
        raise ContractError(
            f"{classifier.path}: {runtime} cannot run it, choose another --runtime ({reason})"
        ) from None


def _write_detector(repository: Path, parameters: Mapping[str, int | float | str]) -> None:
    for config in _find_configs(repository / contract.PREPROCESS_MODEL, _CONFIG, _CPU_CONFIG):
        for name, value in parameters.items():
            _write_parameter(config, name, str(value))


def _write_parameter(config: Path, name: str, value: str) -> None:
    _substitute(config, rf'(key: "{name}" +value {{ string_value: )"[^"]*"', rf'\g<1>"{value}"')


def count_instances(cores: int, is_separate: bool) -> dict[str, int]:
    """Count the instances of each model that keep every core busy.

    `fer_preprocess` does most of the work, so it gets an instance per core, and where it does not classify one more,
    which works while another waits to be handed the next image. The classifier works on batches and is given one for
    every four cores, as is the preprocessing of ready crops. None gets a single one: the queue in front of it would
    stall (see DECISIONS.md).
    """
    few = max(2, cores // 4)
    return {
        contract.PREPROCESS_MODEL: cores + 1 if is_separate else max(2, cores),
        contract.PREPROCESS_CROPPED_MODEL: few,
        contract.CLASSIFIER_MODEL: few,
    }


def _write_instance_counts(repository: Path, counts: Mapping[str, int]) -> None:
    for model, names in COUNTED_MODELS.items():
        for config in _find_configs(repository / model, *names):
            _substitute(config, r"count: \d+", f"count: {counts[model]}")


def _check_tuning(instances: Mapping[str, int], queue_delay_us: int | None) -> None:
    unknown = instances.keys() - COUNTED_MODELS.keys()
    if unknown:
        raise RepositoryError(f"{', '.join(sorted(unknown))}: instances are counted of {', '.join(COUNTED_MODELS)}")
    if any(count < 2 for count in instances.values()):
        raise RepositoryError("a model has 2 instances at least: Triton stalls the queue in front of a single one")
    if queue_delay_us is not None and queue_delay_us < 0:
        raise RepositoryError(f"a queue delay cannot be {queue_delay_us} microseconds")


def _substitute(config: Path, pattern: str, replacement: str) -> None:
    """Replace the one match of `pattern`; the rest of the hand-written file stays as it is."""
    text, matches = re.subn(pattern, replacement, config.read_text())
    if matches != 1:
        raise RepositoryError(f"{config}: expected {pattern} once, found it {matches} times")
    config.write_text(text)


def _manifest(
    repository: Path, classifier: ClassifierFile, profile: str, runtime: str, instances: dict[str, int]
) -> dict[str, Any]:
    packages = ["fer-triton", "numpy", "onnxruntime", *([runtime] if profile == CPU else [])]
    return {
        "model_version": classifier.version,
        "profile": profile,
        "runtime": runtime if profile == CPU else "tensorrt",
        "precision": classifier.precision,
        "gate": classifier.gate,
        "instances": instances,
        "labels": list(classifier.labels),
        "onnx_sha256": classifier.sha256,
        "plan": None,
        "built_with": {
            "python": platform.python_version(),
            **{name: package_version(name) for name in dict.fromkeys(packages)},
        },
        "sha256": hash_files(repository),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-build assemble` and return its exit code."""
    parser = subcommand_parser(
        "fer-build assemble",
        description="Make a servable model repository of a trained ONNX file.",
        examples=(
            "  fer-build assemble --out repository                   # the released classifier, for this machine\n"
            "  fer-build assemble --onnx FILE --runtime onnxruntime  # another one\n"
            "  fer-build assemble --profile gpu                      # fer-build plan --repository goes on from there"
        ),
        exit_codes=EXIT_CODES,
    )
    parser.add_argument(
        "--onnx", type=Path, default=SERVED_ONNX, metavar="FILE", help="default: the released one, INT8"
    )
    parser.add_argument("--out", type=Path, default=Path("repository"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--profile", choices=PROFILES, default=CPU, help="default: %(default)s")
    parser.add_argument("--runtime", choices=RUNTIMES, help=f"of the CPU profile; default: {SERVED_RUNTIME}")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="of a CPU's classifier; default: %(default)s"
    )
    parser.add_argument("--cores", type=int, metavar="N", help="size for N cores; default: this machine's")
    parser.add_argument(
        "--instances",
        type=_instance_count,
        nargs="+",
        default=[],
        metavar="MODEL=N",
        help="another count than the cores suggest; python -m fer_bench tune proposes some",
    )
    parser.add_argument(
        "--queue-delay-us",
        type=int,
        metavar="N",
        help="microseconds that a CPU's classifier waits for faces; default: 0",
    )
    parser.add_argument(
        "--separate-classifier",
        action="store_true",
        help="of the CPU profile: classify the faces of `fer` in the model fer_classifier, as on a GPU",
    )
    add_detector_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="do all but write")
    options = parser.parse_args(arguments)
    if options.profile == GPU and options.runtime:
        parser.error("--runtime is of the CPU profile; a GPU runs a TensorRT plan")
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _instance_count(text: str) -> tuple[str, int]:
    model, _, count = text.partition("=")
    return model, int(count)


def _run(options: argparse.Namespace) -> None:
    manifest, written = assemble(
        options.out,
        options.onnx,
        options.profile,
        runtime=options.runtime or SERVED_RUNTIME,
        threads=options.threads,
        cores=options.cores,
        instances=dict(options.instances),
        queue_delay_us=options.queue_delay_us,
        detector=read_detector_options(options),
        separate_classifier=options.separate_classifier,
        dry_run=options.dry_run,
    )
    done = ("would assemble" if options.dry_run else "assembled") if written else "up to date:"
    what = f"model {manifest['model_version']}, {manifest['precision']} by {manifest['runtime']}"
    print(f"{done} {options.out}: profile {manifest['profile']}, {what}")
    if options.profile == GPU and written:
        print(f"next, where it will be served: fer-build plan --repository {options.out}")
