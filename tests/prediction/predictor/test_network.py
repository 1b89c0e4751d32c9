from math import ceil

import numpy as np
import pytest
import torch
from torch import nn

import prediction.predictor.views
from prediction.predictor.network import IN_WINDOWS, Predictor
from prediction.predictor.tiles import tile_layout
from prediction.predictor.views import SCALES, SLOWER
from prediction.predictor.windows import WindowRule
from utils.cli.choices import FLIPS, MODES
from utils.out_of_memory import is_out_of_memory

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NUM_CLASSES = 4
ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 281474976710656 bytes. Error code 12 (Cannot allocate memory)"
    ),
)


class Net(nn.Module):
    """Sees its border (zero padding), the whole image (mean), left from right (weights)."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.second = nn.Conv2d(6, NUM_CLASSES, 3, padding=1)
        self.sizes, self.seen = [], []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[2:]))
        self.seen.append(images[:, 0].numel())
        features = self.first(images).relu()
        return self.second(features + features.mean((2, 3), keepdim=True))


@pytest.fixture
def model():
    return Net().eval()


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def predictor(model, mode, **settings):
    return Predictor(model, MEAN, STD, "cpu", mode=mode, **settings)


def run_numpy(model, images):
    with torch.no_grad():
        return model(torch.from_numpy(np.ascontiguousarray(images, np.float32))).numpy()


def normalized(image):
    return ((image / 255 - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)[None]


def naive_multiscale(model, image, scales, flip=False, run=run_numpy):
    """Mean of logits over scales with SciPy's zoom, pixel arithmetic spelled out.

    `mode="nearest"`: for some sizes rounding puts SciPy's last coordinate just outside the image,
    and its default then fills the last row with zeros.
    """
    zoom = pytest.importorskip("scipy.ndimage").zoom
    height, width = image.shape[:2]
    total = np.zeros((NUM_CLASSES, height, width))
    for scale in scales:
        scaled = zoom(normalized(image), (1, 1, scale, scale), order=1, mode="nearest")
        views = [run(model, scaled)]
        if flip:
            views.append(run(model, scaled[..., ::-1])[..., ::-1])
        for logits in views:
            back = [n / m for n, m in zip((height, width), logits.shape[2:], strict=True)]
            total += zoom(logits[0], (1, *back), order=1, mode="nearest") / len(views)
    return total / len(scales)


def naive_sliding(model, image, steps=None, run=run_numpy):
    """Tiles in a double loop; one step for both axes, unless `steps` names one for each."""
    images = normalized(image)
    height, width = image.shape[:2]
    tile_h, tile_w = int(height // 2.5), int(width // 2.5)
    step_y, step_x = steps or [ceil(tile_h * (1 - 1 / 3))] * 2
    total = np.zeros((NUM_CLASSES, height, width))
    counts = np.zeros((height, width))
    for y in range(0, ceil((height - tile_h) / step_y) * step_y + 1, step_y):
        for x in range(0, ceil((width - tile_w) / step_x) * step_x + 1, step_x):
            cut = images[:, :, y : y + tile_h, x : x + tile_w]
            h, w = cut.shape[2:]
            if not w:
                continue
            tile = np.zeros((1, 3, tile_h, tile_w))
            tile[:, :, :h, :w] = cut
            logits = run(model, tile) + run(model, tile[..., ::-1])[..., ::-1]
            total[:, y : y + h, x : x + w] += logits[0, :, :h, :w] / 2
            counts[y : y + h, x : x + w] += 1
    return total, counts


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flip", [None, *FLIPS])
def test_smoke(model, mode, flip):
    image = random_image(20, 30)
    logits = predictor(model, mode, flip=flip).predict_logits(image)
    assert logits.shape == (NUM_CLASSES, 20, 30)
    assert logits.dtype == torch.float32
    prediction = predictor(model, mode, flip=flip).predict(image)
    assert prediction.dtype == np.uint8
    np.testing.assert_array_equal(prediction, logits.numpy().argmax(0))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 40), (40, 1), (3, 5), (7, 100), (100, 7)])
def test_cardinality_any_size(model, mode, size):
    prediction = predictor(model, mode).predict(random_image(*size))
    assert prediction.shape == size


class TestWhole:
    def test_feature_is_one_forward(self, model):
        image = random_image(17, 23)
        logits = predictor(model, "whole").predict_logits(image)
        truth = run_numpy(model, normalized(image))[0]
        np.testing.assert_allclose(logits, truth, rtol=1e-4, atol=1e-5)

    def test_feature_flip_makes_mirrored_images_alike(self, model):
        image = random_image(9, 12)
        both = predictor(model, "whole", flip="horizontal")
        mirrored, logits = both.predict_logits(image[:, ::-1]), both.predict_logits(image)
        np.testing.assert_allclose(mirrored.flip(-1), logits, rtol=1e-4, atol=1e-5)


class TestMultiscale:
    @pytest.mark.parametrize("size", [(37, 50), (50, 37), (29, 24), (48, 15)])
    @pytest.mark.parametrize("flip", [False, True])
    def test_feature_equals_naive(self, model, size, flip):
        image = random_image(*size)
        mirrored = "horizontal" if flip else "none"
        logits = predictor(model, "multiscale", flip=mirrored).predict_logits(image)
        truth = naive_multiscale(model, image, SCALES, flip)
        np.testing.assert_allclose(logits, truth, rtol=1e-3, atol=1e-4)

    def test_feature_other_scales(self, model):
        image, scales = random_image(21, 30), (0.5, 2.25)
        logits = predictor(model, "multiscale", scales=scales).predict_logits(image)
        truth = naive_multiscale(model, image, scales)
        np.testing.assert_allclose(logits, truth, rtol=1e-3, atol=1e-4)

    def test_feature_sizes_are_scipys(self, model):
        """Half a pixel is rounded to the even number, as Python and SciPy do."""
        predictor(model, "multiscale").predict_logits(random_image(10, 26))
        assert model.sizes == [(8, 20), (10, 26), (12, 32), (15, 39), (18, 46), (20, 52)]

    def test_feature_min_size(self, model):
        model.min_size = 10
        predictor(model, "multiscale").predict_logits(random_image(10, 4))
        assert model.sizes[0] == (10, 10)


class TestSliding:
    # The last is as tall as the single step allows: tiles of 36 x 25, step 25.
    @pytest.mark.parametrize("size", [(40, 60), (60, 60), (31, 97), (75, 53), (10, 100), (90, 63)])
    def test_feature_equals_naive_where_that_covers(self, model, size):
        image = random_image(*size)
        total, counts = naive_sliding(model, image)
        assert counts.min() == 1
        logits = predictor(model, "sliding").predict_logits(image)
        np.testing.assert_allclose(logits, total / counts, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("size", [(180, 90), (300, 100)])
    def test_feature_portrait_has_no_gaps(self, model, size):
        image = random_image(*size)
        _, counts = naive_sliding(model, image)
        assert counts.min() == 0, "the single step was expected to leave gaps"
        steps = [ceil(int(side // 2.5) * (1 - 1 / 3)) for side in size]
        total, counts = naive_sliding(model, image, steps)
        logits = predictor(model, "sliding").predict_logits(image)
        assert torch.isfinite(logits).all()
        np.testing.assert_allclose(logits, total / counts, rtol=1e-3, atol=1e-4)

    def test_feature_layout_covers_every_size(self):
        for height in [*range(1, 40), 97, 300]:
            for width in [*range(1, 40), 97, 300]:
                (tile_h, tile_w), corners = tile_layout(height, width)
                counts = np.zeros((height, width), int)
                for top, left in corners:
                    assert top < height and left < width
                    counts[top : top + tile_h, left : left + tile_w] += 1
                assert counts.min() > 0, (height, width)

    def test_feature_min_size(self, model):
        model.min_size = 16
        logits = predictor(model, "sliding").predict_logits(random_image(10, 60))
        assert set(model.sizes) == {(16, 24)}
        assert logits.shape == (NUM_CLASSES, 10, 60)


@pytest.mark.parametrize("mode", MODES)
def test_feature_large_sums_leave_the_device(model, mode, monkeypatch):
    image = random_image(20, 30)
    expected = predictor(model, mode).predict_logits(image)
    monkeypatch.setattr(prediction.predictor.views, "_MAX_BYTES_ON_DEVICE", 0)
    assert torch.equal(predictor(model, mode).predict_logits(image), expected)


def test_feature_leaves_image_and_model_alone(model):
    image = random_image(12, 12)
    image.setflags(write=False)
    before = [parameter.clone() for parameter in model.parameters()]
    result = predictor(model.train(), "multiscale")
    result.predict(image)
    assert not result.model.training
    assert all(map(torch.equal, before, model.parameters()))


def test_feature_raw_sensor_values(model):
    """uint16 images are not divided by 255: their mean and std are in raw units."""
    image = random_image(8, 9)
    raw = Predictor(model, [v * 255 for v in MEAN], [v * 255 for v in STD], "cpu", mode="whole")
    logits = raw.predict_logits(image.astype(np.uint16))
    truth = predictor(model, "whole").predict_logits(image)
    np.testing.assert_allclose(logits, truth, rtol=1e-3, atol=1e-4)


def test_feature_more_than_256_classes():
    class Many(nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), 300, *images.shape[2:])
            logits[:, 299] = 1
            return logits

    prediction = predictor(Many(), "whole").predict(random_image(2, 3))
    assert prediction.dtype == np.uint16
    assert (prediction == 299).all()


class TestException:
    def test_arguments(self, model):
        with pytest.raises(ValueError, match="no mode 'slide'; choose from multiscale"):
            predictor(model, "slide")
        for scales in ((), (0.5, 0)):
            with pytest.raises(ValueError, match="one or more numbers above 0"):
                predictor(model, "multiscale", scales=scales)
        with pytest.raises(ValueError, match="standard deviation must be positive"):
            Predictor(model, MEAN, (1, 0, 1), "cpu")

    @pytest.mark.parametrize("shape", [(5, 5), (0, 5, 3), (1, 5, 5, 3), (5, 5, 4)])
    def test_shape(self, model, shape):
        message = "4 channels" if shape == (5, 5, 4) else r"expected an image \(H, W, C\)"
        with pytest.raises(ValueError, match=message):
            predictor(model, "whole").predict(np.zeros(shape, np.uint8))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_broken_weights(self, model, value):
        model.second.bias.data[1] = value
        with pytest.raises(ValueError, match="not finite"):
            predictor(model, "multiscale").predict(random_image(5, 5))


class Tight(Net):
    """Has room for so many views, and so many pixels of one, at once; says so like torch does.

    The views go through it one by one: torch rounds otherwise in other batches.
    """

    def __init__(self, views=99, pixels=10**9, error=ERRORS[0]):
        super().__init__()
        self.views, self.pixels, self.error = views, pixels, error
        self.passes, self.failures = [], 0

    def forward(self, images):
        count, _, height, width = images.shape
        if count > self.views or height * width > self.pixels:
            self.failures += 1
            raise self.error
        self.passes.append(count)
        return torch.cat([super(Tight, self).forward(image) for image in images.split(1)])


class TestMemory:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("error", ERRORS, ids=["accelerator", "processor"])
    def test_feature_fewer_views_give_the_same(self, mode, error, caplog):
        """Image and mirrored image one after the other."""
        images = [random_image(41, 60), random_image(50, 33)]
        plain = predictor(Tight().eval(), mode, flip="horizontal")
        tight = Tight(views=1, error=error).eval()
        made = predictor(tight, mode, flip="horizontal")
        for image in images:
            assert torch.equal(made.predict_logits(image), plain.predict_logits(image))
        assert set(tight.passes) == {1}
        assert made.notes == [SLOWER] == [record.message for record in caplog.records]

    @pytest.mark.parametrize("error", ERRORS, ids=["accelerator", "processor"])
    def test_feature_fewer_images_give_the_same(self, error, caplog):
        model = Tight().eval()
        images = torch.from_numpy(np.stack([random_image(20, 31, seed) for seed in range(7)]))
        expected = predictor(model, "whole").predict_batch(images)
        tight = Tight(views=2, error=error).eval()
        made = predictor(tight, "whole")
        assert torch.equal(made.predict_batch(images), expected)
        # 7 and 3 did not fit; the one that fits is remembered.
        assert (tight.failures, tight.passes) == (2, [1] * 7)
        assert torch.equal(made.predict_batch(images), expected)
        assert tight.failures == 2
        # As many pixels as then go at once of smaller images.
        half = predictor(model, "whole").predict_batch(images[:, :10])
        tight.passes.clear()
        assert torch.equal(made.predict_batch(images[:, :10]), half)
        assert tight.passes == [2, 2, 2, 1]
        assert [record.message for record in caplog.records] == [SLOWER]

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("size", [(300, 260), (420, 150), (129, 500)])
    @pytest.mark.parametrize("error", ERRORS, ids=["accelerator", "processor"])
    def test_feature_windows_halve_until_they_fit(self, mode, size, error, caplog):
        """The result is that of windows which had this size from the start."""
        model = Tight().eval()
        image = random_image(*size)
        plain = predictor(model, mode).predict_logits(image)
        largest = max(height * width for height, width in model.sizes)
        model.sizes.clear()
        expected = predictor(model, mode).predict_logits(image, WindowRule(128))
        room = max(height * width for height, width in model.sizes)
        assert room < largest
        tight = Tight(pixels=room, error=error).eval()
        made = predictor(tight, mode)
        logits = made.predict_logits(image)
        assert torch.equal(logits, expected) and not torch.equal(logits, plain)
        failures = tight.failures
        assert failures and torch.equal(made.predict_logits(image), logits)
        assert tight.failures == failures  # it is remembered
        cut = [note for note in made.notes if note != SLOWER]
        assert cut[-1] == f"{IN_WINDOWS} 128"
        assert made.notes == [record.message for record in caplog.records]
        # A image that fits is predicted as before.
        small = random_image(60, 60)
        expected = predictor(model, mode).predict_logits(small)
        assert torch.equal(made.predict_logits(small), expected)

    @pytest.mark.parametrize("mode", MODES)
    def test_feature_images_stay_in_host_memory(self, model, mode, monkeypatch):
        """An accelerator in name, with room for views and none for images of 8 bits."""
        images = [random_image(40, 60), random_image(40, 60, seed=1), random_image(20, 30)]
        expected = [predictor(model, mode).predict_logits(image) for image in images]
        made, real = predictor(model, mode), torch.Tensor.to
        made.views.device = torch.device("cuda")
        tried = []

        def to(tensor, target):
            if target != made.views.device:
                return real(tensor, target)
            if tensor.dtype == torch.uint8:
                tried.append(tensor[0, ..., 0].numel())
                raise ERRORS[0]
            return tensor

        monkeypatch.setattr(torch.Tensor, "to", to)
        for image, logits in zip(images, expected, strict=True):
            assert torch.equal(made.predict_logits(image), logits)
        assert tried == [40 * 60, 20 * 30]  # one of that size is not tried again
        assert made.notes == [SLOWER]

    @pytest.mark.parametrize("mode", MODES)
    def test_feature_what_was_learnt_in_vain_is_forgotten(self, mode):
        """Others had the memory, and then give it back."""
        image = random_image(200, 180)
        tight = Tight(pixels=0).eval()
        made = predictor(tight, mode)
        with pytest.raises(RuntimeError) as caught:
            made.predict_logits(image)
        assert is_out_of_memory(caught.value)
        assert tight.failures < 10
        tight.pixels = 10**9
        expected = predictor(Tight().eval(), mode).predict_logits(image)
        assert torch.equal(made.predict_logits(image), expected)

    @pytest.mark.parametrize("mode", MODES)
    def test_exception_other_faults_are_not_hidden(self, mode):
        tight = Tight(views=0, error=RuntimeError("a fault")).eval()
        with pytest.raises(RuntimeError, match="a fault"):
            predictor(tight, mode).predict_logits(random_image(200, 180))
        assert tight.failures == 1


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["sliding", "whole"])
def test_feature_real_memory_of_a_gpu(model, mode):
    """40 MiB: too little for the image and its sums (60 MiB), enough for a window."""
    image = random_image(1500, 1500)
    made = Predictor(Net(), MEAN, STD, "cuda", mode=mode)
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 40 * 2**20
    torch.cuda.set_per_process_memory_fraction(
        room / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        logits = made.predict_logits(image)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert logits.device.type == "cpu"
    if mode == "sliding":
        truth = predictor(model, mode).predict_logits(image)
        np.testing.assert_allclose(logits, truth, rtol=1e-2, atol=1e-2)
        assert made.notes == [SLOWER]
    else:
        assert made.notes[0] == SLOWER and made.notes[-1].startswith(IN_WINDOWS)
        assert logits.isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_feature_gpu_equals_cpu(model, mode):
    image = random_image(60, 45)
    truth = predictor(model, mode).predict_logits(image)
    logits = Predictor(Net(), MEAN, STD, "cuda", mode=mode).predict_logits(image)
    np.testing.assert_allclose(logits.cpu(), truth, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("flip", "sizes"), [("none", [6, 5, 5]), ("horizontal", [8] * 4)])
def test_feature_tiles_go_through_the_model_in_equal_groups(flip, sizes):
    """A group, with its mirrored tiles, has about the pixels of the image."""
    model = Net().eval()
    predictor(model, "sliding", flip=flip).predict_logits(random_image(375, 500))
    assert sorted(model.seen, reverse=True) == [150 * 200 * size for size in sizes]
