"""The report of a run: JSON, CSV, and a page that needs nothing else."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from fer_commands.running import CommandError
from fer_loadtest.charts import Chart, Line
from fer_loadtest.page import format_page
from fer_loadtest.report import prepare_folder

STEPS = ("--rates", "10,30,50,70,90,130", "--level-s", "12", "--settle-s", "2", "--objective-p99-ms", "60")


@pytest.fixture(scope="module")
def written(pretend, tmp_path_factory):
    """A report of steps beyond the capacity."""
    out = tmp_path_factory.mktemp("report")
    return pretend(*STEPS, "--out", str(out), "--p99-ms", "50", "--label", "a <b> & c").play().write()


class Page(HTMLParser):
    """Collects what a page refers to, and which elements are left open."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self, text):
        super().__init__()
        self.references, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.references += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.references += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_refers_to_nothing_and_is_well_formed(written):
    text = written.read_text()
    page = Page(text)
    assert page.references == []
    assert page.open == []
    assert not re.search(r"https?://(?!test:8000)|@import|url\(|<script", text)
    assert written.stat().st_size < 200_000


def test_words_of_users_and_servers_are_escaped(written):
    text = written.read_text()
    assert "a &lt;b&gt; &amp; c" in text
    assert "no &lt;room&gt; &amp; more" in text
    assert "<b> &" not in text


def test_every_chart_is_an_image_by_itself(written):
    charts = re.findall(r'<svg [^>]*role="img".*?</svg>', written.read_text(), re.DOTALL)
    assert len(charts) == 5
    for chart in charts:
        ElementTree.fromstring(chart)


def test_lines_that_lie_upon_each_other_are_all_seen(written):
    """In a second of few requests p95 and p99 are both its slowest one."""
    [chart] = re.findall(r'<svg [^>]*aria-label="ms by s".*?</svg>', written.read_text(), re.DOTALL)
    lines = re.findall(
        r'<path class="line" d="(.*?)" stroke="\S+" stroke-width="(\S+)" stroke-dasharray="(.*?)"', chart
    )
    (p99, p99_width, p99_dashes), (p95, p95_width, p95_dashes), _ = lines  # The first is the lowest.
    assert sum(one == other for one, other in zip(p95.split("L"), p99.split("L"), strict=True)) > 5
    assert float(p95_width) < float(p99_width)
    assert (p95_dashes, p99_dashes) == ("5 4", "none")


def test_of_arrivals_the_page_says_how_many_were_sent(written):
    levels = re.search(r"<h2>Levels</h2>(.*?)</table>", written.read_text(), re.DOTALL)[1]
    assert "<th>sent/s</th>" in levels
    assert "<td>30 arrivals/s</td><td>30</td>" in levels


def test_the_page_says_what_an_operator_wants_to_know(written):
    page = Page(written.read_text())
    for words in ("Latency over throughput", "p99 objective", "knee: ", "overloaded (503)", "broken", "Levels"):
        assert words in page.text


def test_json_holds_all_of_it_and_makes_the_same_page(written):
    document = json.loads((written.parent / "report.json").read_text())
    assert format_page(document) == written.read_text()
    assert document["totals"]["errors"] == {"overloaded (503)": 44 * 10}
    assert document["capacity"]["name"] == "50 arrivals/s"
    assert [one["name"] for one in document["thresholds"] if not one["holds"]] == ["p99-ms"]


def test_csv_has_a_row_for_each_level_and_second(written):
    with (written.parent / "levels.csv").open() as file:
        levels = list(csv.DictReader(file))
    assert [row["name"] for row in levels] == [f"{rate} arrivals/s" for rate in (10, 30, 50, 70, 90, 130)]
    assert float(levels[0]["p50_ms"]) == pytest.approx(22, rel=0.1)
    with (written.parent / "seconds.csv").open() as file:
        seconds = list(csv.DictReader(file))
    assert len(seconds) == 72
    assert sum(int(row["sent"]) for row in seconds) == 12 * (10 + 30 + 50 + 70 + 90 + 130)


def test_an_empty_run_still_has_a_report(pretend, tmp_path):
    written = pretend("--out", str(tmp_path / "new" / "folder")).write()
    assert "nothing was answered" in Page(written.read_text()).text


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize(
    "points", [[(0, 5.0)], [(0, 0.01), (3, 10_000.0)], [(0, 1.0), (1, None), (2, 1.0)], [(0, 0.0), (2, 1.0)]]
)
def test_charts_of_odd_data_stay_within_their_frame(points, is_log):
    chart = Chart("x", "y", [Line("a", points, "red")], is_log=is_log)
    drawn = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", chart.path(chart.lines[0]))
    assert len(drawn) == sum(y is not None and not (is_log and y == 0) for _, y in points)
    places = [(float(x), float(y)) for x, y in drawn]
    places += [(chart.x(value), chart.top) for value in chart.x_ticks]
    places += [(chart.left, chart.y(value)) for value in chart.y_ticks]
    for x, y in places:
        assert chart.left <= x <= chart.right
        assert chart.top - 0.1 <= y <= chart.bottom + 0.1
    assert chart.path(chart.lines[0]).count("M") == 1 + (None in [y for _, y in points])


def test_a_chart_of_nothing_has_no_values():
    assert not Chart("x", "y", [Line("a", [(0, 0.0), (1, None)], "red")], is_log=True).values


@pytest.mark.parametrize(
    ("words", "seconds", "verdict"),
    [
        (("--p50-ms", "90"), 100, "All 2 thresholds hold"),
        ((), 100, "No threshold was asked for; no answer was wrong"),
        (("--p50-ms", "1", "--min-images-per-s", "900"), 100, "Broken: p50-ms, min-images-per-s"),
        (("--p50-ms", "90"), 5, "The run did not come to its end"),
    ],
)
def test_the_page_begins_with_the_verdict(pretend, tmp_path, words, seconds, verdict):
    run = pretend("--levels", "2", "--level-s", "8", *words, "--out", str(tmp_path)).play(seconds)
    text = Page(run.write().read_text()).text
    assert verdict in text[: text.index("images/s")]


def test_a_folder_that_can_be_written_is_left_as_it_is(tmp_path):
    prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(pretend):
    with pytest.raises(CommandError, match=r"--out /dev/null/x: no report can be written there \(Not a directory\)"):
        pretend("--out", "/dev/null/x").write()
