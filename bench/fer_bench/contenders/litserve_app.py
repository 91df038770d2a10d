"""LitServe: `python -m litserve_app --port PORT --workers 2`."""

import argparse
from typing import Any

import litserve
from fastapi import HTTPException, Request

from fer_bench.pipeline import Answer, Pipeline
from fer_images import ImageRefusedError


class Fer(litserve.LitAPI):  # type: ignore[misc]
    """One pipeline in each worker."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load it."""
        self._pipeline = Pipeline()

    def decode_request(self, request: Request) -> bytes:
        """Return the file in the field `image`. LitServe hands over the form where the annotation says request."""
        content: bytes = request["image"].file.read()
        return content

    def predict(self, image: bytes) -> Answer:
        """Do all the work."""
        try:
            return self._pipeline(image)
        except ImageRefusedError as error:
            raise HTTPException(400, str(error)) from error

    def encode_response(self, answer: Answer) -> dict[str, Any]:
        """Return what JSON can hold."""
        return answer.to_dict()


def main() -> None:
    """Serve until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    options = parser.parse_args()
    server = litserve.LitServer(Fer(), accelerator="cpu", workers_per_device=options.workers)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False)


if __name__ == "__main__":
    main()
