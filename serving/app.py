"""The calls of the server."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from prediction.products.kinds import FORMATS
from serving.answer import MAX_ANSWER, Answer, read_wanted
from serving.batcher import Batcher
from serving.guard import Guard, error_body
from serving.job import GivenUp, Job
from serving.limits import Limits
from serving.metrics import Metrics
from serving.openapi import ERRORS, PREDICT, complete
from serving.pages import Page
from serving.refusal import Refusal
from serving.served_model import READERS, ServedModel
from serving.uploads import Uploads
from utils.config.errors import suggest

logger = logging.getLogger(__name__)

_MAX_UNSENT = MAX_ANSWER  # bytes of answers that clients do not take


class Service:
    """Answers requests with models.

    Args:
        models: The models by their names, the default first.
        limits: What clients may ask for.
        batcher: Runs the models.
        metrics: What is counted.
        folder: Where uploads and products are while they are needed.
    """

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        limits: Limits,
        batcher: Batcher,
        metrics: Metrics,
        folder: Path,
    ) -> None:
        self._models, self._limits = models, limits
        self._batcher, self._metrics = batcher, metrics
        self._uploads = Uploads(limits)
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._folder = folder
        self._in_work = 0
        self._counting = threading.Lock()
        self._unsent = 0  # bytes

    async def predict(self, request: Request) -> Answer:
        """Return the products of the image of a request.

        Raises:
            Refusal: If there are none.
        """
        with self._uploads.hold() as held:
            upload = await self._uploads.read(request, held)
            model = self._model(upload.fields.get("model"))
            wanted = read_wanted(upload.fields, model)
            self._admit()
            job = Job(model, wanted, self._folder, self._limits.seconds, self._closed)
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._readers, job.open, upload.image, self._limits.max_pixels
                )
            except BaseException:
                job.close()
                raise
            del upload  # the image is decoded, or in a file
        self._batcher.submit(job)
        answer = await self._answer(job, request)
        self._unsent += len(answer.body)
        return answer

    async def sent(self, answer: Answer) -> None:
        """Forget an answer that the client has, or whose client has gone."""
        self._unsent -= len(answer.body)

    def _model(self, name: str | None) -> ServedModel:
        if name is None:
            return next(iter(self._models.values()))
        if name not in self._models:
            raise Refusal(
                404, f"no model {name[:60]!r}{suggest(name[:60], self._models, listing=True)}"
            )
        return self._models[name]

    def _admit(self) -> None:
        """Count an image that is in work from now on.

        Raises:
            Refusal: If there are too many.
        """
        if self._in_work >= self._limits.queue:
            seconds = math.ceil(self._in_work * self._batcher.seconds_per_image)
            raise Refusal(
                429,
                f"{self._in_work} images are in work or waiting, which is the most; try again",
                retry_after=min(60, max(1, seconds)),
            )
        if self._unsent > _MAX_UNSENT:
            raise Refusal(429, "clients do not take their answers; try again", retry_after=5)
        self._count(+1)

    def _closed(self) -> None:
        """Forget an image, whose thread may be any."""
        self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:
            self._in_work += more
            self._metrics.in_work.set(self._in_work)

    async def _answer(self, job: Job, request: Request) -> Answer:
        answer = asyncio.wrap_future(job.answer)
        gone = asyncio.ensure_future(request.receive())  # all that can come is the end
        both: set[asyncio.Future[Any]] = {answer, gone}
        try:
            await asyncio.wait(both, timeout=job.left, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if gone.done():
                raise Refusal(499, "the client has gone")
            raise GivenUp
        except GivenUp:
            raise Refusal(
                503, f"no answer within {self._limits.seconds:g} seconds", retry_after=5
            ) from None
        except Refusal:
            raise
        except Exception as error:
            logger.error("an image failed", exc_info=error)
            raise Refusal(500, "the prediction failed; the server's log says why") from None
        finally:
            answer.cancel()  # whoever has the image forgets it
            gone.cancel()

    def describe(self) -> dict[str, Any]:
        """Return what there is, as JSON."""
        return {
            "models": [model.describe() for model in self._models.values()],
            "products": {
                **{name: list(formats) for name, formats in FORMATS.items() if name != "summary"},
                "image": ["jpg"],
                "table": ["json"],
                "polygons": ["geojson", "coco"],
            },
            "limits": {"bytes": self._limits.max_bytes, "pixels": int(self._limits.max_pixels)},
        }

    def close(self, seconds: float) -> bool:
        """End the threads, after the last answer.

        Args:
            seconds: How long to wait for work that nobody waits for any more.

        Returns:
            Whether they have ended.
        """
        end = time.monotonic() + seconds
        while self._in_work:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        self._readers.shutdown()
        self._batcher.close()
        return True


def make_app(service: Service, metrics: Metrics, token: str | None) -> Guard:
    """Return the application of ASGI.

    Args:
        service: Answers the requests.
        metrics: What is counted.
        token: What clients have to send; None for nothing.
    """
    app = FastAPI(
        title="Semantic segmentation", version="1", docs_url=None, redoc_url=None,
        openapi_url="/openapi.json",
    )  # fmt: skip
    pages = {"/": Page("index"), "/docs": Page("docs")}

    @app.post(
        "/v1/predict", summary="Segment an image", openapi_extra=PREDICT, responses=ERRORS,
        response_class=Response,
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        """Segment an image, which is sent as the file `image` of a form, or as the body."""
        answer = await service.predict(request)
        sent = BackgroundTask(service.sent, answer)
        return Response(answer.body, media_type=answer.media_type, background=sent)

    @app.get("/v1/models", summary="The models, their classes, and the products")
    async def models() -> dict[str, Any]:
        """Return the models by their names, the default first."""
        return service.describe()

    @app.get("/health", summary="Whether the server answers")
    async def health() -> dict[str, str]:
        """Return 200, or 503 while the server is stopping."""
        return {"status": "ok"}

    @app.get("/metrics", summary="What is counted, for Prometheus", response_class=Response)
    async def counted() -> Response:
        """Return the metrics in the text format of Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    for path, page in pages.items():
        app.add_api_route(path, page.answer, include_in_schema=False)

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        body = error_body(refusal.message)
        return Response(body, refusal.status, refusal.headers, "application/json")

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> JSONResponse:
        hint = "; /docs lists the calls" if error.status_code in (404, 405) else ""
        return JSONResponse({"error": f"{error.detail}{hint}"}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return Response(
            error_body("the server failed; its log says why"), 500, {}, "application/json"
        )

    complete(app)
    paths = {*pages, "/v1/predict", "/v1/models", "/health", "/metrics", "/openapi.json"}
    return Guard(app, token, paths, metrics)
