"""Ray Serve: `python -m ray_app --port PORT --workers 2`."""

import argparse
import signal
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from fer_bench.pipeline import Pipeline
from fer_images import ImageRefusedError


class Fer:
    """One pipeline in each replica, which answers one request at a time."""

    def __init__(self) -> None:
        """Load it."""
        self._pipeline = Pipeline()

    async def __call__(self, request: Request) -> Any:
        """Answer the encoded image that is the body."""
        try:
            return self._pipeline(await request.body()).to_dict()
        except ImageRefusedError as error:
            return JSONResponse({"error": str(error)}, 400)


def main() -> None:
    """Serve until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    options = parser.parse_args()
    ray.init(
        num_cpus=options.workers,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(Path.cwd()),  # the folder that is the contender's own
    )
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    replicas = serve.deployment(num_replicas=options.workers, ray_actor_options={"num_cpus": 1})(Fer)
    serve.run(replicas.bind(), route_prefix="/predict")
    signal.pause()


if __name__ == "__main__":
    main()
