"""Order, failures and overlap of the pipeline, with sources and products that a test watches."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from prediction.fields import LabelRule
from prediction.pipeline import Names, Pipeline, Task
from prediction.predictor.memory import MemoryBudget
from prediction.predictor.network import Predictor
from prediction.predictor.windows import WindowRule
from prediction.source.image_source import LoadedImage
from tests.prediction.predictor.test_network import MEAN, NUM_CLASSES, STD, Net, Tight, random_image

NAMES = Names(tuple("abcd"), tuple((n, n, n) for n in range(4)), lambda image: image[..., :3] ^ 255)


class Kept:
    """A product that keeps its rows, and what becomes of it."""

    needs = ("image",)

    def __init__(self, fails=None):
        self.rows, self.state, self.fails = [], "open", fails

    def write(self, rows):
        if self.fails == "write":
            raise OSError(28, "No space left on device")
        self.rows.append(rows)

    def finish(self):
        if self.fails == "finish":
            raise OSError(28, "No space left on device")
        self.state = "finished"

    def discard(self):
        if self.state == "open":
            self.state = "discarded"

    @property
    def ids(self):
        return np.concatenate([rows.ids for rows in self.rows])


class Job:
    def __init__(self, image, fails=None, hole=None):
        self.image, self.fails, self.hole = image, fails, hole
        self.products, self.opened, self.facts = [], [], None

    def open(self, limits):
        if self.fails == "open":
            raise ValueError("cannot be read")
        source = LoadedImage(self.image, self.hole)
        self.opened.append(source)
        return source

    def open_products(self, facts):
        self.facts = facts
        self.products.append(Kept(self.fails))
        return [self.products[-1]]

    def task(self):
        return Task(self, Path("a.png"), Path("a.png"), self.open, self.open_products)


def make(model=None, *, workers=0, batch_size=1, rule=None, unsure=None, **settings):
    predictor = Predictor(model or Net().eval(), MEAN, STD, "cpu", mode="whole")
    budget = MemoryBudget(predictor, 3, fixed=rule is not None, rule=rule or WindowRule(1024))
    return Pipeline(
        predictor, LabelRule(NUM_CLASSES, unsure=unsure), NAMES, budget, needs=("image",),
        workers=workers, batch_size=batch_size, **settings,
    )  # fmt: skip


def run(pipeline, jobs):
    return list(pipeline.run(job.task() for job in jobs))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_feature_masks_are_those_of_one_after_the_other(workers, batch_size):
    sizes = [(20, 30), (20, 30), (20, 30), (9, 40), (20, 30), (1, 1), (1, 1)]
    jobs = [Job(random_image(*size, seed)) for seed, size in enumerate(sizes)]
    done = run(make(workers=workers, batch_size=batch_size), jobs)
    assert [each.job for each in done] == jobs
    assert all(each.error is None and each.seconds >= 0 for each in done)
    model = Net().eval()
    for job in jobs:
        expected = Predictor(model, MEAN, STD, "cpu", mode="whole").predict(job.image)
        (product,) = job.products
        assert product.state == "finished"
        assert (product.ids != expected).mean() < (0.01 if batch_size > 1 else 1e-9)
        assert (product.rows[0].image == job.image ^ 255).all()
        assert (job.facts.height, job.facts.width) == job.image.shape[:2]
        assert job.facts.ignore_index is None


def test_feature_small_images_of_one_size_go_together():
    model, counts = Net().eval(), []
    model.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    sizes = [(20, 30)] * 5 + [(9, 40)] * 2 + [(300, 400)] * 2
    jobs = [Job(random_image(*size)) for size in sizes]
    run(make(model, batch_size=3, rule=WindowRule(128)), jobs)
    assert counts[:3] == [3, 2, 2]
    assert max(counts[3:]) == 3  # windows of the larger ones


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fails", ["open", "write", "finish"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_feature_an_image_that_fails_fails_alone(workers, fails, batch_size):
    jobs = [Job(random_image(12, 14, seed), fails if seed == 1 else None) for seed in range(4)]
    done = run(make(workers=workers, batch_size=batch_size), jobs)
    assert [each.error is None for each in done] == [True, False, True, True]
    kind = ValueError if fails == "open" else OSError
    assert isinstance(done[1].error, kind)
    states = [[product.state for product in job.products] for job in jobs]
    assert states[1] == ([] if fails == "open" else ["discarded"])
    assert states[0] == states[2] == states[3] == ["finished"]


def test_feature_an_image_that_the_model_refuses_fails_alone_in_a_batch():
    class Picky(Net):
        def forward(self, images):
            if (images.amax((1, 2, 3)) > 2.9).any():
                raise ValueError("too bright")
            return super().forward(images)

    bright = np.full((8, 9, 3), 255, np.uint8)
    jobs = [Job(np.full((8, 9, 3), 90, np.uint8)), Job(bright), Job(np.zeros((8, 9, 3), np.uint8))]
    done = run(make(Picky().eval(), batch_size=3), jobs)
    assert [each.error is None for each in done] == [True, False, True]


def test_feature_windows_give_the_same_rows():
    image = random_image(300, 410)
    job = Job(image)
    (done,) = run(make(rule=WindowRule(128), workers=2), [job])
    assert done.error is None
    (product,) = job.products
    assert len(product.rows) > 1
    expected = Predictor(Net().eval(), MEAN, STD, "cpu", mode="whole").predict(
        image, WindowRule(128)
    )
    np.testing.assert_array_equal(product.ids, expected)
    np.testing.assert_array_equal(np.concatenate([r.image for r in product.rows]), image ^ 255)


def test_feature_memory_that_runs_out_begins_anew():
    """In the middle of an image, with rows written already."""
    image = random_image(400, 300)
    whole = Net.forward

    class Bad(Net):
        def forward(self, images):
            if images.shape[2] > 128 and len(self.sizes) == 4:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return whole(self, images)

    job = Job(image)
    (done,) = run(make(Bad().eval(), rule=WindowRule(160)), [job])
    assert done.error is None
    assert [product.state for product in job.products] == ["discarded", "finished"]
    assert job.products[0].rows
    expected = Predictor(Net().eval(), MEAN, STD, "cpu", mode="whole").predict(
        image, WindowRule(128)
    )
    np.testing.assert_array_equal(job.products[1].ids, expected)


def test_feature_no_memory_at_all_fails_the_image():
    jobs = [Job(random_image(300, 300)), Job(random_image(20, 20))]
    done = run(make(Tight(pixels=1000).eval()), jobs)
    assert isinstance(done[0].error, torch.OutOfMemoryError)
    assert done[1].error is None


def test_feature_pixels_without_data_are_ignored():
    hole = np.zeros((20, 30), bool)
    hole[3:9, 4:20] = True
    job, plain = Job(random_image(20, 30), hole=hole), Job(random_image(20, 30))
    run(make(), [job, plain])
    ids = job.products[0].ids
    assert (ids[hole] == 255).all() and job.facts.ignore_index == 255
    np.testing.assert_array_equal(ids[~hole], plain.products[0].ids[~hole])


def test_feature_reading_network_and_writing_overlap():
    """Each waits for the others: with everything in turn this would never end."""
    reading, writing = threading.Event(), threading.Event()

    class Waiting(Job):
        def open(self, limits):
            if self.fails == "second":
                reading.set()
            return super().open(limits)

        def open_products(self, facts):
            products = super().open_products(facts)
            if self.fails == "first":
                assert reading.wait(20), "the next image is not read meanwhile"
                write = products[0].write

                def slow(rows):
                    assert writing.wait(20), "the network waits for the writer"
                    write(rows)

                products[0].write = slow
            else:
                writing.set()
            return products

    jobs = [Waiting(random_image(5, 5), "first"), Waiting(random_image(5, 6), "second")]
    done = run(make(workers=1), jobs)
    assert [each.error for each in done] == [None, None]


def test_feature_few_images_are_in_memory_at_once():
    opened, finished = [], []

    class Counted(Job):
        def open(self, limits):
            opened.append(self)
            return super().open(limits)

    pipeline = make(workers=2)
    for done in pipeline.run(Counted(random_image(5, 5)).task() for _ in range(40)):
        finished.append(done)
        time.sleep(0.002)
        assert len(opened) - len(finished) < 12
    assert len(finished) == 40


def test_feature_an_interrupt_leaves_no_open_product():
    class Interrupted(Net):
        def forward(self, images):
            raise KeyboardInterrupt

    job = Job(random_image(9, 9))
    with pytest.raises(KeyboardInterrupt):
        run(make(Interrupted().eval(), workers=2), [job])
    assert [product.state for product in job.products] == ["discarded"]
