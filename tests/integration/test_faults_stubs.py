"""A Python stub killed under load: `fer-serve` tells the truth about it at once, and good answers are back soon.

Triton 2.51 by itself neither starts a dead stub again nor stops to call itself ready.
"""

import re
import time
from collections.abc import Iterator

import pytest
from bad_files import photo_as_jpeg
from machine_pace import slowness
from raw_requests import PATIENCE_S
from running_serve import RunningServe, serving
from steady_load import SteadyLoad

from fer_contract import CLASSIFIER_MODEL, PREPROCESS_CROPPED_MODEL, PREPROCESS_MODEL

NOTICED_S = 5.0
"""How long readiness may stay what it was, at the pace of a quiet machine, where 1.2 s is usual: Triton looks at its
health once a second. That the dead process was seen, and not a failed probe, is in what `fer-serve` says."""
BACK_S = 10.0


@pytest.fixture(scope="module")
def serve(repository) -> Iterator[RunningServe]:
    with serving(repository) as running:
        yield running


@pytest.mark.parametrize("model", [PREPROCESS_MODEL, PREPROCESS_CROPPED_MODEL, CLASSIFIER_MODEL])
def test_a_stub_killed_under_load_is_replaced(serve, astronaut, model):
    pace = slowness()
    with SteadyLoad(serve.http_url, serve.grpc_url, photo_as_jpeg(astronaut)) as load:
        load.wait_for_good(20)
        killed = time.monotonic()
        serve.stubs(model)[0].kill()
        printed = serve.read_until("ready again")
        load.wait_for_good(20)
    pace = max(pace, slowness())
    assert re.search(rf"restarting the server: {model}_0_\d has died", printed)

    noticed, ready_again = outage(load, killed)
    assert noticed - killed < NOTICED_S * pace
    after = [sent for sent in load.sent if sent.begun > ready_again]
    assert not [sent.answer for sent in after if not sent.is_good and "failed to connect" not in sent.answer.message]
    assert min(sent.ended for sent in after) - killed < BACK_S * pace
    assert {sent.protocol for sent in after} == {"http", "grpc"}
    assert max(sent.ended - sent.begun for sent in load.sent) < PATIENCE_S


def outage(load: SteadyLoad, killed: float) -> tuple[float, float]:
    """When the broken server was last called ready after `killed`, on any connection, and when the next one was."""
    looks = sorted((asked, status == 200) for asked, _, status in load.readiness if asked > killed)
    last_down = max(asked for asked, is_ready in looks if not is_ready)
    ready = [asked for asked, is_ready in looks if is_ready]
    return max((asked for asked in ready if asked < last_down), default=killed), min(a for a in ready if a > last_down)
