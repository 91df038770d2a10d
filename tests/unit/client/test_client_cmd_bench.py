"""`fer-client bench`, `info` and `health` with a server that does not do what it should."""

import json
import math
import time

import pytest

from fer_client.cli import main
from fer_client.command.bench import Measurement


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    """None but those of the command line."""
    for name in ("FER_URL", "FER_GRPC_URL", "FER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def run(fake_triton, url, capsys):
    """Run a command in this process, over each protocol in turn: exit code, output, stderr."""

    def run_command(*arguments):
        code = main([*map(str, arguments), "--url", url])
        out, err = capsys.readouterr()
        return code, out, err

    return run_command


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (90, 90), (95, 95), (99, 99)])
def test_a_percentile_is_the_latency_that_so_many_answers_do_not_exceed(percent, value):
    measured = Measurement("http", 1, [float(ms) for ms in range(100, 0, -1)])
    assert measured.percentile_ms(percent) == value


@pytest.mark.parametrize(("percent", "needed"), [(50, 1), (90, 10), (95, 20), (99, 100)])
def test_a_percentile_needs_an_answer_beyond_it(percent, needed):
    assert Measurement("http", 1, [1.0] * needed).percentile_ms(percent) == 1.0
    assert Measurement("http", 1, [1.0] * (needed - 1)).percentile_ms(percent) is None


def test_bench_counts_answers_and_keeps_so_many_requests_in_flight(run, fake_triton):
    fake_triton.delay_s = 0.05
    code, out, _ = run("bench", "--json", "--seconds", "1", "--concurrency", "1,4")
    one, four = json.loads(out)["measured"]
    assert code == 0
    assert one["answered"] <= math.ceil(1 / 0.05)
    assert one["answered"] < four["answered"] <= 4 * math.ceil(1 / 0.05)
    assert min(one["latency_ms"]["p50"], four["latency_ms"]["p50"]) >= 50


def test_bench_counts_what_fails_and_sends_nothing_again(run, fake_triton):
    fake_triton.delay_s = 0.02
    original = fake_triton.refusal

    def every_third(topic):
        answer = original(topic)
        return ("overloaded", "no room") if topic == "infer" and fake_triton.asked["infer"] % 3 == 0 else answer

    fake_triton.refusal = every_third
    code, out, _ = run("bench", "--json", "--seconds", "0.6", "--concurrency", "2", "--retries", "9")
    [measured] = json.loads(out)["measured"]
    assert code == 5
    assert list(measured["failed"]) == ["overloaded"]
    assert measured["failed"]["overloaded"] == pytest.approx(measured["answered"] / 2, abs=3)


def test_bench_of_a_server_that_answers_nothing_is_a_line(run, fake_triton):
    fake_triton.refusals["infer"] = ("failed", "a worker has died")
    code, out, err = run("bench", "--seconds", "0.2")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "a worker has died" in err


@pytest.mark.parametrize("levels", ["0", "1,", "a", "1;2", "-1"])
def test_levels_of_concurrency_are_whole_numbers(run, levels):
    with pytest.raises(SystemExit):
        run("bench", f"--concurrency={levels}")


def test_health_waits_for_a_server_that_is_starting(run, fake_triton):
    fake_triton.refusals["config"] = ("missing", "not yet loaded")

    def load(topic, original=fake_triton.refusal):
        if fake_triton.asked["config"] == 2:
            fake_triton.refusals.clear()
        return original(topic)

    fake_triton.refusal = load
    code, _, err = run("health", "--wait", "20", "--retries", "0")
    assert (code, err) == (0, "")
    assert fake_triton.asked["config"] == 3


def test_health_waits_no_longer_than_told(run, fake_triton):
    fake_triton.refusals["config"] = ("failed", "broken")
    start_s = time.monotonic()
    assert run("health", "--wait", "1.2", "--retries", "0")[0] == 1
    assert 0.4 < time.monotonic() - start_s < 5
    assert fake_triton.asked["config"] >= 2


def test_health_does_not_wait_for_a_wrong_token_to_become_right(run, fake_triton):
    fake_triton.refusals["config"] = ("unauthenticated", "no")
    assert run("health", "--wait", "60")[0] == 6
    assert fake_triton.asked["config"] == 1


@pytest.mark.timeout(30)
def test_a_device_that_has_no_end_is_not_read(capsys):
    assert main(["bench", "/dev/zero"]) == 2
    assert capsys.readouterr().err == "fer-client: cannot read /dev/zero: it is a device\n"
