"""Libraries that only a part of the client needs. One line says which extra brings a missing one."""

from __future__ import annotations

from typing import Final

_EXTRAS: Final = {
    "grpc": (("tritonclient", "grpc"), "gRPC needs tritonclient and grpcio", "or ask the server over HTTP"),
    "async": (("aiohttp",), "AsyncFerClient needs aiohttp for HTTP", "or use FerClient"),
}
"""Extra of the distribution -> the modules that it brings, what needs them, and what to do instead."""


class MissingExtraError(ImportError):
    """A library is not installed that this use of the client needs. The message has the command that installs it."""


def is_installed(extra: str) -> bool:
    """Whether the libraries of an extra are there. They are not loaded.

    Args:
        extra: A key of the extras above.
    """
    from importlib.util import find_spec  # Not at the top, so that `import fer_client` stays light.

    return all(find_spec(module) for module in _EXTRAS[extra][0])


def require_extra(extra: str) -> None:
    """Make sure that the libraries of an extra are installed, without loading them.

    Args:
        extra: A key of the extras above.

    Raises:
        MissingExtraError: They are not installed.
    """
    if not is_installed(extra):
        _, need, instead = _EXTRAS[extra]
        raise MissingExtraError(f"{need}: pip install 'fer-triton[{extra}]', {instead}")
