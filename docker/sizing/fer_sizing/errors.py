"""What can go wrong in this room."""


class SizingError(Exception):
    """It can't be done; the message says what was expected, what came, and how to go on."""
