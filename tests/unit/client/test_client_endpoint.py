import pytest

from fer_client._config import Endpoint, parse_endpoint


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
        ("ws://localhost", None, "has the scheme 'ws': expected host:port, or that after http://, https://, grpc://"),
        ("ftp://localhost:21", None, "has the scheme 'ftp'"),
        ("http://localhost", "grpc", "contradicts the protocol 'grpc'"),
        ("localhost", "ftp", "protocol 'ftp': expected one of http, grpc"),
        ("", None, "names no host"),
        (":8000", None, "names no host"),
        ("photo of me.jpg", None, "names no host"),
        ("localhost:eight", None, "expected host:port"),
        ("localhost:99999", None, "expected host:port"),
        ("localhost:0", None, "has port 0"),
        ("localhost:8000/v2", None, "more than a host and a port"),
        ("me:secret@localhost:8000", None, "more than a host and a port"),
    ],
)
def test_what_is_no_url_is_refused_and_named(url, protocol, message):
    with pytest.raises(ValueError, match=message):
        parse_endpoint(url, protocol)
