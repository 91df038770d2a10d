"""Encrypted connections to the real Triton through a real proxy: nginx, over HTTP and gRPC, by both clients.

Certificates are made anew for each run. Without nginx (Debian: nginx-light) or openssl, all of this is skipped.
"""

import asyncio
import getpass
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fer_client import (
    AsyncFerClient,
    AuthenticationError,
    FerClient,
    ImageRefusedError,
    ServerUnreachableError,
    Tls,
    TlsError,
)

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="needs nginx: apt-get install nginx-light"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl: apt-get install openssl"),
]

TOKEN = "open-sesame"
PASSPHRASE = "abracadabra"

SITES = {
    "plain": "",
    "mutual": "ssl_client_certificate authority.pem; ssl_verify_client on;",
    "named": "",
    "expired": "",
    "guarded": f'if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}',
    "narrow": "client_max_body_size 1k;",
    "deserted": "",
}
"""What each port of the proxy does. `named` and `expired` have certificates of their own, `deserted` has no server."""


def openssl(*arguments, folder):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]


def make_authority(folder, name):
    openssl(
        *("req", "-x509", *KEY, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
        *("-days", "2", "-subj", f"/CN={name}"),
        folder=folder,
    )


def make_certificate(folder, name, extension, authority="authority", days="2", encryption=("-nodes",)):
    openssl(
        *("req", *KEY, *encryption, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        folder=folder,
    )
    (folder / f"{name}.ext").write_text(extension)
    openssl(
        *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key"),
        *("-CAcreateserial", "-days", days, "-extfile", f"{name}.ext", "-out", f"{name}.pem"),
        folder=folder,
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder of PEM files."""
    folder = tmp_path_factory.mktemp("certificates")
    make_authority(folder, "authority")
    make_authority(folder, "stranger")
    make_certificate(folder, "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    make_certificate(folder, "named", "subjectAltName=DNS:fer.example")
    make_certificate(folder, "expired", "subjectAltName=IP:127.0.0.1", days="0")
    make_certificate(folder, "client", "extendedKeyUsage=clientAuth")
    make_certificate(folder, "intruder", "extendedKeyUsage=clientAuth", authority="stranger")
    make_certificate(folder, "locked", "extendedKeyUsage=clientAuth", encryption=("-passout", f"pass:{PASSPHRASE}"))
    (folder / "both.pem").write_text((folder / "client.pem").read_text() + (folder / "client.key").read_text())
    (folder / "no_certificate.pem").write_text("no certificate at all")
    return folder


@dataclass(frozen=True)
class Proxy:
    """A running nginx: its ports by protocol and site."""

    ports: dict[tuple[str, str], int]

    def url(self, protocol, site, host="127.0.0.1"):
        return f"{protocol}s://{host}:{self.ports[protocol, site]}"


def free_ports(count):
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in with_ports]
    for listener in with_ports:
        listener.close()
    return ports


@pytest.fixture(scope="module")
def proxy(certificates, server, tmp_path_factory):
    """nginx before the real Triton."""
    names = [(protocol, site) for protocol in ("http", "grpc") for site in SITES]
    *ports, deserted_port = free_ports(len(names) + 1)
    running = Proxy(dict(zip(names, ports, strict=True)))
    folder = tmp_path_factory.mktemp("nginx")
    blocks = []
    for (protocol, site), port in running.ports.items():
        behind = server.http_url if protocol == "http" else server.grpc_url
        target = f"127.0.0.1:{deserted_port}" if site == "deserted" else behind
        passing = f"proxy_pass http://{target};" if protocol == "http" else f"grpc_pass grpc://{target};"
        http2 = " http2" * (protocol == "grpc")
        certificate = site if site in ("named", "expired") else "localhost"
        blocks.append(
            f"server {{ listen 127.0.0.1:{port} ssl{http2}; {SITES[site]}\n"
            f"ssl_certificate {certificate}.pem; ssl_certificate_key {certificate}.key;\n"
            f"location / {{ {passing} }} }}"
        )
    buffers = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{name}_temp_path {folder}/{name};" for name in buffers)
    configuration = certificates / "nginx.conf"  # Names of files in it are relative to its folder.
    configuration.write_text(
        f"user {getpass.getuser()}; daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\n"
        f"events {{ worker_connections 256; }}\n"
        f"http {{ access_log off; client_max_body_size 30m; {paths}\n" + "\n".join(blocks) + "\n}\n"
    )
    command = [NGINX, "-p", str(folder), "-c", str(configuration), "-e", f"{folder}/error.log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(ports, process)
        yield running
        process.terminate()


def wait_for(ports, process):
    deadline_s = time.monotonic() + 20
    for port in ports:
        while True:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline_s, "nginx does not listen"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)


def predict_sync(image, url, **options):
    with FerClient(url, **options) as client:
        return client.predict(image)


def predict_async(image, url, **options):
    async def run():
        async with AsyncFerClient(url, **options) as client:
            return await client.predict(image)

    return asyncio.run(run())


@pytest.fixture(params=[predict_sync, predict_async], ids=["sync", "async"])
def predict(request, astronaut):
    """Sends the photo to a URL by each client in turn."""
    return lambda url, **options: request.param(astronaut, url, **options)


@pytest.fixture(params=["http", "grpc"])
def protocol(request):
    return request.param


@pytest.fixture
def trusting(certificates):
    return Tls(ca_file=certificates / "authority.pem")


@pytest.mark.parametrize(("host", "compression"), [("127.0.0.1", None), ("localhost", "gzip")])
def test_a_trusted_server_is_asked(predict, proxy, protocol, trusting, host, compression):
    prediction = predict(proxy.url(protocol, "plain", host), tls=trusting, compression=compression)
    assert [face.emotion for face in prediction.faces] == ["happy"]


def test_tls_without_a_scheme_is_encrypted_too(predict, proxy, protocol, trusting):
    address = proxy.url(protocol, "plain").partition("://")[2]
    assert len(predict(address, protocol=protocol, tls=trusting).faces) == 1


def test_many_requests_share_encrypted_connections(proxy, protocol, trusting, astronaut):
    with FerClient(proxy.url(protocol, "plain"), tls=trusting) as client:
        results = list(client.predict_many([astronaut] * 12, concurrency=4))
    assert [len(result.faces) for result in results] == [1] * 12


@pytest.mark.parametrize("tls", [None, Tls(), "stranger.pem"], ids=["none given", "system", "stranger"])
def test_a_server_whose_authority_is_unknown_is_refused(predict, proxy, protocol, certificates, tls):
    tls = Tls(ca_file=certificates / tls) if isinstance(tls, str) else tls
    url = proxy.url(protocol, "plain")
    message = f"no trusted connection to {url}: its certificate is signed by nobody trusted: give the CA file"
    with pytest.raises(TlsError, match=re.escape(message)) as caught:
        predict(url, tls=tls)
    assert not caught.value.is_temporary


def test_a_server_of_another_name_is_refused(predict, proxy, protocol, trusting):
    with pytest.raises(TlsError, match="its certificate is for another name than the URL's"):
        predict(proxy.url(protocol, "named"), tls=trusting)


def test_a_server_of_another_name_is_accepted_when_that_is_given(predict, proxy, protocol, certificates):
    named = Tls(ca_file=certificates / "authority.pem", server_name="fer.example")
    assert len(predict(proxy.url(protocol, "named"), tls=named).faces) == 1
    wrong = Tls(ca_file=certificates / "authority.pem", server_name="other.example")
    with pytest.raises(TlsError, match="its certificate is for another name"):
        predict(proxy.url(protocol, "named"), tls=wrong)


def test_an_expired_certificate_is_refused(predict, proxy, protocol, trusting):
    with pytest.raises(TlsError, match="its certificate has expired"):
        predict(proxy.url(protocol, "expired"), tls=trusting)


@pytest.mark.parametrize(("certificate", "key"), [("client.pem", "client.key"), ("both.pem", None)])
def test_a_client_that_shows_its_certificate_is_let_in(predict, proxy, protocol, certificates, certificate, key):
    tls = Tls(certificates / "authority.pem", certificates / certificate, key and certificates / key)
    assert len(predict(proxy.url(protocol, "mutual"), tls=tls).faces) == 1


@pytest.mark.parametrize("certificate", [None, "intruder"])
def test_a_client_without_an_accepted_certificate_is_told_to_give_one(
    predict, proxy, protocol, certificates, certificate
):
    own = (certificates / f"{certificate}.pem", certificates / f"{certificate}.key") if certificate else ()
    with pytest.raises(TlsError, match="client certificate"):
        predict(proxy.url(protocol, "mutual"), tls=Tls(certificates / "authority.pem", *own))


def test_the_right_token_is_let_in_and_no_other(predict, proxy, protocol, trusting):
    url = proxy.url(protocol, "guarded")
    assert len(predict(url, tls=trusting, token=TOKEN).faces) == 1
    assert len(predict(url, tls=trusting, headers={"Authorization": f"Bearer {TOKEN}"}).faces) == 1
    for token in (None, "open-barley"):
        with pytest.raises(AuthenticationError, match="give the token or the header that it asks for") as caught:
            predict(url, tls=trusting, token=token)
        assert "barley" not in str(caught.value)


def test_a_proxy_that_takes_less_than_the_image_refuses_it(predict, proxy, protocol, trusting):
    with pytest.raises(ImageRefusedError, match="413"):
        predict(proxy.url(protocol, "narrow"), tls=trusting)


def test_a_proxy_without_its_server_is_unreachable_for_now(predict, proxy, protocol, trusting):
    with pytest.raises(ServerUnreachableError, match="502") as caught:
        predict(proxy.url(protocol, "deserted"), tls=trusting, retries=1)
    assert caught.value.is_temporary
    assert not isinstance(caught.value, TlsError)


def test_http_to_an_encrypted_port_is_told_so(predict, proxy):
    url = proxy.url("http", "plain").replace("https", "http")
    with pytest.raises(TlsError, match="what listens there speaks TLS: add an s to the URL's scheme"):
        predict(url)


def test_grpc_to_an_encrypted_port_is_unreachable(predict, proxy):
    url = proxy.url("grpc", "plain").replace("grpcs", "grpc")
    with pytest.raises(ServerUnreachableError, match=f"no server answers at {url}"):
        predict(url, retries=0)


def test_tls_to_a_plain_port_is_told_so(predict, server, protocol, trusting):
    address = server.http_url if protocol == "http" else server.grpc_url
    with pytest.raises(TlsError, match="what listens there does not speak TLS: leave the s of the scheme out"):
        predict(f"{protocol}s://{address}", tls=trusting)


@pytest.mark.parametrize("kind", [FerClient, AsyncFerClient])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ca_file": "missing.pem"}, r"TLS: cannot read .*missing\.pem: No such file"),
        ({"ca_file": "no_certificate.pem"}, r"TLS: .*no_certificate\.pem holds no PEM certificates"),
        ({"certificate_file": "missing.pem"}, r"TLS: cannot read .*missing\.pem: No such file"),
        ({"key_file": "client.key"}, r"TLS: the key .*client\.key comes without its certificate"),
        ({"certificate_file": "client.pem"}, r"client\.pem .* no PEM certificate and its own private key"),
        ({"certificate_file": "client.pem", "key_file": "intruder.key"}, "no PEM certificate and its own private key"),
        ({"certificate_file": "locked.pem", "key_file": "locked.key"}, "the private key asks for a passphrase"),
    ],
)
def test_files_that_cannot_be_used_are_refused_when_the_client_is_made(certificates, protocol, kind, files, message):
    tls = Tls(**{name: Path(certificates / file) for name, file in files.items()})
    with pytest.raises(ValueError, match=message):
        kind(f"{protocol}s://localhost", tls=tls)
