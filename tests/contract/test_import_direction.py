"""Who may import whom. Arrows point one way, so that each room can be read, changed and installed alone."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVING = {
    "fer_contract",
    "fer_images",
    "fer_detector",
    "fer_faces",
    "fer_process",
    "fer_quality",
    "fer_runtimes",
    "fer_scaling",
    "fer_search",
    "fer_yunet",
}
FORMATS = {"fer_bmp", "fer_exif", "fer_jpeg", "fer_pixels", "fer_png", "fer_refusals", "fer_webp"}
"""What `fer_images` is made of, and nobody else imports."""
OURS = (
    SERVING
    | FORMATS
    | {
        "fer_adapter",
        "fer_metrics",
        "fer_settings",
        "fer_tensors",
        "fer_bench",
        "fer_build",
        "fer_client",
        "fer_commands",
        "fer_loadtest",
        "fer_serve",
        "fer_sizing",
        "fer_training",
        "fer_web",
    }
)

MAY_IMPORT = {
    "triton_models/fer_contract.py": set(),
    "triton_models/fer_images.py": FORMATS | {"fer_scaling"},
    **{
        f"triton_models/{module}.py": {"fer_pixels", "fer_refusals"}
        for module in FORMATS - {"fer_exif", "fer_refusals"}
    },
    "triton_models/fer_exif.py": set(),
    "triton_models/fer_refusals.py": set(),
    "triton_models/fer_detector.py": {"fer_yunet"},  # when it is chosen
    "triton_models/fer_yunet.py": {"fer_detector"},
    "triton_models/fer_scaling.py": set(),
    "triton_models/fer_search.py": {"fer_detector", "fer_scaling"},
    "triton_models/fer_faces.py": {"fer_contract", "fer_images", "fer_detector", "fer_quality", "fer_scaling"},
    "triton_models/fer_quality.py": {"fer_contract"},
    "triton_models/fer_process.py": set(),
    "triton_models/fer_runtimes.py": {"fer_contract"},
    "triton_models/fer_settings.py": set(),
    "triton_models/fer_tensors.py": set(),
    "triton_models/fer_metrics.py": set(),
    "triton_models/fer_adapter.py": {"fer_contract", "fer_images", "fer_metrics", "fer_settings", "fer_tensors"},
    "triton_models/*/1/model.py": SERVING | {"fer_adapter", "fer_metrics", "fer_settings", "fer_tensors"},
    "build/fer_build": SERVING | {"fer_commands"},
    "build/make_release.py": {"fer_commands"},
    "serve/fer_serve": SERVING | {"fer_build", "fer_commands"},
    "training/fer_training": SERVING | {"fer_client", "fer_commands"},  # to measure a running server
    "client/fer_client": {"fer_commands", "fer_contract"},
    "commands/fer_commands": set(),
    "bench/fer_bench": SERVING | {"fer_build", "fer_client", "fer_commands", "fer_serve"},
    "docker/sizing/fer_sizing": SERVING | {"fer_bench", "fer_build", "fer_commands", "fer_serve"},
    "loadtest": {"fer_contract", "fer_client", "fer_commands", "fer_loadtest"},
    "web/fer_web": {"fer_client", "fer_commands"},
}
"""A room may always import itself."""

LIGHT = {"numpy", "tritonclient", "aiohttp", "grpc", "google", "tomli", "tomllib", "PIL", "shtab"}
"""What the client may import from outside: NumPy, tomli on Python 3.10, what its extras for gRPC, asyncio and drawing
bring, and what makes the scripts for shells, which are shipped."""

VIDEO = {"av", "matplotlib"}
"""What its folder `video` may import besides."""

ROOMS = (
    "bench",
    "build",
    "client",
    "commands",
    "docker/sizing",
    "loadtest",
    "serve",
    "training",
    "triton_models",
    "web",
)


def files_of(pattern: str) -> list[Path]:
    paths = sorted(ROOT.glob(pattern))
    return [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]


def imports_of(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


CLIENT_TESTS = ("tests/unit/client/", "tests/integration/test_client_", "tests/forked_clients.py")
"""Tests of the client's own parts, which alone may reach into it."""


def private_modules_in(text: str) -> set[str]:
    """The client's private modules that a Python file imports, or names in any other way."""
    names = set(re.findall(r"\bfer_client\.(_[a-z]\w*)", text))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "fer_client":
            names |= {alias.name for alias in node.names if alias.name.startswith("_")}
    return names


@pytest.mark.parametrize(
    "text",
    [
        "from fer_client._server import ServedModel",
        "import fer_client._server as server",
        "from fer_client import FerClient, _server",
        "def later():\n    from fer_client._server import ServedModel",
        "monkeypatch.setattr('fer_client._server.parameter', None)",
    ],
)
def test_private_modules_of_the_client_are_recognised(text):
    assert private_modules_in(text) == {"_server"}


def test_only_the_client_uses_its_private_modules():
    everything = {
        file.relative_to(ROOT).as_posix(): file for room in (*ROOMS, "docker", "tests") for file in files_of(room)
    }
    others = [name for name in everything if not name.startswith(("client/", *CLIENT_TESTS))]
    assert len(others) > 100
    itself = Path(__file__).relative_to(ROOT).as_posix()
    offenders = {
        name: found for name in others if name != itself if (found := private_modules_in(everything[name].read_text()))
    }
    assert not offenders, "use fer_client, fer_client.protocol or fer_client.protocol_grpc"


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_follow_the_direction(room):
    itself = {Path(room).name}
    files = files_of(room)
    assert files
    for file in files:
        assert imports_of(file) & OURS <= MAY_IMPORT[room] | itself, file


@pytest.mark.parametrize("room", ROOMS)
def test_modules_of_a_room_do_not_import_each_other_in_a_circle(room):
    """Imports for types only are imports here too; those within functions are made later, and are not."""
    files = {".".join(f.relative_to(ROOT / room).with_suffix("").parts): f for f in files_of(f"{room}/**/*.py")}
    modules = {name.removesuffix(".__init__"): ast.parse(file.read_text()) for name, file in files.items()}
    graph = {}
    for name, tree in modules.items():
        statements, imported = list(tree.body), set()
        for node in statements:  # It grows.
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                statements += ast.iter_child_nodes(node)
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
                imported |= inner or {node.module}
        graph[name] = imported & modules.keys()
    assert graph
    TopologicalSorter(graph).prepare()  # Raises CycleError, which names the modules.


def test_every_source_file_is_in_a_room():
    covered = {file for room in MAY_IMPORT for file in files_of(room)}
    sources = [f for room in ROOMS for f in files_of(room)]
    assert set(sources) <= covered


def test_the_client_imports_nothing_heavy():
    for file in files_of("client/fer_client"):
        allowed = LIGHT | VIDEO if file.parent.name == "video" else LIGHT
        assert imports_of(file) <= allowed | OURS | set(sys.stdlib_module_names), file


def test_the_contract_is_standard_library_only():
    (file,) = files_of("triton_models/fer_contract.py")
    assert imports_of(file) <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("room", [*ROOMS, "docker", "tests"])
def test_rooms_are_folders_not_packages(room):
    """An __init__.py there would shadow packages of these names from PyPI."""
    assert (ROOT / room).is_dir()
    assert not (ROOT / room / "__init__.py").exists()
