"""What no good client sends, and what every answer carries."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request

import jsonschema
import pytest
import requests
from running_web import FakeClient, running_web, wait_until

from fer_web import guards
from fer_web.openapi import describe_service
from fer_web.problems import KINDS
from fer_web.rates import network_of
from fer_web.server import Listener
from fer_web.settings import Settings
from fer_web.uploads import clean_name

BOUNDARY = b"----limit"


@pytest.fixture(scope="module")
def web():
    limits = {"max_images": 4, "max_image_bytes": 100_000, "max_request_bytes": 300_000}
    with (
        pytest.MonkeyPatch.context() as patch,
        running_web(client=FakeClient(), body_timeout_s=0.6, header_timeout_s=0.6, **limits) as running,
    ):
        patch.setattr(guards, "_LINGER_S", 0.5)  # Two seconds are for slow lines.
        yield running


@pytest.fixture(autouse=True)
def still_serving(web):
    yield
    assert requests.post(f"{web.url}/v1/faces", b"x", headers={"Content-Type": "image/png"}, timeout=5).ok
    held = requests.get(f"{web.url}/metrics", timeout=5).text
    assert "fer_web_requests_in_flight 0.0" in held
    assert "fer_web_buffered_bytes 0.0" in held


def request(body=b"", *, kind=b"image/png", length=None, more=()):
    head = [b"POST /v1/faces HTTP/1.1", b"Host: a", b"Content-Type: " + kind, b"Connection: close", *more]
    head.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def multipart(*parts, end=True):
    return (
        b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + (b"--" + BOUNDARY + b"--\r\n") * end
    )


def part(content, name=b"image", more=b'; filename="a.jpg"', headers=b""):
    return b'Content-Disposition: form-data; name="' + name + b'"' + more + b"\r\n" + headers + b"\r\n" + content


FORM = b"multipart/form-data; boundary=" + BOUNDARY
LINE = b"x" * 100 + b"\r\n"


def status_of(answer):
    assert answer, "the connection was closed without an answer"
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(b"x", length=10**12), 413),
        (request(b"x", length=10**400), 400),
        (request(b"x" * 300_001), 413),
        (request(b"x" * 100_001), 413),
        (b"POST /v1/faces HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/faces HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        (request(more=[b"Transfer-Encoding: chunked"]).replace(b"Content-Length: 0", b"A: b") + b"zz\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"A: " + b"x" * 40_000 + b"\r\nConnection: close\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"A: x\r\n" * 500 + b"Connection: close\r\n\r\n", 431),
        (b"GET /healthz\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (request(b"x", more=[b"Content-Encoding: gzip"]), 415),
        (request(b"x", more=[b"Content-Encoding: br, gzip"]), 415),
        (request(b"x", kind=b"multipart/form-data"), 400),
        (request(b"x", kind=b"multipart/form-data; boundary=" + b"b" * 5_000), 400),
        (request(multipart(part(b"x"), end=False), kind=FORM), 400),
        (request(multipart(*[part(b"x")] * 10_000)[:290_000], kind=FORM), 413),
        (request(multipart(*[part(b"1", b"a%d" % i, b"") for i in range(4_000)])[:290_000], kind=FORM), 400),
        (request(multipart(part(b"1" * 10_000, b"max_faces", b"")), kind=FORM), 400),
        (request(multipart(part(b"1", b"max_faces", b""), part(b"2", b"max_faces", b"")), kind=FORM), 400),
        (request(multipart(part(b"x", headers=b"Content-Type: multipart/mixed; boundary=b\r\n")), kind=FORM), 400),
        (request(multipart(part(b"x", headers=b"Content-Transfer-Encoding: base64\r\n")), kind=FORM), 400),
        (request(multipart(part(b"x", headers=b"A: b\r\n" * 1_000)), kind=FORM), 400),
        (request(multipart(part(b"x", headers=b"A: " + b"b" * 90_000 + b"\r\n")), kind=FORM), 400),
        (request(multipart(b"\r\nx"), kind=FORM), 400),
        (request(multipart(part(b"", b"image", b"")), kind=FORM), 400),
        (request(multipart(part(b"x" * 100_001)), kind=FORM), 413),
        (request(multipart(part(b"x", more=b'; filename="a\x00\r.jpg"')), kind=FORM), 400),
        (request(multipart(part(b"x", more=b'; filename="../../%00\xff\xfe.jpg"')), kind=FORM), 200),
        (request(multipart(part(b"x", name=b"\x00\xff")), kind=FORM), 200),
    ],
)  # fmt: skip
def test_hostile_requests_are_refused_and_the_service_goes_on(web, sent, status):
    answer = web.send(sent)
    assert status_of(answer) == status, answer
    assert b"Traceback" not in answer
    assert b"site-packages" not in answer


def test_a_body_without_an_end_is_cut_off(web):
    """Chunked, so that its head does not say how large it is."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", web.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/faces HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        sent = 0
        answer = b""
        connection.settimeout(0.01)
        while b"HTTP/1.1 413" not in answer:
            connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            sent += 0x10000
            assert sent < 10e6
            try:
                answer += connection.recv(65536)
            except TimeoutError:
                continue
        connection.settimeout(10)
        while connection.recv(65536):
            pass
    assert time.monotonic() - started < 6


@pytest.mark.parametrize(
    ("start", "status"), [(request(b"x", length=50_000), 408), (b"POST /v1/faces HTTP/1.1\r\nHost: a\r\nX-Slow: ", 400)]
)
def test_what_trickles_in_is_not_waited_for(web, start, status):
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", web.port), timeout=10) as connection:
        connection.sendall(start)
        answer = b""
        connection.settimeout(0.1)
        while time.monotonic() - started < 8:
            try:
                if not (read := connection.recv(65536)):
                    break
                answer += read
            except TimeoutError:
                connection.sendall(b"x")
            except ConnectionResetError:
                break
    assert status_of(answer) == status
    assert time.monotonic() - started < 6


def test_an_answer_that_is_not_taken_is_not_kept():
    """Fifteen megabytes of answers, more than the system holds for a client that does not read."""
    asked = b"GET /static/page.css HTTP/1.1\r\nHost: a\r\n\r\n" * 1_500
    with running_web(client=FakeClient(), send_timeout_s=0.3) as web, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", web.port))
        connection.settimeout(3)
        connection.sendall(asked)
        time.sleep(1)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 20):
                taken += len(part)
    assert taken < 12e6


def test_many_refusals_over_one_connection_stay_in_step(web):
    with requests.Session() as session:
        for _ in range(3):
            for path, status in (("/nothing", 404), ("/v1/faces", 405), ("/healthz", 200)):
                assert session.get(web.url + path, timeout=5).status_code == status


def test_a_request_id_is_kept_where_it_is_harmless(web):
    for given, kept in (("abc-1.2_3", True), ("a b", False), ("x" * 65, False), ("a\xff", False)):
        answer = requests.get(f"{web.url}/healthz", headers={"X-Request-ID": given.encode("latin-1")}, timeout=5)
        assert (answer.headers["X-Request-ID"] == given) == kept


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.js", "/v1/model", "/nothing", "/openapi.json"])
def test_every_answer_forbids_framing_sniffing_and_scripts_of_others(web, path):
    headers = requests.get(web.url + path, timeout=5).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] in ("no-store", "no-cache")
    assert "Access-Control-Allow-Origin" not in headers
    assert "Server" not in headers


def test_pages_of_other_origins_are_refused_unless_they_are_named(web):
    foreign = {"Origin": "https://evil.example", "Content-Type": "image/png"}
    assert requests.post(f"{web.url}/v1/faces", b"x", headers=foreign, timeout=5).status_code == 403
    assert requests.post(f"{web.url}/v1/faces", b"x", headers={**foreign, "Origin": web.url}, timeout=5).ok
    assert (
        requests.post(f"{web.url}/v1/faces", b"x", headers={**foreign, "Origin": "null"}, timeout=5).status_code == 403
    )
    with running_web(Settings("http://model", cors_origins=("https://good.example",)), FakeClient()) as named:
        good = {**foreign, "Origin": "https://good.example"}
        answer = requests.post(f"{named.url}/v1/faces", b"x", headers=good, timeout=5)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://good.example"
        refused = requests.post(f"{named.url}/v1/faces", b"", headers=good, timeout=5)
        assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (400, "https://good.example")
        asked = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
        assert requests.options(f"{named.url}/v1/faces", headers=asked, timeout=5).ok
        assert requests.post(f"{named.url}/v1/faces", b"x", headers=foreign, timeout=5).status_code == 403


def test_the_log_names_no_picture_and_no_token(web, caplog):
    caplog.set_level("INFO", "fer_web")
    headers = {"Authorization": "Bearer hunter2hunter2hunter2", "X-Request-ID": "this-one"}
    files = {"image": ("private-name.jpg", b"x")}
    requests.post(f"{web.url}/v1/faces?max_faces=3", files=files, headers=headers, timeout=5)
    wait_until(lambda: "this-one" in caplog.text)  # It is written after the answer.
    lines = [line for line in caplog.text.splitlines() if "this-one" in line]
    assert len(lines) == 1
    assert re.search(r"POST /v1/faces 200 \d+ ms this-one$", lines[0])


def test_clients_are_told_apart_by_what_a_known_proxy_says():
    """And by nothing that another one says."""
    photo = {"Content-Type": "image/png"}
    for proxies, second in (((), 429), (("127.0.0.1",), 200)):
        listener = Listener(port=0, proxies=proxies)
        with running_web(client=FakeClient(), listener=listener, images_per_s=0.01, max_images=1) as web:
            for address, status in (("192.0.2.1", 200), ("192.0.2.2", second)):
                headers = {**photo, "X-Forwarded-For": address}
                assert requests.post(f"{web.url}/v1/faces", b"x", headers=headers, timeout=5).status_code == status


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_client_is_its_network(host, network):
    assert network_of(host) == network


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_it_speaks_https(tmp_path):
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", key, "-out", cert]
    subprocess.run(made, check=True, capture_output=True)
    trust = ssl.create_default_context(cafile=cert)
    with (
        running_web(client=FakeClient(), listener=Listener(port=0, tls_cert=cert, tls_key=key)) as web,
        urllib.request.urlopen(f"https://127.0.0.1:{web.port}/healthz", context=trust, timeout=5) as answer,
    ):
        assert answer.read() == b'{"status":"alive"}'
        assert "max-age" in answer.headers["Strict-Transport-Security"]


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("a.jpg", "a.jpg"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("/etc/passwd", "passwd"),
        ("a\x00\x1b[31m\u202eb.jpg", "a[31mb.jpg"),
        ("写真.png", "写真.png"),
        ("x" * 300, "x" * 255),
    ],
)
def test_names_are_made_harmless(given, cleaned):
    assert clean_name(given) == cleaned


def test_the_openapi_document_says_what_is_served(web):
    document = requests.get(f"{web.url}/openapi.json", timeout=5).json()
    assert document == describe_service(max_images=4)
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method in operations:
            assert requests.request(method, web.url + path, timeout=5).status_code not in (404, 405)

    def check(name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)

    photo = {"headers": {"Content-Type": "image/png"}, "timeout": 5}
    check("FacesAnswer", requests.post(f"{web.url}/v1/faces", b"x", **photo).json())
    check("ProblemDetails", requests.post(f"{web.url}/v1/faces", b"", **photo).json())
    check("ModelAnswer", requests.get(f"{web.url}/v1/model", timeout=5).json())


def test_the_documents_explain_every_problem(web):
    """A problem's type leads there."""
    page = requests.get(f"{web.url}/docs", timeout=5).text
    for kind in KINDS:
        assert f'id="{kind}"' in page
