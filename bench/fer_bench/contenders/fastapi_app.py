"""FastAPI under uvicorn: `uvicorn fastapi_app:app --workers 2`."""

import threading
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from fer_bench.pipeline import Pipeline
from fer_images import ImageRefusedError

app = FastAPI()
_pipeline = Pipeline()
_lock = threading.Lock()


@app.get("/ready")
def ready() -> dict[str, bool]:
    """Answer once the pipeline is loaded."""
    return {"ready": True}


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    """Answer the encoded image that is the body."""
    return await run_in_threadpool(_answer, await request.body())


def _answer(image: bytes) -> dict[str, Any]:
    try:
        with _lock:
            return _pipeline(image).to_dict()
    except ImageRefusedError as error:
        raise HTTPException(400, str(error)) from error
