"""The options of a load test, the same for our commands and for Locust's own, checked before anything is sent.

No option has a name that Locust uses. A master sends them to its workers.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, cast, get_args

from fer_client import Tls
from fer_commands.running import CommandError
from fer_loadtest.pictures import MIX_NAMES
from fer_loadtest.transports import Protocol, Settings, connect_settings

Shape = Literal["steps", "soak", "spike", "arrivals", "capacity"]
SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)
BOTH: Final = "both"

_DEFAULTS: Final[Mapping[str, Any]] = {
    "shape": "steps",
    "protocol": "http",
    "settle_s": 2.0,
    "timeout_s": 30.0,
    "objective_p99_ms": 200.0,
    "seed": 0,
    "tolerance_percent": 5.0,
    "confirmations": 3,
    "max_in_flight": 1000,
    "think_s": 0.0,
    "pictures": None,
    "mix": None,
    "label": "",
    "out": "loadtest-report",
    "ca_cert": None,
}
_SHAPE_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "steps": {"levels": (1.0, 2.0, 4.0, 8.0, 16.0), "level_s": 20.0},
    "soak": {"levels": (4.0,), "level_s": 3600.0},
    "spike": {"levels": (2.0, 64.0), "level_s": 20.0},
    "arrivals": {"rates": (10.0,), "level_s": 60.0},
    "capacity": {"rates": (8.0,), "level_s": 15.0},
}
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "ci": {
        "shape": "arrivals",
        "protocol": BOTH,
        "rates": (8.0,),
        "level_s": 55.0,
        "settle_s": 5.0,
        "p95_ms": 750.0,
        "p99_ms": 2000.0,
        "max_error_percent": 0.0,
        "min_images_per_s": 6.0,
    }
}
"""`ci` takes 60 s with what comes before and after the load. Its limits are for two shared cores."""


@dataclass(frozen=True)
class Thresholds:
    """Limits that a run must hold; None sets none.

    Attributes:
        p50_ms: Highest median latency, in ms.
        p95_ms: Highest latency that 5 % of the requests may exceed, in ms.
        p99_ms: Highest latency that 1 % of the requests may exceed, in ms.
        max_error_percent: Highest share of failed requests, 0..100.
        min_images_per_s: Lowest number of images answered per second.
    """

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_error_percent: float | None = None
    min_images_per_s: float | None = None


@dataclass(frozen=True)
class Options:
    """All choices of a user, checked.

    Attributes:
        url: URL of the server over HTTP; None where HTTP is not used.
        grpc_url: URL of the server over gRPC; None where gRPC is not used.
        metrics_urls: URLs of Triton's metrics; empty if they are not read.
        protocols: Protocols that carry the load.
        shape: Course of the load.
        levels: Numbers of users who each wait for their answer before they ask again; empty for an open load.
        rates: Arrivals per second that wait for nobody; empty for a closed load.
        level_s: Duration of each level, in seconds.
        settle_s: Seconds at the start of each level that are not counted.
        think_s: Pause of a user between an answer and the next request, in seconds.
        timeout_s: Longest wait for an answer, in seconds.
        max_in_flight: Requests without an answer beyond which arrivals are not sent, in each process.
        pictures: Folder of pictures; None for pictures made of the shipped photo.
        mix: Weight of each kind of picture; None for the default.
        seed: Seed of all random choices.
        thresholds: Limits that fail the test if they are broken.
        objective_p99_ms: Latency that capacity is searched for, in ms.
        tolerance_percent: Precision of the search for capacity.
        confirmations: Number of times that the capacity found is tried again.
        label: Title of the report.
        out: Folder of the report.
        ca_cert: PEM file of the authorities to trust, for https and grpcs.
        connections: How to reach the server, by protocol. They hold the token.
    """

    url: str | None
    grpc_url: str | None
    metrics_urls: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    shape: Shape
    levels: tuple[int, ...]
    rates: tuple[float, ...]
    level_s: float
    settle_s: float
    think_s: float
    timeout_s: float
    max_in_flight: int
    pictures: str | None
    mix: Mapping[str, float] | None
    seed: int
    thresholds: Thresholds
    objective_p99_ms: float
    tolerance_percent: float
    confirmations: int
    label: str
    out: str
    ca_cert: str | None
    connections: Mapping[Protocol, Settings] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what a report says about the options. It holds no secret."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "connections"}
        return {**plain, "thresholds": asdict(self.thresholds)}


def add_options(parser: argparse.ArgumentParser, *, is_search: bool = False) -> None:
    """Add the options to a parser of ours or of Locust's. An option that is not given is None, so that presets fill it.

    Args:
        parser: Parser to extend.
        is_search: Whether `--p99-ms` is the latency that capacity is searched for, and not a threshold.
    """
    server = parser.add_argument_group("server")
    server.add_argument("--url", help="server over HTTP [$FER_URL; default: localhost:8000]")
    server.add_argument(
        "--grpc-url",
        help="server over gRPC [$FER_GRPC_URL; default: host of --url, port 8001; required if --url has a port]",
    )
    server.add_argument(
        "--metrics-url", help="metrics, several with commas, or `none` [$FER_METRICS_URL; default: port 8002]"
    )
    server.add_argument("--protocol", choices=["http", "grpc", BOTH], help="default: http")
    server.add_argument("--timeout-s", type=_positive, metavar="S", help="longest wait for an answer (default: 30)")
    server.add_argument("--ca-cert", metavar="FILE", help="PEM file of the authority behind an https server")
    load = parser.add_argument_group("load")
    load.add_argument("--preset", choices=sorted(PRESETS), help="ci: both protocols and thresholds, in 60 s")
    of_shape = argparse.SUPPRESS if is_search else "course of the load (default: steps)"
    load.add_argument("--shape", choices=SHAPES, help=of_shape)
    of_levels = argparse.SUPPRESS if is_search else "users who wait for their answers"
    load.add_argument("--levels", type=_list_of(_count), metavar="N[,N...]", help=of_levels)
    load.add_argument("--rates", type=_list_of(_positive), metavar="R[,R...]", help="arrivals/s that wait for nobody")
    load.add_argument("--level-s", type=_positive, metavar="S", help="seconds of each level (default: by shape)")
    load.add_argument("--settle-s", type=_not_negative, metavar="S", help="first seconds, not counted (default: 2)")
    load.add_argument("--think-s", type=_not_negative, metavar="S", help="pause of a user after an answer (default: 0)")
    load.add_argument(
        "--max-in-flight", type=_count, metavar="N", help="no arrival is sent beyond so many (default: 1000)"
    )
    load.add_argument("--pictures", metavar="DIR", help="your own pictures (default: made of the shipped photo)")
    load.add_argument("--mix", type=_mix, metavar="KIND=W[,...]", help=f"weights of {', '.join(MIX_NAMES)}")
    load.add_argument("--seed", type=int, metavar="N", help="seed of all random choices (default: 0)")
    limits = parser.add_argument_group("thresholds (exit code 7 if one is broken)")
    for percentile in (50, 95) if is_search else (50, 95, 99):
        limits.add_argument(f"--p{percentile}-ms", type=_positive, metavar="MS", help=f"highest p{percentile} latency")
    limits.add_argument("--max-error-percent", type=_not_negative, metavar="P", help="highest share of failed requests")
    limits.add_argument("--min-images-per-s", type=_positive, metavar="R", help="lowest number of images answered")
    search = parser.add_argument_group("capacity")
    objective = ["--p99-ms", "--objective-p99-ms"] if is_search else ["--objective-p99-ms"]
    search.add_argument(
        *objective, dest="objective_p99_ms", type=_positive, metavar="MS", help="p99 to hold (default: 200)"
    )
    search.add_argument("--tolerance-percent", type=_positive, metavar="P", help="precision (default: 5)")
    search.add_argument("--confirmations", type=_count, metavar="N", help="trials of the rate found (default: 3)")
    report = parser.add_argument_group("report")
    report.add_argument("--out", metavar="DIR", help="folder of the report (default: loadtest-report)")
    report.add_argument("--label", metavar="TEXT", help="title of the report")


def read_options(given: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Options:
    """Check the options that were given and fill in the others.

    Args:
        given: Parsed options of `add_options`.
        environment: Source of URLs and of the token where no option gives them; an empty value counts as not set.

    Raises:
        CommandError: An option makes no sense, or two contradict each other.
    """
    chosen = {name: value for name, value in vars(given).items() if value is not None}
    preset = PRESETS[chosen["preset"]] if "preset" in chosen else {}
    shape = chosen.get("shape") or preset.get("shape") or _DEFAULTS["shape"]
    if preset and shape != preset["shape"]:
        preset = {name: value for name, value in preset.items() if name not in ("shape", "rates", "levels")}
    values = {**_DEFAULTS, **_without_load(_SHAPE_DEFAULTS[shape], chosen, preset), **preset, **chosen}
    if "levels" in chosen and "rates" not in chosen:
        values.pop("rates", None)
    environment = {name: value for name, value in environment.items() if value}
    _check_load(values)
    protocols = cast("tuple[Protocol, ...]", ("http", "grpc") if values["protocol"] == BOTH else (values["protocol"],))
    connections = _connections(values, protocols, environment)
    return Options(
        url=connections["http"].endpoint.url if "http" in connections else None,
        grpc_url=connections["grpc"].endpoint.url if "grpc" in connections else None,
        metrics_urls=_metrics_urls(values, connections, environment),
        protocols=protocols,
        shape=shape,
        levels=tuple(round(level) for level in values.get("levels", ())),
        rates=tuple(values.get("rates", ())),
        level_s=values["level_s"],
        thresholds=Thresholds(**{name: values.get(name) for name in Thresholds.__dataclass_fields__}),
        connections=connections,
        **{name: values[name] for name in _DEFAULTS.keys() - {"shape", "protocol"}},
    )


def _without_load(defaults: Mapping[str, Any], *given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of a shape, without its levels or rates where others were given."""
    has_load = any("levels" in one or "rates" in one for one in given)
    return {name: value for name, value in defaults.items() if not (has_load and name in ("levels", "rates"))}


def _check_load(values: Mapping[str, Any]) -> None:
    shape, levels, rates = values["shape"], values.get("levels", ()), values.get("rates", ())
    if levels and rates:
        raise CommandError("--levels and --rates exclude each other: give users who wait, or arrivals that do not")
    if shape in ("arrivals", "capacity") and not rates:
        raise CommandError(f"--shape {shape} takes --rates, not --levels: arrivals wait for nobody")
    expected = {"soak": 1, "spike": 2, "arrivals": 1, "capacity": 1}.get(shape)
    load = levels or rates
    if expected is not None and len(load) != expected:
        flag = "--levels" if levels else "--rates"
        what = "two numbers, the usual load and the spike's" if expected == 2 else "one number"
        numbers = "1 number" if len(load) == 1 else f"{len(load)} numbers"
        raise CommandError(f"{flag} has {numbers}: --shape {shape} takes {what}")
    if shape == "spike" and load[0] >= load[1]:
        raise CommandError(
            f"a spike cannot go from {load[0]:g} to {load[1]:g}: give the usual load first, then the higher one"
        )
    if values["settle_s"] + 1 > values["level_s"]:
        raise CommandError(f"--level-s {values['level_s']:g} leaves no second to measure after --settle-s: raise it")


def _connections(
    values: Mapping[str, Any], protocols: Sequence[Protocol], environment: Mapping[str, str]
) -> dict[Protocol, Settings]:
    http_url = values.get("url") or environment.get("FER_URL") or "localhost"
    grpc_url = values.get("grpc_url") or environment.get("FER_GRPC_URL")
    if grpc_url is None:
        if "grpc" in protocols and re.search(r":\d+/?$", http_url):
            raise CommandError("give --grpc-url: the port of gRPC does not follow from an --url with a port")
        grpc_url = http_url.rpartition("://")[2]
    tls = Tls(values["ca_cert"]) if values.get("ca_cert") else None
    token = environment.get("FER_TOKEN")
    connections = {}
    for protocol in protocols:
        flag, url = ("--url", http_url) if protocol == "http" else ("--grpc-url", grpc_url)
        try:
            connections[protocol] = connect_settings(url, protocol, values["timeout_s"], tls, token)
        except ValueError as error:
            raise CommandError(f"{flag}: {error}") from error
    if tls is not None:
        try:
            tls.ssl_context()
        except ValueError as error:
            raise CommandError(f"--ca-cert: {error}") from error
    return connections


def _metrics_urls(
    values: Mapping[str, Any], connections: Mapping[Protocol, Settings], environment: Mapping[str, str]
) -> tuple[str, ...]:
    given = values.get("metrics_url") or environment.get("FER_METRICS_URL")
    if given == "none":
        return ()
    if given is None:
        host = next(iter(connections.values())).endpoint.host
        return (f"http://{f'[{host}]' if ':' in host else host}:8002/metrics",)
    urls = tuple(part.strip() for part in given.split(","))
    if wrong := [url for url in urls if not re.match(r"https?://", url)]:
        raise CommandError(f"--metrics-url {wrong[0]!r}: expected http://HOST:PORT/metrics, or `none`")
    return urls


def _positive(text: str) -> float:
    return _number(text, lambda value: 0 < value <= 1e6, "a number above 0")


def _not_negative(text: str) -> float:
    return _number(text, lambda value: 0 <= value <= 1e6, "a number from 0 on")


def _number(text: str, is_good: Callable[[float], bool], expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not is_good(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
    return value


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _list_of(read: Callable[[str], float]) -> Callable[[str], tuple[float, ...]]:
    return lambda text: tuple(read(part.strip()) for part in text.split(","))


def _mix(text: str) -> dict[str, float]:
    mix = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        if name not in MIX_NAMES or not weight:
            raise argparse.ArgumentTypeError(f"{part!r}: expected KIND=WEIGHT, kinds {', '.join(MIX_NAMES)}")
        mix[MIX_NAMES[name]] = _not_negative(weight)
    return mix
