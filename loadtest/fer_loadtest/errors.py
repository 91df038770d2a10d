"""What goes wrong with a load test as a whole: each with a line for the user. Failures of requests are counted."""


class LoadTestError(Exception):
    """The load test cannot be made, or its report not be read. The message says why and what to do."""


class OptionError(LoadTestError):
    """An option makes no sense; the message names its flag."""


class PicturesError(LoadTestError):
    """There are no pictures to send; the message names the file or the folder."""


class WrongAnswerError(Exception):
    """An answer that is well-formed and cannot be right. It is counted as a failure of its request."""
