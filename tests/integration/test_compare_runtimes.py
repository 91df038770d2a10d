"""fer_build.compare_runtimes: what it measures in the real server, and how it compares."""

import pytest

from fer_build.compare_runtimes import BASE, Candidate, Measurement, format_table, main, measure

FASTER = Candidate("openvino", "int8", 1)


def test_a_candidate_is_served_and_measured():
    found = measure(FASTER, batches=[1, 4], seconds=0.3)
    assert set(found.images_per_s) == {1, 4}
    assert min(found.images_per_s.values()) > 0
    assert 50 < found.resident_mb < 5000


def test_ratios_are_taken_within_a_round_and_the_best_comes_first():
    """The machine was half as fast in the second round, for both."""
    rounds = [1.0, 0.5, 1.0]
    table = format_table(
        {
            BASE: [Measurement({1: 100 * speed, 16: 900 * speed}, 400) for speed in rounds],
            FASTER: [Measurement({1: 200 * speed, 16: 2700 * speed}, 500) for speed in rounds],
        }
    )
    assert table.splitlines()[2:] == [
        "| openvino | int8 | 1 | 200 | 2700 | 500 | 2.00 | 3.00 |",
        "| onnxruntime | fp32 | 1 | 100 | 900 | 400 | 1.00 | 1.00 |",
    ]


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--seconds", "0"], ["--threads", "0"]])
def test_nothing_is_measured_by_no_work(wrong, capsys):
    with pytest.raises(SystemExit) as end:
        main(wrong)
    assert end.value.code == 2
    assert "must be at least 1, --seconds above 0" in capsys.readouterr().err


@pytest.mark.parametrize("batch", ["0", "65"])
def test_a_request_that_the_classifier_refuses_is_not_sent(batch, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--batches", batch])
    assert end.value.code == 2
    assert "a request has 1 to 64 faces" in capsys.readouterr().err
