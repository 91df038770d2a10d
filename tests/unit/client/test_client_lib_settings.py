"""Headers, tokens, compression, and arguments that make no sense: both clients, both protocols."""

import pytest

from fer_client import AsyncFerClient, AuthenticationError, FerClient, Tls

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
