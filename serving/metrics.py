"""What the server counts, for Prometheus: https://prometheus.io/docs/practices/naming."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The counters of one server.

    Attributes:
        waiting: Images that wait for the network.
        in_work: Images that were accepted and are not answered yet.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "segmentation_requests",
            "Requests by path and status.",
            ("path", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "segmentation_request_seconds", "Time from the head of a request to its answer.",
            ("path",), buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.waiting = Gauge(
            "segmentation_images_waiting", "Images in the queue.", registry=registry
        )
        self.in_work = Gauge(
            "segmentation_images_in_work", "Images not answered yet.", registry=registry
        )
        self._images = Counter(
            "segmentation_images",
            "Images that went through a model.",
            ("model",),
            registry=registry,
        )
        self._batches = Histogram(
            "segmentation_batch_images", "Images that went through a model together.",
            ("model",), buckets=_SIZES, registry=registry,
        )  # fmt: skip
        self._network = Histogram(
            "segmentation_batch_seconds", "Time of a batch in a model.",
            ("model",), buckets=_SECONDS, registry=registry,
        )  # fmt: skip

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, model: str, images: int, seconds: float) -> None:
        """Count images that went through a model together."""
        self._images.labels(model).inc(images)
        self._batches.labels(model).observe(images)
        self._network.labels(model).observe(seconds)

    def text(self) -> bytes:
        """Return everything in the format of Prometheus."""
        return generate_latest(self._registry)
