"""What can go wrong in this room."""

from fer_commands.exit_codes import ExitCode


class SizingError(Exception):
    """It cannot be done; the message says what was expected, what came, and how to go on."""

    exit_code = ExitCode.FAILED
