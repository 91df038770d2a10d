"""URLs, headers, tokens, compression, and arguments that make no sense: both clients, both protocols."""

import pytest

from fer_client import AsyncFerClient, AuthenticationError, FerClient, Tls
from fer_client._config import Endpoint, parse_endpoint

SECRET = "s3cr3t-t0ken"


def test_a_token_is_sent_with_every_request(connect, fake_triton, url):
    with connect(url, token=SECRET) as client:
        client.predict(b"photo")
        assert client.is_ready()
    assert len(fake_triton.headers) == 4
    assert {headers["authorization"] for headers in fake_triton.headers} == {f"Bearer {SECRET}"}


def test_headers_are_sent_with_every_request(connect, fake_triton, url):
    with connect(url, headers={"X-Tenant": "blue", "triton-grpc-protocol-key": "k"}) as client:
        client.predict(b"photo")
    assert [headers["x-tenant"] for headers in fake_triton.headers] == ["blue", "blue"]
    assert [headers["triton-grpc-protocol-key"] for headers in fake_triton.headers] == ["k", "k"]


def test_no_secret_is_in_a_repr_or_a_message(connect, fake_triton, url):
    fake_triton.refusals["config"] = ("unauthenticated", "who are you?")
    with connect(url, token=SECRET, headers={"X-Key": SECRET}) as client:
        with pytest.raises(AuthenticationError, match="does not let this client in: who are you") as caught:
            client.predict(b"photo")
        inside = client.client if hasattr(client, "client") else client
        shown = [repr(inside), repr(inside._core.settings), str(caught.value), repr(caught.value)]
    assert not any(SECRET in text for text in shown)
    assert repr(FerClient("localhost")) == "FerClient('http://localhost:8000')"
    assert repr(AsyncFerClient("grpc://localhost")) == "AsyncFerClient('grpc://localhost:8001')"


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compression_shrinks_what_is_sent(connect, fake_triton, relay, relay_url, compression):
    image = b"a face as BMP, much of it the same" * 30_000
    with connect(relay_url, compression=compression) as client:
        assert len(client.predict(image).faces) == 1
    assert fake_triton.images == [image]
    assert relay.sent_bytes < len(image) / 20
    if relay_url.startswith("http"):
        assert fake_triton.headers[-1]["content-encoding"] == compression
        assert fake_triton.headers[-1]["accept-encoding"] == compression


@pytest.mark.parametrize("kind", [FerClient, AsyncFerClient])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deadline_s": 0}, "deadline of 0 s: expected more than 0"),
        ({"deadline_s": float("nan")}, "deadline of nan s"),
        ({"retries": -1}, "-1 retries: expected 0 or more"),
        ({"compression": "brotli"}, "compression 'brotli': expected one of gzip, deflate"),
        ({"headers": {"X Key": SECRET}}, "header 'X Key': expected a name of letters"),
        ({"headers": {"X-Key": f"{SECRET}\r\nX-Other: 1"}}, "value of header 'X-Key': expected printable ASCII"),
        ({"headers": {"Content-Length": SECRET}}, "header 'Content-Length' is set by the client itself"),
        ({"headers": {"grpc-timeout": SECRET}}, "header 'grpc-timeout' is set by the client itself"),
        ({"headers": {"X-Key": SECRET, "x-key": SECRET}}, "header 'x-key' is given twice"),
        ({"headers": {"authorization": SECRET}, "token": SECRET}, "there is a token and a header 'Authorization'"),
        ({"token": f"Bearer {SECRET}"}, "token: expected the bare token, without 'Bearer'"),
        ({"token": ""}, "token: expected the bare token"),
        ({"token": f"{SECRET}\n"}, "token: expected printable ASCII"),
        ({"url": "http://localhost", "tls": Tls()}, "is not encrypted, but TLS is set up for it: write https://"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_without_showing_secrets(kind, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        kind(**options)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "protocol", "expected"),
    [
        ("localhost", None, Endpoint("http", "localhost", 8000)),
        ("localhost", "grpc", Endpoint("grpc", "localhost", 8001)),
        ("localhost:9000", None, Endpoint("http", "localhost", 9000)),
        ("http://gpu-1.example", None, Endpoint("http", "gpu-1.example", 8000)),
        ("http://gpu-1.example:80/", "http", Endpoint("http", "gpu-1.example", 80)),
        ("grpc://triton_0:9001", None, Endpoint("grpc", "triton_0", 9001)),
        ("grpc://[::1]:9001", "grpc", Endpoint("grpc", "::1", 9001)),
        ("https://gpu-1.example", None, Endpoint("http", "gpu-1.example", 443, tls=True)),
        ("https://gpu-1.example:8443", "http", Endpoint("http", "gpu-1.example", 8443, tls=True)),
        ("grpcs://gpu-1.example", "grpc", Endpoint("grpc", "gpu-1.example", 443, tls=True)),
    ],
)
def test_url_forms(url, protocol, expected):
    assert parse_endpoint(url, protocol) == expected


@pytest.mark.parametrize("url", ["http://localhost:1", "https://localhost:1", "grpc://[::1]:1", "grpcs://localhost:1"])
def test_an_endpoint_says_its_url(url):
    assert parse_endpoint(url).url == url


def test_tls_that_is_set_up_encrypts_what_has_no_scheme():
    assert parse_endpoint("localhost", tls=True).url == "https://localhost:443"
    assert parse_endpoint("localhost:8443", "grpc", tls=True).url == "grpcs://localhost:8443"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_tls_that_is_set_up_is_never_left_out_silently(scheme):
    with pytest.raises(ValueError, match=f"is not encrypted, but TLS is set up for it: write {scheme}s://"):
        parse_endpoint(f"{scheme}://localhost", tls=True)


def test_a_password_in_a_url_is_not_shown():
    with pytest.raises(ValueError, match=r"URL 'http://\*\*\*@localhost' holds more") as caught:
        parse_endpoint("http://me:secret@localhost")
    assert "secret" not in str(caught.value)


def test_an_ipv6_address_keeps_its_brackets_in_the_url():
    assert Endpoint("grpc", "::1", 8001).url == "grpc://[::1]:8001"


@pytest.mark.parametrize(
    ("url", "protocol", "message"),
    [
        (
            "ws://localhost",
            None,
            "has the scheme 'ws': expected HOST\\[:PORT\\], optionally prefixed with http://, https://, grpc://",
        ),
        ("ftp://localhost:21", None, "has the scheme 'ftp'"),
        ("http://localhost", "grpc", "contradicts the protocol 'grpc'"),
        ("localhost", "ftp", "protocol 'ftp': expected one of http, grpc"),
        ("", None, "names no host"),
        (":8000", None, "names no host"),
        ("photo of me.jpg", None, "names no host"),
        ("localhost:eight", None, r"expected HOST\[:PORT\]"),
        ("localhost:99999", None, r"expected HOST\[:PORT\]"),
        ("localhost:0", None, "has port 0"),
        ("localhost:8000/v2", None, "more than a host and a port"),
        ("me:secret@localhost:8000", None, "more than a host and a port"),
    ],
)
def test_what_is_no_url_is_refused_and_named(url, protocol, message):
    with pytest.raises(ValueError, match=message):
        parse_endpoint(url, protocol)
