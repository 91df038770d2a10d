"""The command fer-serve: what it prints, that it heals the server, and that it leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import tritonclient.http
from pictures import image_tensor
from running_serve import SERVE, serving
from tritonclient.utils import InferenceServerException

from fer_build.assemble import assemble
from fer_build.errors import RepositoryError
from fer_build.manifest import read_manifest
from fer_build.release import RELEASED_ONNX
from fer_contract import BOXES, CLASSIFIER_MODEL, FER_MODEL
from fer_serve.errors import PortTakenError, ServerFailedError
from fer_serve.run import main
from fer_serve.server import EmbeddedTriton, Ports


def answers(http_url: str, data: bytes) -> bool:
    try:
        with tritonclient.http.InferenceServerClient(http_url) as client:
            answer = client.infer(FER_MODEL, [image_tensor(tritonclient.http, data)])
    except (InferenceServerException, OSError):
        return False
    return answer.as_numpy(BOXES).shape == (1, 4)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(repository, astronaut, no_leftovers, how):
    with serving(repository) as serve:
        assert answers(serve.http_url, astronaut)
        for line in ("HTTP     http://127.0.0.1:", "gRPC     grpc://127.0.0.1:", "metrics  http://127.0.0.1:"):
            assert line in serve.printed
        assert serve.stop(how) == 0


def test_nothing_is_left_when_fer_serve_is_killed(repository, no_leftovers):
    with serving(repository) as serve:
        processes = psutil.Process(serve.process.pid).children(recursive=True)
        assert len(processes) > 5  # the guard, the server, and a stub per instance
        serve.stop(signal.SIGKILL)
        _, alive = psutil.wait_procs(processes, 15)
        assert not alive
        Path(re.search(r"log +(\S+)", serve.printed)[1]).unlink()  # all that stays, to tell what happened


def test_a_killed_server_is_restarted(repository, astronaut, no_leftovers):
    with serving(repository) as serve:
        serve.tritonserver().kill()
        assert "restarting the server: tritonserver has died" in serve.read_until("ready again")
        assert answers(serve.http_url, astronaut)


def test_a_server_that_holds_too_much_memory_is_restarted(repository, astronaut, no_leftovers):
    """Triton 2.51 takes bodies of any size, and never gives back the shared memory that they have grown."""
    with serving(repository, "--memory-limit", "900") as serve:
        assert answers(serve.http_url, astronaut)
        assert not answers(serve.http_url, bytes(300 << 20))
        assert re.search("it holds [0-9,]+ MiB of memory, more than 900", serve.read_until("ready again"))
        assert answers(serve.http_url, astronaut)


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_a_memory_limit_that_is_none_is_refused(capsys, limit):
    with pytest.raises(SystemExit):
        main([f"--memory-limit={limit}"])
    assert f"argument --memory-limit: {limit} is not 1 or more" in capsys.readouterr().err


def test_a_command_finds_the_server_and_its_status_is_passed_on(repository, no_leftovers):
    script = "import os, sys; print(os.environ['FER_URL'], os.environ['FER_METRICS_URL']); sys.exit(5)"
    command = [*SERVE, "--repository", str(repository), "--free-ports", "--", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5
    assert re.fullmatch(r"http://127.0.0.1:\d+ http://127.0.0.1:\d+/metrics\n", done.stdout)


def test_a_command_that_does_not_exist_is_named(repository):
    command = [*SERVE, "--repository", str(repository), "--free-ports", "--", "no-such-command"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 127
    assert "cannot run no-such-command: No such file or directory" in done.stderr


@pytest.mark.parametrize("name", ["http", "grpc", "metrics"])
def test_a_taken_port_is_named(repository, no_leftovers, name):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        others = [f"--{other}-port=0" for other in ("http", "grpc", "metrics") if other != name]
        command = [*SERVE, "--repository", str(repository), f"--{name}-port={port}", *others]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"port {port} for {name} cannot be used on 127.0.0.1 (Address already in use)" in done.stderr
    assert f"--{name}-port" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_log_that_can_not_be_written_is_named(repository, tmp_path, no_leftovers):
    command = [*SERVE, "--repository", str(repository), "--free-ports", "--log", "no/such/folder.log"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2
    assert done.stderr == "fer-serve: the log cannot be written to no/such/folder.log: No such file or directory\n"
    assert not list(tmp_path.iterdir())


def test_one_port_for_two_is_refused(repository):
    with pytest.raises(PortTakenError, match="need different ports, not 9000, 9000"):
        EmbeddedTriton(repository, Ports(9000, 9000, 0)).start()


def test_a_port_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--http-port", "70000"])
    assert "argument --http-port: 70000 is not 0..65535" in capsys.readouterr().err


def test_a_server_is_not_started_twice(server):
    with pytest.raises(RuntimeError, match="is started already"):
        server.start()


def test_a_folder_that_is_no_repository_is_named(tmp_path):
    with pytest.raises(RepositoryError, match="is not a model repository: make one with"):
        EmbeddedTriton(tmp_path).start()


def test_a_repository_for_a_gpu_is_refused_in_one_line(tmp_path):
    assemble(tmp_path / "repository", profile="gpu")
    with pytest.raises(RepositoryError, match=r"^\S+ is made for a GPU, .* --profile cpu$"):
        EmbeddedTriton(tmp_path / "repository").start()


def test_a_model_that_does_not_load_is_quoted_from_the_log(tmp_path, no_leftovers):
    broken = tmp_path / "repository"
    assemble(broken, RELEASED_ONNX, runtime="onnxruntime")
    (broken / CLASSIFIER_MODEL / "1" / "model.onnx").write_bytes(b"no longer an ONNX file")
    with pytest.raises(ServerFailedError, match=r"(?s)did not start.*of its log.*fer_classifier.*Protobuf") as failure:
        EmbeddedTriton(broken).start()
    log = Path(re.search(r"its log, (\S+),", str(failure.value))[1])
    assert "Protobuf" in log.read_text()
    log.unlink()


def test_deeply_nested_json_does_not_kill_the_server(server):
    with tritonclient.http.InferenceServerClient(server.http_url) as client:
        client._post(f"v2/models/{FER_MODEL}/infer", "[" * 200_000, {}, {})
    assert server.probe() is None


def test_a_log_can_be_kept(repository, tmp_path):
    log = tmp_path / "server.log"
    with EmbeddedTriton(repository, log_file=log, exit_timeout_s=2):
        assert log.stat().st_size
    assert "successfully loaded 'fer'" in log.read_text()


def test_the_repository_s_root_stays_clean(repository, server):
    """A __pycache__ there would keep the next server from starting."""
    assert server.probe() is None
    assert not (repository / "__pycache__").exists()


def test_its_processes_do_not_interrupt_each_other(repository, server):
    """Under SCHED_BATCH a process that wakes up does not take the core from one that is at work."""
    ours = [p for p in psutil.Process().children(recursive=True) if str(server.ports.http) in " ".join(p.cmdline())]
    (triton,) = [process for process in ours if process.name() == "tritonserver"]
    stubs = triton.children()
    assert len(stubs) == sum(read_manifest(repository)["instances"].values())
    assert {os.sched_getscheduler(process.pid) for process in (triton, *stubs)} == {os.SCHED_BATCH}
