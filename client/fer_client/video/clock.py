"""Times within a video, for people."""


def format_time(time_s: float, span_s: float) -> str:
    """Minutes and seconds as players show them, `1:05` or `2:01:05`; with tenths in a video shorter than a minute.

    Args:
        time_s: Seconds from the video's start.
        span_s: How long the whole is, in seconds, for one precision throughout.
    """
    tenths = round(10 * max(time_s, 0.0)) if span_s < 60 else 10 * round(max(time_s, 0.0))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 10:04.1f}" if span_s < 60 else f"{rest // 10:02}"
    return f"{hours}:{minutes:02}:{seconds}" if hours else f"{minutes}:{seconds}"
