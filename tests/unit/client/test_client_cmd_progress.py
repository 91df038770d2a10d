"""The bar on standard error."""

import io

import pytest

from fer_client.command.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def test_the_bar_tells_how_far_how_fast_and_how_long(clock):
    progress = Progress(1000, Terminal(), clock, quiet=False)
    clock.now_s = 10.0
    assert progress.line(250, 3, 100) == (
        "250/1000   25%  [##########------------------------------]  25.0 images/s  ETA 0:30, 3 failed"
    )


@pytest.mark.parametrize(("now_s", "eta"), [(0.0, "0:00"), (100.0, "1:40"), (10_000.0, "2:46:40")])
def test_the_time_left_is_minutes_and_hours(clock, now_s, eta):
    progress = Progress(200, Terminal(), clock, quiet=False)
    clock.now_s = now_s
    assert progress.line(100, 0, 80).endswith(f"ETA {eta}")


def test_before_the_first_image_nobody_knows(clock):
    assert "ETA -:--" in Progress(200, Terminal(), clock, quiet=False).line(0, 0, 80)


@pytest.mark.parametrize("columns", [1, 10, 30, 40, 60, 80, 200])
@pytest.mark.parametrize("done", [0, 1, 200_000])
def test_the_bar_never_wraps(clock, columns, done):
    clock.now_s = 1.0
    assert len(Progress(200_000, Terminal(), clock, quiet=False).line(done, 99, columns)) < columns + (columns == 0)


def test_it_is_drawn_ten_times_a_second_at_most_and_taken_away_for_other_lines(clock):
    terminal = Terminal()
    progress = Progress(10, terminal, clock, quiet=False)
    progress.update(1, 0)
    progress.update(2, 0)
    assert terminal.getvalue().count("\r") == 1
    clock.now_s = 0.2
    progress.update(3, 0)
    assert terminal.getvalue().count("\r") == 2
    progress.clear()
    progress.clear()
    assert terminal.getvalue().count("\r") == 3
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize(
    ("stream", "total", "quiet"), [(io.StringIO(), 10, False), (Terminal(), 1, False), (Terminal(), 10, True)]
)
def test_nothing_is_drawn_where_nobody_looks_or_wants_it(clock, stream, total, quiet):
    progress = Progress(total, stream, clock, quiet=quiet)
    progress.update(1, 0)
    progress.clear()
    assert stream.getvalue() == ""


def test_a_terminal_without_a_cursor_is_left_alone(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    Progress(10, terminal, clock, quiet=False).update(1, 0)
    assert terminal.getvalue() == ""
