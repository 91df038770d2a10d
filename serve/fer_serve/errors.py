"""What can go wrong with a running server, with the exit code that each gives a command.

FerServeError
├── PortTakenError         choose another port
├── LogFileError           choose another file for the server's log
├── ServerFailedError      the server did not start or did not answer: its log says why
└── LeakError              the server's memory grows with requests

A repository that cannot be served, or a missing installation, is an error of `fer_build.errors`.
"""

from fer_commands.exit_codes import ExitCode
from fer_commands.running import DetailedError


class FerServeError(DetailedError):
    """Base of all. The message says what was expected, what came, and what to do."""


class PortTakenError(FerServeError):
    """A port is used by another program, or wanted twice."""


class LogFileError(FerServeError):
    """The server's log cannot be written."""

    exit_code = ExitCode.USAGE


class ServerFailedError(FerServeError):
    """The server did not start, or did not answer as it should."""


class LeakError(FerServeError):
    """The server's memory grows with requests by more than is allowed."""

    exit_code = ExitCode.CHECK_FAILED
