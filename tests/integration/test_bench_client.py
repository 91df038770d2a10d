"""fer_bench.client: the client beside a bare loop of tritonclient, on the real Triton."""

import re

import pytest

from fer_bench.client import compare, main
from fer_client import FerClient
from fer_commands.exit_codes import ExitCode


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_both_are_measured_in_turn(server, astronaut, tmp_path, capsys, protocol):
    photo = tmp_path / "photo.png"
    photo.write_bytes(astronaut)
    url = f"{protocol}://{server.http_url if protocol == 'http' else server.grpc_url}"
    code = main([str(photo), "--url", url, "--images", "12", "--concurrency", "4", "--rounds", "2"])
    first, bare, ours, last = capsys.readouterr().out.splitlines()
    assert first == f"{url}: 12 times {photo}, 4 at a time, 2 rounds"
    assert re.fullmatch(r"bare tritonclient  images/s: \d+, \d+; median \d+\.\d\d ms of client CPU for an image", bare)
    assert ours.startswith("fer_client         images/s: ")
    ratio = float(re.fullmatch(r"ratio (\d+\.\d\d), expected 0\.9 or more", last)[1])
    passed, failed = ExitCode.OK, ExitCode.CHECK_FAILED  # So few images say nothing about speed.
    assert code in ({passed} if ratio > 0.9 else {failed} if ratio < 0.9 else {passed, failed})


def test_a_server_that_is_not_there_is_one_line(astronaut, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    photo.write_bytes(astronaut)
    assert main([str(photo), "--url", "127.0.0.1:1"]) == ExitCode.UNREACHABLE
    error = capsys.readouterr().err
    assert error.startswith("python -m fer_bench client: no server answers at http://127.0.0.1:1: ")
    assert error.count("\n") == 1


def test_every_pass_sends_all_images(server, astronaut):
    with FerClient(server.http_url) as client:
        rounds = compare(client, astronaut, count=8, concurrency=2, rounds=3)
    assert len(rounds) == 3
    assert all(each.images_per_s > 0 and each.cpu_ms > 0 for passes in rounds for each in passes)
