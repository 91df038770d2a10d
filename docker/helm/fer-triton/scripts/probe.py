"""Is the Triton server in this container alive? Real inferences say so; /v2/health/ready only claims it.

    python3 -I -S probe.py [--url http://127.0.0.1:8000] [--manifest /models/repository/manifest.json]

The kubelet runs it every few seconds, so it is standard library only: 0.1 s of CPU where importing a Triton client
takes 0.5 s. Exit code 0: all requests were answered, or refused because the server is busy. 1: a line says why not.
"""

import argparse
import http.client
import json
import os
import sys
import time
import urllib.parse

MODELS = {"fer": 0, "fer_cropped": 1}
"""The ensembles, which use every model together, and the rows of PROBABILITIES that each answers IMAGE with."""

HEADER = (
    "BM:\0\0\0\0\0\0\0006\0\0\0"  # BITMAPFILEHEADER: 58 bytes, pixels from byte 54 on
    "(\0\0\0\1\0\0\0\1\0\0\0\1\0\x18\0\0\0\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"  # BITMAPINFOHEADER: 1 x 1 px
)
"""The beginning of a BMP of one pixel. Its colour follows, a random one, lest the answer come from a response cache.
The picture has no face, and its bytes are ASCII, so that it fits into a JSON string."""

BUSY = ("Exceeds maximum queue size", "timed out in queue", "Request timeout expired")
"""What a server that is alive says when it has too much to do."""

ROUNDS = 2
"""Triton hands requests to a model's instances in turn, but other requests come in between: ask twice around."""

PATIENCE_S = 2.0
"""How long the server is asked. One that has not answered every request by then is busy, but alive."""

ANSWER_S = 12.0
"""How long to wait for each answer. A request waits 10 s in fer_preprocess's queue at most."""


def main() -> int:
    """Run the command. Return its exit code."""
    parser = argparse.ArgumentParser(description="Is the Triton server in this container alive?")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--manifest", default="/models/repository/manifest.json", help="tells the number of instances")
    options = parser.parse_args()
    try:
        problem = find_problem(options.url, count_instances(options.manifest) * ROUNDS)
    except (OSError, http.client.HTTPException, ValueError) as error:
        problem = f"no proper answer: {error}"
    if problem:
        print(f"probe: {problem}", file=sys.stderr)
    return 1 if problem else 0


def count_instances(manifest: str) -> int:
    """Return the largest number of instances that a model of the served repository has."""
    with open(manifest, encoding="utf-8") as file:  # noqa: PTH123  # pathlib takes a third of the start's time
        return int(max(json.load(file)["instances"].values()))


def find_problem(url: str, rounds: int) -> str | None:
    """Send each ensemble a request, so many times. Return what is wrong, or None."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=ANSWER_S)
    give_up = time.monotonic() + PATIENCE_S
    try:
        for _ in range(rounds):
            for model, rows in MODELS.items():
                connection.request("POST", f"/v2/models/{model}/infer", make_body())
                response = connection.getresponse()
                problem = _check(model, rows, response.status, response.read().decode(errors="replace"))
                if problem or time.monotonic() > give_up:
                    return problem
    finally:
        connection.close()
    return None


def make_body() -> str:
    """Return a request with an image that has not been sent before."""
    image = HEADER + "".join(chr(byte & 0x7F) for byte in os.urandom(4))
    return json.dumps({"inputs": [{"name": "IMAGE", "shape": [1], "datatype": "BYTES", "data": [image]}]})


def _check(model: str, rows: int, status: int, answer: str) -> str | None:
    if status != 200:
        busy = any(sign in answer for sign in BUSY)
        return None if busy else f"{model} answered {status}: {answer.strip()[:300]}"
    outputs = {output["name"]: output for output in json.loads(answer)["outputs"]}
    shape = outputs.get("PROBABILITIES", {}).get("shape")
    return (
        None if shape == [rows, 7] else f"{model} answered a single pixel with PROBABILITIES {shape}, not {[rows, 7]}"
    )


if __name__ == "__main__":
    sys.exit(main())
