"""`fer-client` through a real proxy that brings TLS and asks for a token or a certificate: nginx, as Debian has it."""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fer_client.cli import main

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.png"
TOKEN = "s3cr3t-T0ken"

pytestmark = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")), reason="needs nginx and openssl: apt-get install both"
)

SITE = """
    server {{
        listen 127.0.0.1:{port} ssl{http2};
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.key;
        {verify}
        client_max_body_size 0;
        if ($http_authorization != "{authorization}") {{ return 401; }}
        location / {{ {target}; }}
    }}
"""


@dataclass(frozen=True)
class Proxy:
    """URLs of a site that asks for a token, and of one that asks for a certificate, for each protocol."""

    folder: Path
    with_token: dict[str, str]
    with_certificate: dict[str, str]


def openssl(folder, command):
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def make_certificates(folder):
    """An authority, the server's certificate for localhost, a client's, and an authority that signed nothing."""
    key = "req -newkey rsa:2048 -nodes -keyout"
    for name in ("ca", "stranger"):
        openssl(folder, f"{key} {name}.key -x509 -days 2 -out {name}.pem -subj /CN={name}")
    for name in ("server", "client"):
        (folder / "extension").write_text(f"subjectAltName=DNS:{'localhost' if name == 'server' else name}")
        openssl(folder, f"{key} {name}.key -out request -subj /CN={name}")
        sign = "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extension"
        openssl(folder, f"{sign} -out {name}.pem")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def proxy(server, tmp_path_factory):
    """nginx in front of the server."""
    folder = tmp_path_factory.mktemp("proxy")
    make_certificates(folder)
    ports = dict(zip([(kind, site) for kind in ("http", "grpc") for site in (0, 1)], free_ports(4), strict=True))
    targets = {"http": f"proxy_pass http://{server.http_url}", "grpc": f"grpc_pass grpc://{server.grpc_url}"}
    sites = "".join(
        SITE.format(
            port=port,
            http2=" http2" if kind == "grpc" else "",
            folder=folder,
            verify=f"ssl_verify_client on; ssl_client_certificate {folder}/ca.pem;" if site else "",
            authorization="" if site else f"Bearer {TOKEN}",
            target=targets[kind],
        )
        for (kind, site), port in ports.items()
    )
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; {user} worker_processes 1;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary} {sites} }}\n"
    )
    nginx = subprocess.Popen(["nginx", "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")])
    try:
        wait_until_open(nginx, ports.values())
        urls = {key: f"{key[0]}s://localhost:{port}" for key, port in ports.items()}
        yield Proxy(folder, *({kind: urls[kind, site] for kind in ("http", "grpc")} for site in (0, 1)))
    finally:
        nginx.terminate()
        nginx.wait(timeout=20)


def wait_until_open(process, ports):
    end_s = time.monotonic() + 20
    for port in ports:
        while not is_open(port):
            assert process.poll() is None, "nginx has ended"
            assert time.monotonic() < end_s, "nginx does not listen"
            time.sleep(0.05)


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def fer_client(proxy, capsys, monkeypatch, tmp_path):
    """Run the command in this process: exit code, output, lines on stderr."""
    monkeypatch.chdir(proxy.folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("FER_URL", "FER_GRPC_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "token").write_text(f"{TOKEN}\n")

    def run(*arguments):
        code = main([*map(str, arguments), "--retries", "0", "--timeout", "20"])
        out, err = capsys.readouterr()
        assert TOKEN not in out + err
        return code, out, err.splitlines()

    return run


@pytest.fixture(params=["http", "grpc"])
def kind(request):
    return request.param


def test_a_token_and_the_authority_open_the_door(fer_client, proxy, kind, tmp_path):
    code, out, err = fer_client(
        "predict", PHOTO, "--url", proxy.with_token[kind], "--ca-cert", "ca.pem", "--token-file", tmp_path / "token"
    )
    assert (code, err) == (0, [])
    assert "happy" in out


def test_so_do_variables_and_the_configuration_file(fer_client, proxy, kind, tmp_path, monkeypatch):
    (tmp_path / "fer-client").mkdir()
    config = tmp_path / "fer-client" / "config.toml"
    config.write_text(f'url = "{proxy.with_token[kind]}"\nca_cert = "{proxy.folder}/ca.pem"\ntoken = "{TOKEN}"\n')
    config.chmod(0o600)
    assert fer_client("health")[0] == 0
    config.unlink()
    monkeypatch.setenv("FER_URL", proxy.with_token[kind])
    monkeypatch.setenv("FER_CA_CERT", "ca.pem")
    monkeypatch.setenv("FER_TOKEN", TOKEN)
    assert fer_client("info")[0] == 0


@pytest.mark.parametrize("token", [None, "wr0ng"])
@pytest.mark.parametrize("command", [["predict", PHOTO], ["health"], ["info"], ["bench"]])
def test_a_missing_or_wrong_token_is_6_and_one_line(fer_client, proxy, kind, tmp_path, token, command):
    options = [] if token is None else ["--token-file", tmp_path / "token"]
    (tmp_path / "token").write_text(token or "")
    url = proxy.with_token[kind]
    code, out, err = fer_client(*command, "--url", url, "--ca-cert", "ca.pem", *options)
    assert (code, out, len(err)) == (6, "", 1)
    assert err[0].startswith(f"fer-client: {url} does not let this client in: ")
    assert "wr0ng" not in err[0]


def test_a_certificate_opens_the_door(fer_client, proxy, kind):
    options = ["--ca-cert", "ca.pem", "--client-cert", "client.pem", "--client-key", "client.key"]
    assert fer_client("health", "--url", proxy.with_certificate[kind], *options)[0] == 0


def test_without_the_certificate_it_stays_shut(fer_client, proxy, kind):
    code, out, err = fer_client("health", "--url", proxy.with_certificate[kind], "--ca-cert", "ca.pem")
    assert code in (1, 3, 6)
    assert (out, len(err)) == ("", 1)


@pytest.mark.parametrize("options", [[], ["--ca-cert", "stranger.pem"]])
def test_an_authority_that_is_not_trusted_is_3_and_one_line(fer_client, proxy, kind, options):
    url = proxy.with_token[kind]
    code, out, err = fer_client("health", "--url", url, *options)
    assert (code, out, len(err)) == (3, "", 1)
    assert err[0].startswith(f"fer-client: no trusted connection to {url}: ")


def test_another_name_than_the_certificate_s_is_3_unless_it_is_given(fer_client, proxy, kind, tmp_path):
    url = proxy.with_token[kind].replace("localhost", "127.0.0.1")
    options = ["--url", url, "--ca-cert", "ca.pem", "--token-file", tmp_path / "token"]
    code, _, err = fer_client("health", *options)
    assert (code, len(err)) == (3, 1)
    assert fer_client("health", *options, "--tls-server-name", "localhost")[0] == 0


def test_a_server_with_tls_that_is_called_without_is_one_line(fer_client, proxy, kind):
    url = proxy.with_token[kind].replace("s://", "://")
    code, out, err = fer_client("health", "--url", url)
    assert code in (1, 3)
    assert (out, len(err)) == ("", 1)
    assert url in err[0]


def test_a_key_that_does_not_belong_to_the_certificate_is_2_and_named(fer_client, proxy, kind):
    options = ["--ca-cert", "ca.pem", "--client-cert", "client.pem", "--client-key", "server.key"]
    code, _, err = fer_client("health", "--url", proxy.with_certificate[kind], *options)
    assert (code, len(err)) == (2, 1)
    assert "server.key" in err[0]
