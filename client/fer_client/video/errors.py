"""What keeps a video from being read or written."""


class VideoError(Exception):
    """One line for the user: what was expected, what came, how to go on."""
