"""What the command line means, where it leaves things open, and what it must not say."""

import argparse
import json

import pytest

from fer_commands.running import CommandError
from fer_loadtest.options import add_options, read_options
from fer_loadtest.pictures import LARGE, ONE_FACE


def test_without_options_it_is_steps_over_http_on_this_machine(options_of):
    options = options_of()
    assert (options.shape, options.protocols) == ("steps", ("http",))
    assert (options.levels, options.rates) == ((1, 2, 4, 8, 16), ())
    assert (options.url, options.grpc_url) == ("http://localhost:8000", None)
    assert options.metrics_urls == ("http://localhost:8002/metrics",)


def test_urls_come_from_the_environment_unless_they_are_given(options_of):
    environment = {"FER_URL": "http://a:1", "FER_GRPC_URL": "grpc://a:2", "FER_METRICS_URL": "http://a:3/metrics"}
    options = options_of("--protocol", "both", environment=environment)
    assert (options.url, options.grpc_url) == ("http://a:1", "grpc://a:2")
    assert options.metrics_urls == ("http://a:3/metrics",)
    options = options_of("--url", "b:8", "--metrics-url", "http://b:1/m, http://c:1/m", environment=environment)
    assert (options.url, options.metrics_urls) == ("http://b:8", ("http://b:1/m", "http://c:1/m"))
    assert options_of("--metrics-url", "none", environment=environment).metrics_urls == ()


def test_grpc_is_looked_for_on_tritons_own_port(options_of):
    assert options_of("--url", "server", "--protocol", "grpc").grpc_url == "grpc://server:8001"


def test_rates_replace_the_levels_of_a_shape(options_of):
    options = options_of("--shape", "spike", "--rates", "5,200")
    assert (options.levels, options.rates) == ((), (5.0, 200.0))
    assert options_of("--shape", "soak", "--rates", "7").rates == (7.0,)


def test_the_preset_for_ci_can_be_changed_in_parts(options_of):
    options = options_of("--preset", "ci", "--p99-ms", "900", "--rates", "3")
    assert (options.shape, options.protocols, options.rates) == ("arrivals", ("http", "grpc"), (3.0,))
    assert (options.thresholds.p95_ms, options.thresholds.p99_ms) == (750.0, 900.0)
    assert options.level_s <= 55
    other = options_of("--preset", "ci", "--shape", "soak", "--levels", "2")
    assert (other.levels, other.rates, other.thresholds.p99_ms) == ((2,), (), 2000.0)


def test_a_mix_is_read_by_names(options_of):
    assert options_of("--mix", "one=3, large=1").mix == {ONE_FACE: 3.0, LARGE: 1.0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--levels 1,2 --rates 3", "--levels and --rates exclude each other"),
        ("--shape arrivals --levels 3", "--shape arrivals takes --rates"),
        ("--shape arrivals --rates 3,4", "--rates has 2 numbers: --shape arrivals takes one number"),
        ("--shape spike --levels 3", "--levels has 1 number: --shape spike takes two numbers"),
        ("--shape spike --levels 30,3", "a spike cannot go from 30 to 3"),
        ("--level-s 3 --settle-s 2.5", "leaves no second to measure"),
        ("--url ftp://host", "--url: URL 'ftp://host' has the scheme 'ftp'"),
        ("--url http://host:8000 --protocol grpc", "give --grpc-url"),
        ("--metrics-url host:8002", "expected http://HOST:PORT/metrics"),
        ("--ca-cert ca.pem --url http://host", "--url: .*not encrypted"),
    ],
)
def test_options_that_make_no_sense_are_named(options_of, words, message):
    with pytest.raises(CommandError, match=message):
        options_of(*words.split())


@pytest.mark.parametrize(
    "words",
    [
        "--levels 0",
        "--levels 1,x",
        "--rates -3",
        "--mix two=1",
        "--mix one=1,large",
        "--p99-ms nan",
        "--shape ramp",
        "--mix one",
    ],
)
def test_values_that_make_no_sense_end_with_2(options_of, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        options_of(*words.split())
    assert words.split()[0] in capsys.readouterr().err


def test_the_token_is_sent_and_never_shown(options_of):
    options = options_of(environment={"FER_TOKEN": "hush"})
    assert options.connections["http"].headers["authorization"] == "Bearer hush"
    assert "hush" not in repr(options)
    assert "hush" not in json.dumps(options.to_dict())


def test_a_ca_certificate_that_cannot_be_read_is_named(options_of, tmp_path):
    with pytest.raises(CommandError, match=r"--ca-cert: .*missing.pem: No such file"):
        options_of("--url", "https://host", "--ca-cert", str(tmp_path / "missing.pem"))


def test_p99_is_the_objective_of_a_search_and_no_threshold():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser, is_search=True)
    options = read_options(parser.parse_args(["--shape", "capacity", "--p99-ms", "90"]), {})
    assert (options.objective_p99_ms, options.thresholds.p99_ms) == (90.0, None)
