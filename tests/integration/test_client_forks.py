"""Forked and spawned processes against the real Triton: every answer belongs to its own picture."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "forked_clients.py"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture(params=["http", "grpc"])
def outcome(request, server):
    """What came of a case of `forked_clients.py`."""
    url = f"{request.param}://{ {'http': server.http_url, 'grpc': server.grpc_url}[request.param] }"

    def run(case, kind, **environment):
        command = [sys.executable, SCRIPT, case, kind, url]
        finished = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
        )
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    return run


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_four_forked_workers_get_the_answers_to_their_own_1000_pictures(outcome, kind):
    used, in_workers, meanwhile, afterwards = outcome("workers", kind, FORKED_PICTURES="1000")
    assert (used, in_workers, meanwhile, afterwards) == (1, [250] * 4, 250, 10)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_forks_while_the_parent_waits_for_answers(outcome, kind):
    assert outcome("busy", kind) == [[20] * 4, [True] * 3, 10]


def test_the_workers_of_pytorchs_data_loader(outcome):
    pytest.importorskip("torch")
    assert outcome("data_loader", "sync") == [48, 10]
