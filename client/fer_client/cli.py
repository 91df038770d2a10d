"""fer-client predict photo.jpg: the command line over `FerClient`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fer_client._annotate import AnnotationError, annotate, check_output
from fer_client._client import DEFAULT_TIMEOUT_S, FerClient
from fer_client._endpoint import PROTOCOLS
from fer_client._errors import FerClientError, ImageRefusedError, ServerUnreachableError
from fer_client._table import format_prediction

URL_VARIABLE: Final = "FER_URL"

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_REFUSED: Final = 4
EXIT_INTERRUPTED: Final = 130

_EXIT_CODES: Final = f"""\
exit codes:
  {EXIT_OK}    answered; a picture without a face is answered too
  {EXIT_FAILED}    the server failed, is overloaded, took too long, or serves something else
  {EXIT_USAGE}    wrong usage, or a file that cannot be read or written
  {EXIT_UNREACHABLE}    no server answers at the URL
  {EXIT_REFUSED}    the server does not accept the image
  {EXIT_INTERRUPTED}  interrupted (Ctrl-C)
"""

_PREDICT: Final = """\
Find the faces in a photo and their apparent expressions, as an annotator would
label the picture. It is not what a person feels.

The photo (JPEG, PNG, WebP or BMP) is sent to the server named, and nowhere else.
"""

_HEALTH: Final = """\
Check that the server really answers: a plain gray picture is sent through the
whole model, since a server can call itself ready while every request fails.
"""


class _CommandError(Exception):
    """A line for the user, and the exit code that goes with it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: What follows the command's name; None takes the process's own.

    Returns:
        The exit code that `--help` documents.

    Raises:
        SystemExit: argparse printed the help (code 0) or a usage error (code 2).
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except _CommandError as error:
        return _fail(error, error.exit_code)
    except AnnotationError as error:
        return _fail(error, EXIT_USAGE)
    except ServerUnreachableError as error:
        return _fail(error, EXIT_UNREACHABLE)
    except FerClientError as error:
        return _fail(error, EXIT_FAILED)
    return EXIT_OK


def _predict(options: argparse.Namespace) -> None:
    """`fer-client predict`. What can fail without the server is tried before it is asked."""
    if options.annotate:
        check_output(options.annotate)
    content = _read(options.image)
    with _connect(options) as client:
        _ = client.model_version  # Connects and learns the model, so that the time below is the request's alone.
        start_s = time.perf_counter()
        try:
            prediction = client.predict(content)
        except ImageRefusedError as error:
            raise _CommandError(f"{options.image}: {error}", EXIT_REFUSED) from error
        request_ms = 1000 * (time.perf_counter() - start_s)
    if options.json:
        document = {"image": options.image, "request_ms": round(request_ms, 1), **prediction.to_dict()}
        print(json.dumps(document, indent=2))
    else:
        print(format_prediction(_printable(options.image), prediction, client.url, request_ms))
    if options.annotate:
        annotate(content, prediction, options.annotate)
        if not options.json:  # One JSON document stays one.
            print(f"annotated picture: {_printable(options.annotate)}")


def _health(options: argparse.Namespace) -> None:
    """`fer-client health`."""
    with _connect(options) as client:
        version, labels = client.model_version, client.labels
        start_s = time.perf_counter()
        client.check_health()
        request_ms = 1000 * (time.perf_counter() - start_s)
    print(f"healthy: {client.url} answered in {request_ms:.0f} ms")
    print(f"model    {version}")
    print(f"labels   {', '.join(labels)}")


def _read(image: str) -> bytes:
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise _CommandError(f"cannot read {image}: {error.strerror}", EXIT_USAGE) from error


def _printable(path: str | Path) -> str:
    """A file's name for people: it need not be text, the output must be."""
    return os.fsencode(path).decode(errors="replace")


def _connect(options: argparse.Namespace) -> FerClient:
    try:
        return FerClient(options.url, options.protocol, options.timeout)
    except ValueError as error:
        raise _CommandError(str(error), EXIT_USAGE) from error


def _fail(error: Exception, exit_code: int) -> int:
    print(f"fer-client: {error}", file=sys.stderr)
    return exit_code


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="fer-client",
        description="Facial expression recognition by a Triton server, from the command line.",
        epilog=_EXIT_CODES,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    server = _server_options()

    predict = commands.add_parser(
        "predict",
        help="find faces in a photo and their apparent expressions",
        description=_PREDICT,
        epilog=_EXIT_CODES,
        formatter_class=raw,
        parents=[server],
    )
    predict.add_argument("image", metavar="IMAGE", help="the photo")
    predict.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    predict.add_argument(
        "--annotate",
        metavar="OUT",
        type=Path,
        help="also write the photo with its faces, expressions and probabilities drawn: .png, .jpg, .webp or .bmp",
    )
    predict.set_defaults(run=_predict)

    health = commands.add_parser(
        "health",
        help="check that the server really answers",
        description=_HEALTH,
        epilog=_EXIT_CODES,
        formatter_class=raw,
        parents=[server],
    )
    health.set_defaults(run=_health)
    return parser


def _server_options() -> argparse.ArgumentParser:
    """What every command takes to reach the server."""
    parser = argparse.ArgumentParser(add_help=False)
    server = parser.add_argument_group("server")
    server.add_argument(
        "--url",
        default=os.environ.get(URL_VARIABLE) or "localhost",
        help=f"host:port, http://host:port or grpc://host:port (default: ${URL_VARIABLE}, else localhost; "
        "without a port 8000 for HTTP, 8001 for gRPC)",
    )
    server.add_argument("--protocol", choices=PROTOCOLS, help="default: the URL's, else http")
    server.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        help="how long to wait for an answer (default: %(default)g)",
    )
    return parser
