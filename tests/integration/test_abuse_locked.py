"""What the server keeps to itself: loopback unless told otherwise, and no administration over either protocol."""

import socket
import urllib.request

import grpc
import psutil
import pytest
from raw_requests import ask_http, http_request, open_channel
from running_serve import serving
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fer_contract import FER_MODEL
from fer_serve.run import main


def listening(tritonserver: psutil.Process) -> set[tuple[str, int]]:
    sockets = tritonserver.net_connections("inet")
    addresses = [s.laddr for s in sockets if s.status == psutil.CONN_LISTEN]
    # gRPC listens on IPv6 too where it is given 0.0.0.0.
    return {("0.0.0.0" if a.ip == "::" else a.ip.removeprefix("::ffff:"), a.port) for a in addresses}


def port_of(url: str) -> int:
    return int(url.removesuffix("/metrics").rpartition(":")[2])


def test_it_listens_on_loopback_only(server):
    (tritonserver,) = [p for p in psutil.Process().children(recursive=True) if p.name() == "tritonserver"]
    ports = (server.ports.http, server.ports.grpc, server.ports.metrics)
    assert listening(tritonserver) == {("127.0.0.1", port) for port in ports}


def test_another_address_has_to_be_asked_for_and_is_warned_of(repository, no_leftovers, monkeypatch):
    """Metrics stay on loopback all the same, and nothing in the environment changes what is served."""
    monkeypatch.setenv("AIP_MODE", "PREDICTION")  # Triton would serve Vertex AI's protocol instead
    with serving(repository, "--address", "0.0.0.0") as serve:
        http, grpc_port, metrics = map(port_of, (serve.http_url, serve.grpc_url, serve.metrics_url))
        expected = {("0.0.0.0", http), ("0.0.0.0", grpc_port), ("127.0.0.1", metrics)}
        assert listening(serve.tritonserver()) == expected
        assert serve.http_url == f"127.0.0.1:{http}"  # where it can be reached
        assert "--address 0.0.0.0: whoever reaches this address can use the server" in serve.printed
        assert ask_http(f"127.0.0.2:{http}", http_request(b"", "/v2/health/ready", "GET")).status == 200
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", metrics), 5):
            pass


def test_metrics_have_an_address_of_their_own(repository, no_leftovers):
    with serving(repository, "--metrics-address", "127.0.0.2") as serve:
        assert "whoever reaches this address" not in serve.printed
        assert serve.http_url.startswith("127.0.0.1:")
        with urllib.request.urlopen(serve.metrics_url, timeout=10) as response:
            assert b"nv_inference_request_success" in response.read()
        assert ("127.0.0.2", port_of(serve.metrics_url)) in listening(serve.tritonserver())


@pytest.mark.parametrize("flag", ["--address", "--metrics-address"])
@pytest.mark.parametrize("address", ["localhost", "::", "1.2.3", ""])
def test_what_is_no_address_is_named(capsys, flag, address):
    with pytest.raises(SystemExit):
        main([flag, address])
    error = capsys.readouterr().err
    assert f"argument {flag}: {address} is no IPv4 address: give one of this machine's, or 0.0.0.0" in error


@pytest.mark.parametrize("key", [{}, {"fer_key": "guess"}, {"fer_key": ""}], ids=["no key", "wrong key", "empty key"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "repository/index"),
        ("POST", f"repository/models/{FER_MODEL}/load"),
        ("POST", f"repository/models/{FER_MODEL}/unload"),
        ("GET", "systemsharedmemory/status"),
        ("POST", "systemsharedmemory/region/any/register"),
        ("POST", "systemsharedmemory/unregister"),
        ("GET", "cudasharedmemory/status"),
        ("POST", "cudasharedmemory/region/any/register"),
        ("GET", "trace/setting"),
        ("POST", "trace/setting"),
        ("POST", f"models/{FER_MODEL}/trace/setting"),
        ("GET", "logging"),
        ("POST", "logging"),
    ],
)
def test_administration_is_refused_over_http(server, method, path, key):
    answer = ask_http(server.http_url, http_request(b"{}", f"/v2/{path}", method, **key))
    assert answer.status == 403
    assert "This API is restricted, expecting header 'fer-key'" in answer.message


@pytest.mark.parametrize("metadata", [[], [("fer-key", "guess")]], ids=["no key", "wrong key"])
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("RepositoryIndex", service_pb2.RepositoryIndexRequest()),
        ("RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest(model_name=FER_MODEL)),
        ("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name=FER_MODEL)),
        ("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest()),
        ("SystemSharedMemoryRegister", service_pb2.SystemSharedMemoryRegisterRequest(name="a", key="/a", byte_size=1)),
        ("SystemSharedMemoryUnregister", service_pb2.SystemSharedMemoryUnregisterRequest()),
        ("CudaSharedMemoryStatus", service_pb2.CudaSharedMemoryStatusRequest()),
        ("CudaSharedMemoryRegister", service_pb2.CudaSharedMemoryRegisterRequest(name="a")),
        ("TraceSetting", service_pb2.TraceSettingRequest()),
        ("LogSettings", service_pb2.LogSettingsRequest()),
    ],
)
def test_administration_is_refused_over_grpc(server, call, message, metadata):
    with open_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(
            grpc.RpcError, match="This protocol is restricted, expecting header 'triton-grpc-protocol-fer-key'"
        ):
            getattr(stub, call)(message, timeout=10, metadata=metadata)


@pytest.mark.parametrize("path", ["health/live", "health/ready", "", "models/fer", "models/fer/config", "models/stats"])
def test_what_clients_need_is_open(server, path):
    assert ask_http(server.http_url, http_request(b"", f"/v2/{path}".rstrip("/"), "GET")).status == 200
