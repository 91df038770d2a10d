"""The page of a report: one HTML file that needs nothing else, made of the document and of nothing more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from fer_loadtest.progress import describe_found
from fer_loadtest.svg import Chart, Line, Mark, draw

_BLUE, _ORANGE, _GREEN, _RED, _GRAY = "#1f6fb2", "#d9822b", "#2e8b57", "#c0392b", "#8a8f98"
_ERROR_COLORS: Final = (_RED, _ORANGE, "#8e44ad", "#7f6000", _GRAY, "#16a085")

_STYLE: Final = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1d2430;background:#fff;max-width:1040px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.2rem 0 .4rem;border-bottom:1px solid #d8dce3}
.sub{color:#5a6270;margin:0 0 1rem}.cards{display:flex;flex-wrap:wrap;gap:.7rem;margin:1rem 0}
.card{border:1px solid #d8dce3;border-radius:6px;padding:.5rem .9rem;min-width:5rem;flex:1}
.card b{display:block;font-size:1.35rem}.card span{color:#5a6270;font-size:.85rem}
.scroll,figure{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.88rem;margin:.5rem 0}
th,td{text-align:right;padding:.25rem .55rem;border-bottom:1px solid #e6e9ee;white-space:nowrap}
.text{white-space:normal;text-align:left}th:first-child,td:first-child{text-align:left}th{color:#5a6270;font-weight:600}
tr.best td{background:#eef6ee}.ok{color:#1e7a45}.bad{color:#b3261e;font-weight:600}
.verdict{font-size:1.05rem;margin:.2rem 0}
.note{border-left:3px solid #d9822b;padding:.3rem .8rem;margin:.4rem 0;background:#fdf6ee}
figure{margin:.5rem 0}svg{width:100%;min-width:40rem;height:auto}svg text{font:12px system-ui,sans-serif;fill:#5a6270}
.grid{stroke:#e6e9ee;fill:none}.axis{stroke:#8a8f98;fill:none}.line{fill:none;stroke-width:1.8}
path.mark{stroke:#5a6270;stroke-dasharray:4 4;fill:none}svg text.mark{fill:#1d2430}
figcaption{font-size:.85rem;color:#5a6270}figcaption span{margin-right:1.1rem}
figcaption i{display:inline-block;width:.8rem;height:.25rem;margin-right:.35rem;vertical-align:middle}
"""

_LEVEL_COLUMNS: Final = (
    ("level", "name"),
    ("images/s", "images_per_s"),
    ("faces/s", "faces_per_s"),
    ("p50 ms", "p50"),
    ("p95 ms", "p95"),
    ("p99 ms", "p99"),
    ("its 95 % interval", "p99_interval_ms"),
    ("errors", "error_percent"),
    ("mean batch", "mean_batch"),
    ("queue ms", "queue_ms"),
    ("load's cores", "generator_cores"),
)


def format_page(document: Mapping[str, Any]) -> str:
    """The page.

    Args:
        document: As `report.json` has it.
    """
    title = escape(document["label"])
    sections = (
        _head(document),
        _notes(document),
        _thresholds(document),
        _curve(document),
        _levels(document),
        _over_time(document),
        _errors(document),
        _parts("Kinds of pictures", document["kinds"]),
        _parts("Protocols", document["protocols"]) if len(document["protocols"]) > 1 else "",
        _server(document),
        _generator(document),
        _setup(document),
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"{''.join(sections)}</body></html>\n"
    )


def _head(document: Mapping[str, Any]) -> str:
    totals, latency = document["totals"], document["totals"]["latency_ms"]
    cards = [
        ("images/s", _number(totals["images_per_s"])),
        ("faces/s", _number(totals["faces_per_s"])),
        ("p50", _ms(latency["p50"])),
        ("p95", _ms(latency["p95"])),
        ("p99", _ms(latency["p99"])),
        ("failed", f"{totals['error_percent']:.3g} %"),
    ]
    if document["capacity"] is not None:
        limit = document["options"]["objective_p99_ms"]
        cards.insert(0, (f"images/s at p99 ≤ {limit:g} ms", _number(document["capacity"]["images_per_s"])))
    if document["search"] is not None and document["search"]["rate"] is not None:
        cards.insert(0, ("capacity, images/s", _number(document["search"]["rate"])))
    boxes = "".join(f'<div class="card"><b>{value}</b><span>{escape(name)}</span></div>' for name, value in cards)
    server = document["server"]
    sub = f"{document['started']} · {server['url']} · {server['software']}, model {server['model_version']}"
    title = f'<h1>{escape(document["label"])}</h1><p class="sub">{escape(sub)}</p>'
    return f'{title}{_verdict(document)}<div class="cards">{boxes}</div>'


def _verdict(document: Mapping[str, Any]) -> str:
    if not document["is_complete"]:
        return '<p class="verdict bad">The run did not come to its end</p>'
    broken = [one["name"] for one in document["thresholds"] if not one["holds"]]
    if broken:
        return f'<p class="verdict bad">Broken: {escape(", ".join(broken))}</p>'
    count = len(document["thresholds"])
    if count == 1:
        return '<p class="verdict">No threshold was asked for; no answer was wrong</p>'
    return f'<p class="verdict ok">All {count} thresholds hold</p>'


def _notes(document: Mapping[str, Any]) -> str:
    notes = list(document["findings"])
    if document["search"] is not None:
        found = describe_found(document["search"], document["options"]["objective_p99_ms"])
        notes.insert(0, found.replace("capacity", "Capacity", 1))
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def _thresholds(document: Mapping[str, Any]) -> str:
    rows = [
        [
            escape(one["name"]),
            escape(one["limit"]),
            escape(one["measured"]),
            '<span class="ok">holds</span>' if one["holds"] else '<span class="bad">broken</span>',
        ]
        for one in document["thresholds"]
    ]
    return _section("Thresholds", _table(["threshold", "asked", "measured", ""], rows))


def _curve(document: Mapping[str, Any]) -> str:
    """Latency over throughput, one point for each level: where it turns upwards is the knee."""
    levels = [level for level in document["levels"] if level["latency_ms"]["p50"] is not None]
    if document["options"]["shape"] not in ("steps", "capacity") or len(levels) < 2:
        return ""
    if document["options"]["shape"] == "capacity":
        levels = sorted(levels, key=lambda level: (level["rate"], level["images_per_s"]))
    points = {
        name: [(level["images_per_s"], level["latency_ms"][name]) for level in levels] for name in ("p99", "p95", "p50")
    }
    marks = [Mark(document["options"]["objective_p99_ms"], "p99 objective", is_horizontal=True)]
    words = ""
    if (knee := document["knee"]) is not None:
        marks.append(Mark(knee["images_per_s"], f"knee: {knee['name']}"))
        words = (
            f"<p>The knee is at {escape(knee['name'])}, {_number(knee['images_per_s'])} images/s: the most throughput "
            "for its latency (Kleinrock's power, throughput over mean latency). Beyond it, latency grows by a larger "
            "factor than throughput.</p>"
        )
    colors = (("p99", _RED), ("p95", _ORANGE), ("p50", _BLUE))
    lines = [Line(name, points[name], color, has_dots=True) for name, color in colors]
    chart = draw(Chart("images/s answered", "latency, ms", lines, marks, is_log=True))
    return _section("Latency over throughput", words + chart)


def _levels(document: Mapping[str, Any]) -> str:
    best = (document["capacity"] or {}).get("level")
    rows, classes = [], []
    for index, level in enumerate(document["levels"]):
        values = {**level, **level["latency_ms"]}
        rows.append([_cell(name, values[name]) for _, name in _LEVEL_COLUMNS])
        classes.append("best" if index == best else "")
    words = (
        "<p>The green level has the most throughput of those that held the objective.</p>" if best is not None else ""
    )
    table = _table([title for title, _ in _LEVEL_COLUMNS], rows, classes)
    random = _HOW_ARRIVALS_COME if document["options"]["rates"] else ""
    return _section("Levels", f"{words}{table}<p>{_HOW_COUNTED}{random}</p>")


_HOW_COUNTED: Final = (
    "Latency counts from when a request was meant to be sent, over those answered as expected and those that got no "
    "answer in time. Images/s are answers as expected; a corrupt file that is refused is one. The interval is a "
    "bootstrap over seconds. Queue: the mean wait for a preprocessing instance."
)
_HOW_ARRIVALS_COME: Final = " Arrivals come at random: a short level has some percent more or fewer than was asked for."


def _over_time(document: Mapping[str, Any]) -> str:
    seconds = document["seconds"]

    def column(name: str) -> list[tuple[float, float | None]]:
        return [(row["second"], row[name]) for row in seconds]

    is_open = bool(document["options"]["rates"])
    load = Line("arrivals/s asked" if is_open else "users", column("load"), _GRAY)
    starts = [Mark(level["begin_s"], level["name"]) for level in document["levels"][1:]]
    marks = starts if len(starts) <= 6 else []
    latencies = [Line(f"p{p}", column(f"p{p}_ms"), color) for p, color in ((99, _RED), (95, _ORANGE), (50, _BLUE))]
    throughput = [Line("images/s", column("good"), _BLUE), Line("faces/s", column("faces"), _GREEN), load]
    cores = [
        Line("generator", column("generator_cores"), _ORANGE),
        Line("the whole machine", [point for point in column("machine_cores") if point[1] is not None], _GRAY),
    ]
    return (
        _section("Throughput over time", draw(Chart("s", "per second", throughput, marks)))
        + _section("Latency over time", draw(Chart("s", "ms", latencies, marks, is_log=True)))
        + _section("Cores in use where the load is made", draw(Chart("s", "cores", cores, marks)))
    )


def _errors(document: Mapping[str, Any]) -> str:
    errors = document["errors"]
    if not errors:
        return _section("Errors", "<p>None.</p>")
    lines = [
        Line(one["kind"], [(row["second"], row["errors"].get(one["kind"], 0)) for row in document["seconds"]], color)
        for one, color in zip(errors, _ERROR_COLORS, strict=False)
    ]
    rows = [[escape(one["kind"]), str(one["count"]), escape(one["example"])] for one in errors]
    table = _table(["kind", "count", "first message"], rows, text_column=2)
    words = "<p>Of the whole run, with the seconds that settle and, in a search, with rates that were too high.</p>"
    return _section("Errors", words + draw(Chart("s", "failed per second", lines)) + table)


def _parts(title: str, parts: Mapping[str, Any]) -> str:
    rows = []
    for name, part in parts.items():
        latency = part["latency_ms"]
        figures = [_number(part["images_per_s"]), *(_ms(latency[p]) for p in ("p50", "p95", "p99"))]
        rows.append([escape(name), *figures, f"{part['error_percent']:.3g} %", str(part["good"])])
    return _section(title, _table(["", "images/s", "p50", "p95", "p99", "failed", "answered"], rows))


def _server(document: Mapping[str, Any]) -> str:
    triton = document["triton"]
    if triton is None:
        return ""
    names = ("request_ms", "queue_ms", "compute_input_ms", "compute_infer_ms", "compute_output_ms")
    rows = [
        [
            escape(model),
            f"{one['requests']:.0f}",
            f"{sum(one['failures'].values()):.0f}",
            "-" if one["mean_batch"] is None else f"{one['mean_batch']:.2f}",
            *("-" if one[name] is None else f"{one[name]:.2f}" for name in names),
        ]
        for model, one in triton["models"].items()
    ]
    header = [
        "model",
        "answered",
        "failed",
        "mean batch",
        "request ms",
        "queue ms",
        "input ms",
        "compute ms",
        "output ms",
    ]
    counters = [
        [escape(one["name"]), escape(one["model"]), escape(one["label"]), _counter(one["name"], one["added"])]
        for one in triton["counters"]
    ]
    gauges = [
        [escape(_GAUGES.get(name, name)), _gauge(name, value)]
        for name, value in triton["gauges"].items()
        if value is not None
    ]
    words = (
        f"<p>From its own counters, over {triton['seconds']:g} s around the load; milliseconds are "
        "means per request. What others asked for meanwhile is in them, health probes among it. The ensemble "
        "<code>fer</code> has no queue of its own, and Triton 2.51 counts what fails in it twice.</p>"
    )
    ours = _table(["our counters", "model", "", "added"], counters) if counters else ""
    return _section("What the server says", words + _table(header, rows) + ours + _table(["gauge", "mean"], gauges))


_GAUGES: Final = {
    "nv_cpu_utilization": "CPU in use, of the server's whole machine",
    "nv_cpu_memory_used_bytes": "memory in use, of the server's whole machine",
    "nv_gpu_utilization": "GPU in use",
    "nv_gpu_memory_used_bytes": "GPU memory in use",
}


def _counter(name: str, added: float) -> str:
    return f"{added / 1e6:.2f} s" if name.endswith("_us_total") else f"{added:,.0f}"


def _gauge(name: str, value: float) -> str:
    return f"{value / 2**30:.2f} GiB" if name.endswith("_bytes") else f"{100 * value:.0f} %"


def _generator(document: Mapping[str, Any]) -> str:
    cost = document["generator"]
    state = '<span class="bad">could not keep up</span>' if cost["is_saturated"] else '<span class="ok">kept up</span>'
    rows = [
        ["state", state],
        ["processes", str(cost["processes"])],
        ["cores, mean", f"{cost['cores']:.2f}"],
        ["cores of one process, at most", f"{cost['peak_cores']:.2f}"],
        ["CPU for a request", _ms(cost["ms_per_request"])],
        ["requests sent late, p99", _ms(cost["late_p99_ms"])],
        ["longest oversleep", _ms(cost["lag_max_ms"])],
    ]
    return _section("What the load itself cost", _table(["", ""], rows))


def _setup(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    mix = [
        [
            escape(one["kind"]),
            f"{100 * one['share']:.1f} %",
            str(one["pictures"]),
            f"{one['mean_kb']:g} kB",
            _faces(one),
        ]
        for one in document["pictures"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = "on this machine" if document["is_local"] else "elsewhere"
    rows = [
        [
            "load made on",
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}",
        ],
        ["server", where],
        ["Python", f"{machine['python']}; {versions}"],
    ]
    hidden = ("thresholds", "out", "label", "url", "grpc_url", "metrics_urls")
    rows += [
        [name, _plain(value)]
        for name, value in document["options"].items()
        if name not in hidden and value not in (None, [])
    ]
    table = _table(["", ""], [[escape(name), escape(value)] for name, value in rows], text_column=1)
    pictures = _table(["pictures", "share", "files", "mean size", "faces"], mix)
    return _section("What was sent, and on what", pictures + table)


def _faces(picture: Mapping[str, Any]) -> str:
    return ", ".join(map(str, picture["faces"])) or "refused"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner:g}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}"


def _table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    classes: Sequence[str] | None = None,
    text_column: int | None = None,
) -> str:
    """A table of cells that are HTML already."""
    head = "".join(
        f'<th class="text">{escape(title)}</th>' if column == text_column else f"<th>{escape(title)}</th>"
        for column, title in enumerate(header)
    )
    body = []
    for index, row in enumerate(rows):
        marked = f' class="{classes[index]}"' if classes and classes[index] else ""
        cells = "".join(
            f'<td class="text">{cell}</td>' if column == text_column else f"<td>{cell}</td>"
            for column, cell in enumerate(row)
        )
        body.append(f"<tr{marked}>{cells}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(body)}</table></div>'


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "error_percent":
        return f"{value:.3g} %"
    if name == "p99_interval_ms":
        return f"{value[0]:.0f} to {value[1]:.0f}"
    return escape(value) if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{_number(value)} ms"
