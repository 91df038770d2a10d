"""The commands that the documents give an operator, taken by the real helm, kubectl and Docker Compose.

No cluster answers here: what is installed is rendered, and what needs a cluster has to get as far as looking for it.
"""

import os
import re
import shlex
import subprocess

import pytest
import yaml

from fer_sizing.chart import CHART, unpack_tool

DOCKER = CHART.parents[1]
ROOT = DOCKER.parent
DOCUMENTS = [ROOT / "README.md", DOCKER / "README.md", DOCKER / "SIZING.md", DOCKER / "observability/OBSERVABILITY.md"]
EXAMPLES = sorted((DOCKER / "kubernetes").glob("*.yaml"))
NO_CLUSTER = re.compile(r"cluster unreachable|connection refused|was refused")
NAMED = {name for path in EXAMPLES for name in re.findall(r"\b(?:name|secret): ([\w-]+)", path.read_text())}
"""What the examples call things, the secrets that they need among them."""

OPENSSL = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=faces.example.com -keyout tls.key -out tls.crt"


def commands(documents=DOCUMENTS):
    """Those in the documents' console blocks and in the examples' first comments."""
    for path in documents:
        blocks = re.findall(r"^```console\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
        yield from re.findall(r"^\$ ((?:.*\\\n)*.*)$", "".join(blocks), re.MULTILINE)
    for path in EXAMPLES:
        header = re.match(r"(?:#.*\n)*", path.read_text())[0]
        yield from re.findall(r"^  ((?:.*\\\n)*.*)$", re.sub(r"^# ?", "", header, flags=re.MULTILINE), re.MULTILINE)


def split(command):
    """A command line without its comment, its continuations, what is piped into it or out of it, and a closing &."""
    command = re.sub(r"\\\n\s*", "", command)
    command = re.sub(r"\s+#.*$|\s*&$", "", command)
    parts = [part.strip() for part in re.split(r"\s\|\s", command)]
    return next((part for part in parts if re.match(r"helm |kubectl |docker ", part)), parts[0])


COMMANDS = sorted({split(command) for command in commands()})


def starting_with(*words):
    return [command for command in COMMANDS if command.startswith(words)]


INSTALLS = [command for command in starting_with("helm upgrade ") if "docker/helm/fer-triton" in command]
OTHERS = [command for command in starting_with("helm ", "kubectl ") if command not in INSTALLS]


OURS = [document for document in DOCUMENTS if document.parent != ROOT]
RUN_BY = {
    r"helm |kubectl |docker ": "this file",
    r".*python -m fer_sizing ": "tests/unit/bench/test_commands.py, tests/unit/docker/test_sizing_page.py",
    r"fer-client predict ": "the client's tests",
    r".*assemble --cores 4 ": "tests/unit/docker/test_prepare_script.py",
    r"promtool (check|test) rules ": "tests/unit/observability/test_rules.py",
    r".*pytest tests/": "itself",
    r"make \.venv/": "whoever runs these tests",
    r"curl --user ": "nobody: it needs an Ingress controller",
}
"""What runs each kind of command of the operator's documents."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory, helm):
    """Runs commands where they find the checkout, the files that they name and the tools, but no cluster."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "docker").symlink_to(DOCKER)
    documented = re.search(
        r"^```yaml\n(images:\n.*?)^```", (DOCKER / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (folder / "fer.yaml").write_text(documented[1])
    nowhere = {"cluster": {"server": "http://127.0.0.1:9"}, "name": "nowhere"}
    context = {"context": {"cluster": "nowhere", "user": ""}, "name": "nowhere"}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [nowhere], "contexts": [context]}
    (folder / "kubeconfig").write_text(yaml.safe_dump(config | {"current-context": "nowhere"}))
    unpack_tool("kubectl", helm.parent)
    environment = os.environ | {"KUBECONFIG": str(folder / "kubeconfig"), "HOME": str(folder)}
    environment["PATH"] = f"{helm.parent}:{os.environ['PATH']}"
    environment["DOCKER_HOST"] = "tcp://127.0.0.1:9"

    def run(*words):
        return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)

    return run


def test_there_are_commands_of_every_kind():
    assert len(INSTALLS) >= 5
    for words in (
        "helm test ",
        "helm rollback ",
        "kubectl apply ",
        "kubectl --namespace ",
        "docker build ",
        "docker compose ",
    ):
        assert starting_with(words), words


def test_every_command_of_the_operator_s_documents_is_run_by_something():
    ours = {split(command) for command in commands(OURS)}
    assert {command for command in ours if not any(re.match(kind, command) for kind in RUN_BY)} == set()
    assert {kind for kind in RUN_BY if not any(re.match(kind, command) for command in ours)} == set()


@pytest.mark.parametrize("command", INSTALLS)
def test_what_is_installed_can_be_rendered(command, desk):
    """As documented, but for `upgrade --install`, which would ask the cluster first what is there."""
    _, _, *words = shlex.split(command)
    done = desk("helm", "install", *(word for word in words if word != "--install"), "--dry-run=client")
    assert done.returncode == 0, done.stderr
    images = re.findall(r"image: (\S+)", done.stdout)
    assert images
    assert all(image.startswith(("registry.example.com/", "docker.io/rclone/")) for image in images), images


@pytest.mark.parametrize("command", OTHERS)
def test_what_needs_a_cluster_is_understood(command, desk):
    """It gets as far as asking the cluster, or as making a secret of what it was given."""
    words = shlex.split(command.replace("/dev/stdin", "fer.yaml"))
    if "secret" in words and "create" in words:
        if "tls" in words and desk(*shlex.split(OPENSSL)).returncode:
            pytest.skip("openssl is not installed, so there is no certificate")
        done = desk(*words, "--dry-run=client", "--output=yaml")
        assert done.returncode == 0, done.stderr
        assert yaml.safe_load(done.stdout)["metadata"]["name"] in NAMED
        return
    done = desk(*words)
    assert done.returncode != 0
    assert NO_CLUSTER.search(done.stderr), done.stderr
    assert "unknown" not in done.stderr, done.stderr


def test_a_misspelt_flag_would_be_found(desk):
    assert "unknown flag: --namspace" in desk("kubectl", "--namspace", "vision", "get", "pods").stderr
    assert "unknown flag: --rollback" in desk("helm", "rollback", "faces", "--rollback").stderr


@pytest.mark.parametrize("command", starting_with("docker compose "))
def test_compose_understands_its_commands(command, desk, docker_compose):
    done = desk(*docker_compose, *shlex.split(command)[2:])
    assert done.returncode != 0
    assert re.search(r"[Cc]annot connect to the Docker daemon|failed to connect to the docker API", done.stderr), (
        done.stderr
    )


def test_images_are_built_from_stages_that_exist_under_names_that_the_chart_asks_for(rendered):
    stages = re.findall(r"^FROM .* AS (\w[\w-]*)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    built = {}
    for command in starting_with("docker build "):
        words = shlex.split(command)
        target, tag = (words[words.index(flag) + 1] for flag in ("--target", "--tag"))
        assert (words[words.index("--file") + 1], words[-1]) == ("docker/Dockerfile", ".")
        assert target in stages
        built[tag] = target
    registry = "registry.example.com/vision"
    assert built[f"{registry}/fer-triton:0.1.0-cpu"] == "cpu"
    assert built[f"{registry}/fer-client:0.1.0"] == "client"
    pushed = {shlex.split(command)[2] for command in starting_with("docker push ")}
    assert pushed
    assert pushed <= built.keys()
