"""What is counted where, and that nothing is lost on the way from workers to the master."""

import json

from fer_loadtest.pictures import ONE_FACE
from fer_loadtest.recorder import Recorder, summarise


def test_latency_belongs_to_the_second_of_sending_and_the_answer_to_its_own():
    recorder = Recorder("a")
    recorder.sent(100.5, "http", ONE_FACE, 0.0)
    recorder.answered(100.5, 103.25, "http", ONE_FACE, 2)
    sending, answering = (summarise(recorder, [(second, second + 1)]) for second in (100, 103))
    assert (sending.sent, len(sending.latency), sending.good) == (1, 1, 0)
    assert (answering.sent, len(answering.latency), answering.good, answering.faces) == (0, 0, 1, 2)
    assert sending.latency.percentile_ms(0) is None or sending.latency.mean_ms() >= 2750


def test_requests_that_waited_in_vain_make_percentiles_worse_and_refused_ones_do_not():
    recorder = Recorder("a")
    for _ in range(10):
        recorder.answered(100.1, 100.12, "http", ONE_FACE, 1)
    recorder.failed(100.1, 100.101, "http", ONE_FACE, "overloaded (503)", "no room")
    assert summarise(recorder, [(100, 101)]).latency.percentile_ms(50) < 25
    for _ in range(11):
        recorder.failed(100.1, 130.1, "http", ONE_FACE, "timeout", "30 s", in_vain=True)
    summary = summarise(recorder, [(100, 131)])
    assert summary.latency.percentile_ms(50) >= 30_000
    assert summary.errors == {"overloaded (503)": 1, "timeout": 11}


def test_only_whole_seconds_of_a_span_count():
    recorder = Recorder("a")
    for second in range(100, 110):
        recorder.answered(second + 0.5, second + 0.6, "http", ONE_FACE, 1)
    summary = summarise(recorder, [(101.2, 105.9)])
    assert (summary.good, summary.seconds, summary.images_per_s) == (3, 3, 1.0)


def test_what_workers_hand_over_adds_up_and_survives_json():
    workers = [Recorder(name) for name in ("a", "b")]
    master = Recorder("master")
    for number in range(60):
        worker = workers[number % 2]
        worker.sent(100 + number / 10, "grpc", ONE_FACE, 0.2)
        worker.answered(100 + number / 10, 100.02 + number / 10, "grpc", ONE_FACE, 1)
        worker.generator_second(100 + number / 10).cpu_s += 0.01
        if number % 7 == 0:
            worker.failed(100, 101, "grpc", ONE_FACE, "timeout", f"after {number}")
            for one in workers:
                master.take_over(_through_json(one.hand_over()))
    for one in workers:
        master.take_over(_through_json(one.hand_over()))
    summary = summarise(master, [(100, 107)])
    assert (summary.sent, summary.good, summary.faces, summary.errors["timeout"]) == (60, 60, 60, 9)
    assert len(summary.latency) == 60
    assert round(sum(one.cpu_s for one in master.generator.values()), 6) == 0.6
    assert master.examples == {"timeout": "after 0"}
    assert not workers[0].cells


def _through_json(plain):
    """Locust sends messages as msgpack, where keys stay numbers; JSON is stricter."""
    text = json.loads(json.dumps(plain))
    for cell in text["cells"]:
        cell[4] = {int(bucket): count for bucket, count in cell[4].items()}
    for one in text["generator"]:
        one[5] = {int(bucket): count for bucket, count in one[5].items()}
    return text
