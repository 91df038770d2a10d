"""Triton's metrics: read from a real HTTP server, added up over several, and compared."""

import http.server
import threading

import pytest

from fer_loadtest.server_metrics import Sample, change, gauge_mean, read_metrics

TEXT = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
nv_inference_request_success{model="fer_classifier",version="1"} %(good)d
nv_inference_request_success{model="fer",version="1"} %(good)d
nv_inference_request_failure{model="fer",reason="REJECTED",version="1"} %(bad)d
nv_inference_request_failure{model="fer",reason="OTHER",version="1"} 0
nv_inference_count{model="fer_classifier",version="1"} %(rows)d
nv_inference_exec_count{model="fer_classifier",version="1"} %(good)d
nv_inference_queue_duration_us{model="fer_classifier",version="1"} %(queue_us)d
nv_inference_compute_infer_duration_us{model="fer_classifier",version="1"} 1000000
nv_cpu_utilization 0.5
nv_energy_consumption{gpu_uuid="x"} 1
fer_images_refused_total{model="fer_preprocess",reason="corrupt"} %(bad)d
fer_stage_duration_us_total{model="fer_preprocess",stage="decode"} %(queue_us)d
fer_model_info{model="fer",version="a\\"b"} 1
"""


@pytest.fixture
def serve():
    """Serves a text; yields its URL."""
    servers = []

    def start(text):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/metrics"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_what_two_servers_did_is_added_up(serve):
    before = serve(TEXT % {"good": 100, "bad": 1, "rows": 200, "queue_us": 5000})
    after = serve(TEXT % {"good": 150, "bad": 4, "rows": 400, "queue_us": 105_000})
    done = change(read_metrics([before, before], 10.0), read_metrics([after, after], 22.5))
    assert (done["seconds"], done["restarted"]) == (12.5, False)
    classifier = done["models"]["fer_classifier"]
    assert (classifier["requests"], classifier["rows"], classifier["mean_batch"]) == (100, 400, 4.0)
    assert (classifier["queue_ms"], classifier["compute_infer_ms"]) == (2.0, 0.0)
    assert done["models"]["fer"]["failures"] == {"REJECTED": 6}
    assert done["models"]["fer"]["mean_batch"] is None
    assert [(one["name"], one["label"], one["added"]) for one in done["counters"]] == [
        ("fer_images_refused_total", "corrupt", 6),
        ("fer_stage_duration_us_total", "decode", 200_000),
    ]


def test_a_restarted_server_is_seen_and_counted_from_there(serve):
    before = serve(TEXT % {"good": 100, "bad": 1, "rows": 200, "queue_us": 5000})
    after = serve(TEXT % {"good": 30, "bad": 0, "rows": 60, "queue_us": 900})
    done = change(read_metrics([before], 0.0), read_metrics([after], 5.0))
    assert done["restarted"]
    assert done["models"]["fer_classifier"]["requests"] == 30


def test_gauges_are_means(serve):
    url = serve(TEXT % {"good": 1, "bad": 0, "rows": 1, "queue_us": 0})
    samples = [read_metrics([url], 0.0), Sample(1.0, {("nv_cpu_utilization", "", ""): 1.0})]
    assert gauge_mean(samples, "nv_cpu_utilization") == 0.75
    assert gauge_mean(samples, "nv_gpu_utilization") is None


def test_something_else_is_no_metrics_of_triton(serve):
    with pytest.raises(ValueError, match="has no metrics of Triton"):
        read_metrics([serve("<html>hello</html>")], 0.0)


def test_nobody_there_is_an_os_error():
    with pytest.raises(OSError, match="refused"):
        read_metrics(["http://127.0.0.1:9/metrics"], 0.0)
