import numpy as np
import pytest

from base.base_dataset import BaseDataset
from dataloaders.shapes import VOID, Shapes, circle_points, rasterise

KINDS = [0, 1, 2, 3, 4, 5, VOID]
COUNTS_TRAIN = [119983, 21405, 4306, 7102, 11567, 11152, 8805]
COUNTS_VAL = [123420, 17072, 9119, 7102, 12464, 8030, 7113]


def scenes(count, split="train", **args):
    dataset = Shapes(split, num_images=count, **args)
    pairs = [dataset.load(index) for index in range(count)]
    return np.stack([pair.image for pair in pairs]), np.stack([pair.mask for pair in pairs])


@pytest.fixture(scope="module")
def many():
    return scenes(300)


class TestShapes:
    def test_smoke(self):
        dataset = Shapes(split="val", num_images=1, image_size=16, seed=2**40)
        assert isinstance(dataset, BaseDataset)
        dataset.load(0)

    def test_exception_split(self):
        with pytest.raises(ValueError, match="expected one of train, val, got 'test'"):
            Shapes("test")

    @pytest.mark.parametrize("index", [-1, 3])
    def test_exception_index(self, index):
        with pytest.raises(IndexError, match=f"scene {index} of 3"):
            Shapes(num_images=3).load(index)

    def test_cardinality_lengths(self):
        assert len(Shapes()) == 2000
        assert len(Shapes("val")) == 200
        assert len(Shapes(num_images=5)) == 5
        names = [sample.name for sample in Shapes("val").samples]
        assert names[0] == "val_000000" and len(set(names)) == 200

    @pytest.mark.parametrize("size", [16, 33, 96, 200])
    def test_cardinality_arrays(self, size):
        image, mask, _ = Shapes(image_size=size).load(1)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        assert mask.shape == (size, size) and mask.dtype == np.uint8
        assert image.flags.c_contiguous and mask.flags.c_contiguous

    def test_cardinality_classes(self):
        assert len(Shapes.classes) == len(set(Shapes.palette)) == 6
        assert Shapes.void == (VOID,)

    def test_feature_every_class_and_the_void_occur(self, many):
        _, masks = many
        counts = np.bincount(masks.ravel(), minlength=256) / masks.size
        assert np.flatnonzero(counts).tolist() == KINDS
        assert counts[1:6].min() > 0.015
        assert 0.01 < counts[VOID] < 0.1
        assert 0.5 < counts[0] < 0.85

    def test_feature_mean_and_std_are_those_of_the_images(self, many):
        pixels = many[0].reshape(-1, 3) / 255
        assert np.allclose(pixels.mean(axis=0), Shapes.mean, atol=0.015)
        assert np.allclose(pixels.std(axis=0), Shapes.std, atol=0.015)

    def test_feature_colour_does_not_give_the_class(self, many):
        """Mean colours lie far nearer to each other than the colours within a class spread."""
        images, masks = many
        means = np.stack([images[masks == kind].mean(axis=0) for kind in range(6)])
        assert np.ptp(means, axis=0).max() < 40
        assert min(images[masks == kind].std(axis=0).min() for kind in range(6)) > 45

    def test_feature_scenes_stay_the_same(self):
        """Drawn on one machine, valid for all: the scores of the first run can be compared."""
        _, train = scenes(20)
        _, val = scenes(20, "val")
        counts = [np.bincount(masks.ravel(), minlength=256) for masks in (train, val)]
        # OpenCV 4 and 5 differ in about 20 of these 184320 pixels.
        assert np.abs(counts[0][KINDS] - COUNTS_TRAIN).sum() < 100
        assert np.abs(counts[1][KINDS] - COUNTS_VAL).sum() < 100

    def test_feature_pure_function_of_seed_split_and_index(self):
        first = scenes(10)
        assert all(np.array_equal(a, b) for a, b in zip(first, scenes(10), strict=True))
        longer = Shapes(num_images=5000)
        assert np.array_equal(longer.load(9)[0], first[0][9])
        assert not np.array_equal(scenes(10, seed=1)[0], first[0])

    def test_feature_no_scene_occurs_twice(self):
        pictures = [*scenes(200)[0], *scenes(200, "val")[0], *scenes(200, seed=1)[0]]
        assert len({picture.tobytes() for picture in pictures}) == 600

    def test_feature_outlines_of_label_and_image_agree(self, many):
        """The image changes most where the label does, not a pixel beside it."""
        images, masks = many
        grey = images.astype(np.float32).mean(axis=3)
        jump = np.abs(np.diff(grey, axis=2))
        clean = np.ones(masks[:, :, 4:-4].shape, bool)
        for shift in range(9):
            clean &= masks[:, :, shift : masks.shape[2] - 8 + shift] != VOID
        edge = np.diff(masks.astype(int), axis=2) != 0
        at = [
            jump[:, :, 4 + d : 4 + d + edge.shape[2] - 8][
                edge[:, :, 4:-4] & clean[:, :, :-1]
            ].mean()
            for d in (-2, -1, 0, 1, 2)
        ]
        assert np.argmax(at) == 2
        assert at[2] > 1.3 * max(at[1], at[3])


class TestRasterise:
    def test_feature_box(self):
        """Truth by hand: a box on pixel corners fills its pixels and no other."""
        box = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0], [0.0, 3.0]])
        expected = np.zeros((9, 10))
        expected[2:5, 3:7] = 255
        covered = rasterise([box], 3, 2, 9, 10)
        # OpenCV draws the outline too, half a subpixel on each side.
        assert np.abs(covered - expected).max() <= 0.26 * 255
        assert np.array_equal(covered >= 128, expected >= 128)

    @pytest.mark.parametrize("radius", [6, 10, 20])
    def test_feature_areas(self, radius):
        """Truth: pi r^2, and pi (r^2 - (r/2)^2) for a ring, which is filled even-odd."""
        circle = circle_points(40) * radius
        disk = rasterise([circle], 24.3, 23.6, 48, 48) / 255
        ring = rasterise([circle, circle / 2], 24.3, 23.6, 48, 48) / 255
        area = np.pi * radius**2
        assert disk.sum() == pytest.approx(area, rel=0.05)
        assert ring.sum() == pytest.approx(0.75 * area, rel=0.08)
        assert ring[23, 24] == 0

    def test_feature_subpixel_position(self):
        """The centre of mass is where the shape was put."""
        covered = rasterise([circle_points(40) * 8], 15.25, 14.6, 30, 32).astype(float)
        rows, columns = np.indices(covered.shape) + 0.5
        assert (covered * columns).sum() / covered.sum() == pytest.approx(15.25, abs=0.1)
        assert (covered * rows).sum() / covered.sum() == pytest.approx(14.6, abs=0.1)
