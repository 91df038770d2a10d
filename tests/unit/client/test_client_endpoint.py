import pytest

from fer_client._endpoint import Endpoint, parse_endpoint


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
    ],
)
def test_url_forms(url, protocol, expected):
    assert parse_endpoint(url, protocol) == expected


def test_an_ipv6_address_keeps_its_brackets_in_the_url():
    assert Endpoint("grpc", "::1", 8001).url == "grpc://[::1]:8001"


@pytest.mark.parametrize(
    ("url", "protocol", "message"),
    [
        ("https://localhost", None, "has the scheme 'https'"),
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
