import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.utils.transforms.cases import (
    FILL,
    apply,
    away_from_edges,
    difference,
    draw_geometry,
    identity,
    make_image,
    make_label,
)
from utils.transforms.blur import blur
from utils.transforms.geometry import Geometry, source_to_canvas
from utils.transforms.warp import thin_label


class TestWarp:
    @pytest.mark.parametrize(
        ("label", "settings", "message"),
        [
            *((make_label(8, 8), {"ignore_index": n}, f"cannot hold ignore_index {n}")
              for n in (-1, 256, 70_000)),
            (make_label(8, 9), {}, "of one size"),
            (make_label(8, 8, dtype=np.int64), {}, "uint8 or int16, got int64"),
            (make_label(8, 8), {"fill": (1, 2)}, "one fill value or 3, one a channel, got 2"),
        ],
    )  # fmt: skip
    def test_exception(self, label, settings, message):
        with pytest.raises(ValueError, match=message):
            apply(make_image(8, 8), label, identity(8, 8), **settings)

    @pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
    @pytest.mark.parametrize("side", [20, 60, 160])
    def test_cardinality_channels_and_types(self, channels, dtype, side):
        """Each channel comes out as if it were alone, padding included.

        OpenCV has coarser code for two channels: up to 3 levels of 255.
        """
        image, label = make_image(50, 70, channels, dtype), make_label(50, 70)
        fill = [float(10 * c) for c in range(channels)]
        geometry = Geometry(side, side, 64, 48, angle=7, flip=True)
        whole, new_label = apply(image, label, geometry, fill=fill)
        assert whole.shape == (64, 48, channels) and whole.dtype == dtype
        assert new_label.shape == (64, 48)
        assert whole.flags.c_contiguous and new_label.flags.c_contiguous
        for channel in range(channels):
            alone, _ = apply(image[..., channel : channel + 1], label, geometry, fill=fill[channel])
            assert difference(whole[..., channel], alone[..., 0]).max() <= 3
        assert np.allclose(blur(image, 0.9)[..., -1:], blur(image[..., -1:].copy(), 0.9))

    @pytest.mark.parametrize("size", [(90, 130), (33, 47), (47, 35), (64, 64)])
    def test_feature_scale_equals_resize(self, size):
        """Truth: cv2.resize; its INTER_NEAREST_EXACT is the nearest with pixel centres."""
        image, label = make_image(62, 67), make_label(62, 67)
        height, width = size
        new_image, new_label = apply(image, label, identity(height, width))
        expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        assert difference(new_image, expected).max() <= 2
        expected = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        assert np.mean(new_label != expected) < 0.01

    def test_feature_flip_and_crop_equal_indexing(self):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        label = rng.integers(0, 256, (40, 60), dtype=np.uint8)
        geometry = Geometry(40, 60, 17, 23, top=5, left=9)
        new_image, new_label = apply(image, label, geometry)
        assert np.array_equal(new_image, image[5:22, 9:32])
        assert np.array_equal(new_label, label[5:22, 9:32])
        new_image, new_label = apply(image, label, identity(40, 60, flip=True))
        assert np.array_equal(new_image, image[:, ::-1])
        assert np.array_equal(new_label, label[:, ::-1])

    @pytest.mark.parametrize("flip", [False, True])
    def test_feature_padding_is_at_the_bottom_and_right_before_the_flip(self, flip):
        image, label = make_image(20, 30), make_label(20, 30)
        new_image, new_label = apply(image, label, Geometry(20, 30, 32, 40, flip=flip))
        if flip:
            new_image, new_label = new_image[:, ::-1], new_label[:, ::-1]
        expected = np.full((32, 40, 3), FILL, np.uint8)
        expected[:20, :30] = image
        assert np.array_equal(new_image, expected)
        assert np.array_equal(new_label[:20, :30], label)
        assert (new_label[20:] == 255).all() and (new_label[:, 30:] == 255).all()

    @pytest.mark.parametrize("angle", [-10, -3, 4, 10])
    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("size", [(60, 80), (90, 121), (45, 60)])
    def test_feature_equals_the_operations_in_sequence(self, angle, flip, size):
        """Truth: cv2.resize, then cv2.getRotationMatrix2D, then slices."""
        image, label = make_image(60, 80), make_label(60, 80, block=20)
        height, width = size
        geometry = Geometry(height, width, 24, 30, top=9, left=11, angle=angle, flip=flip)
        new_image, new_label = apply(image, label, geometry)

        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        expected = cv2.warpAffine(expected, matrix, (width, height), flags=cv2.INTER_LINEAR)
        nearest = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        nearest = cv2.warpAffine(nearest, matrix, (width, height), flags=cv2.INTER_NEAREST)
        expected, nearest = expected[9:33, 11:41], nearest[9:33, 11:41]
        if flip:
            expected, nearest = expected[:, ::-1], nearest[:, ::-1]
        # Interpolating twice blurs a little; a shift by half a pixel would differ by 5 and more.
        assert difference(new_image, expected).mean() < 2
        assert np.mean(new_label != nearest) < 0.04

    def test_feature_strong_shrinking_does_not_alias(self):
        """A checkerboard of single pixels has the mean 127.5 at every place and size."""
        board = (np.indices((400, 328)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None]
        label = np.zeros((400, 328), np.uint8)
        for factor, angle in [(8, 0), (8, 5), (5.3, 0), (3, -7), (2.1, 9)]:
            height, width = round(400 / factor), round(328 / factor)
            geometry = identity(height, width, angle=angle)
            image, new_label = apply(board, label, geometry, fill=127)
            # A square of three has five pixels of one colour and four of the other: 14 levels.
            inner = image[away_from_edges(new_label == 0)].astype(float)
            assert np.abs(inner - 127.5).max() <= 15, factor

    def test_feature_a_crop_is_a_part_of_the_whole(self):
        """The source window that is read changes nothing, reduced or not."""
        image, label = make_image(203, 301), make_label(203, 301)
        for height, width in [(25, 37), (61, 90), (150, 222), (300, 444)]:
            for angle in (0, 6):
                whole = apply(image, label, identity(height, width, angle=angle))
                crop = Geometry(height, width, 12, 16, top=9, left=13, angle=angle)
                part = apply(image, label, crop)
                assert difference(part[0], whole[0][9:21, 13:29]).max() <= 1
                assert np.mean(part[1] != whole[1][9:21, 13:29]) <= 0.02

    def test_feature_crop_outside_a_rotated_image(self):
        image, label = make_image(400, 20), make_label(400, 20)
        geometry = Geometry(400, 20, 1, 1, top=0, left=19, angle=10)
        new_image, new_label = apply(image, label, geometry)
        assert new_label.tolist() == [[255]]
        assert new_image.tolist() == [[list(FILL)]]

    @settings(max_examples=60, deadline=None)
    @given(
        height=st.integers(1, 40),
        width=st.integers(1, 40),
        base_size=st.none() | st.integers(1, 60),
        crop_size=st.none() | st.integers(1, 50),
        seed=st.integers(0, 2**32),
    )
    def test_feature_any_size(self, height, width, base_size, crop_size, seed):
        """Tiny and odd images: right size, no class from outside."""
        rng = np.random.default_rng(seed)
        settings = {"base_size": base_size, "crop_size": crop_size, "flip": True, "rotate": True}
        geometry = draw_geometry(rng, height, width, **settings)
        image = np.full((height, width, 3), 9, np.uint8)
        label = np.full((height, width), 5, np.uint8)
        new_image, new_label = apply(image, label, geometry, fill=9)
        assert new_label.shape == (geometry.height, geometry.width)
        assert set(np.unique(new_label).tolist()) <= {5, 255}
        assert (new_image == 9).all()


class TestTurns:
    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("vertical_flip", [False, True])
    @pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
    @pytest.mark.parametrize(
        ("dtype", "channels"), [(np.uint8, 3), (np.float32, 1), (np.int16, 13)]
    )
    def test_feature_equal_numpy(self, flip, vertical_flip, quarter_turns, dtype, channels):
        """Truth: numpy.flip and numpy.rot90, after padding and cropping by slices."""
        image, label = make_image(40, 67, channels, dtype), make_label(40, 67)
        for height, width, top, left in [(40, 67, 0, 0), (17, 23, 5, 9), (60, 90, 0, 0)]:
            turns = (flip, vertical_flip, quarter_turns)
            geometry = Geometry(40, 67, height, width, top, left, 0, *turns)
            new_image, new_label = apply(image, label, geometry, fill=9)
            for source, new, outside in ((image, new_image, 9), (label, new_label, 255)):
                padded = np.full((99, 99, *source.shape[2:]), outside, source.dtype)
                padded[:40, :67] = source
                expected = padded[top : top + height, left : left + width]
                expected = np.flip(expected, 1) if flip else expected
                expected = np.flip(expected, 0) if vertical_flip else expected
                assert np.array_equal(new, np.rot90(expected, quarter_turns))
            assert new_label.shape == geometry.output_size

    @pytest.mark.parametrize("angle", [-10, 7])
    def test_feature_turned_after_the_rotation(self, angle):
        image, label = make_image(60, 80), make_label(60, 80, block=20)
        plain = Geometry(90, 120, 50, 70, 8, 11, angle, True)
        turned = Geometry(90, 120, 50, 70, 8, 11, angle, True, True, 3)
        (image_a, label_a), (image_b, label_b) = (apply(image, label, g) for g in (plain, turned))
        image_a, label_a = (np.rot90(np.flip(a, 0), 3) for a in (image_a, label_a))
        # Bilinear weights are rounded to a fraction of a pixel, from the other side.
        assert difference(image_a, image_b).max() <= 2
        assert np.mean(label_a != label_b) < 0.01


class TestSourceAndCanvas:
    GEOMETRY = Geometry(120, 160, 64, 72, top=20, left=31, angle=8, flip=True, quarter_turns=1)

    def test_feature_thin_label_equals_the_warped_one(self):
        """Truth: `warp`, at the centre of each square of seven pixels."""
        label = make_label(60, 80, block=9)
        _, whole = apply(make_image(60, 80), label, self.GEOMETRY)
        thin = thin_label(label, self.GEOMETRY, 7, ignore_index=255)
        assert thin.shape == (72 // 7, 64 // 7)
        assert np.array_equal(thin, whole[3::7, 3::7][: 72 // 7, : 64 // 7])

    def test_feature_points_go_where_the_pixels_go(self):
        """Truth: the position of a bright spot in the warped image."""
        geometry = Geometry(120, 160, 120, 160, angle=8)
        for y, x in [(30, 40), (12, 60), (44, 9)]:
            image = np.zeros((60, 80, 1), np.float32)
            image[y, x] = 1
            new, _ = apply(image, np.zeros((60, 80), np.uint8), geometry, fill=0)
            weights = new[..., 0] / new.sum()
            seen = [(weights * np.arange(0.5, 160)).sum(), (weights.T * np.arange(0.5, 120)).sum()]
            point = source_to_canvas(np.array([[x + 0.5, y + 0.5]]), geometry, (60, 80))
            assert np.abs(point[0] - seen).max() < 0.1
