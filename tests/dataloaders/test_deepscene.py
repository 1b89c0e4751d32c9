"""Freiburg Forest."""

import numpy as np
import pytest
from PIL import Image

from dataloaders.deepscene import DeepScene
from tests.dataset_trees import ids, image, label_of, pytorch_segmentation_loaders, save
from utils.files.data_file import DataError

# Class of a colour, in the table of the dataset's own readme, with Tree as a class of its own.
COLOURS = {(170, 170, 170): 1, (0, 255, 0): 2, (102, 102, 51): 3, (0, 60, 0): 4,
           (0, 120, 255): 5, (0, 0, 0): 6}  # fmt: skip


def colours(seed: int) -> np.ndarray:
    return np.array(list(COLOURS), np.uint8)[ids(seed, range(6), (9, 12))]


@pytest.fixture
def tree(tmp_path):
    """Names as they are: masks of the training images end otherwise than those of the test."""
    for i, name in enumerate(("b1-99445", "b10-495", "b2-1")):
        save(tmp_path / f"train/rgb/{name}_Clipped.jpg", image(i, (9, 12)))
        save(tmp_path / f"train/GT_color/{name}_mask.png", colours(i))
    for i, name in enumerate(("b1-09517", "b275-311")):
        save(tmp_path / f"test/rgb/{name}_Clipped.jpg", image(i, (9, 12)))
        save(tmp_path / f"test/GT_color/{name}_Clipped.png", colours(i))
    return tmp_path


@pytest.mark.parametrize(
    ("split", "names"),
    [("training", ["b1-99445", "b10-495", "b2-1"]), ("validation", ["b1-09517", "b275-311"])],
)
def test_feature_deepscene_equals_a_naive_reading(tree, split, names):
    """Each pixel of Pillow's reading is looked up in the readme's table."""
    dataset = DeepScene(str(tree), split)
    assert [s.name for s in dataset.samples] == names
    assert (dataset.problems, dataset.notes) == ([], [])
    for index, sample in enumerate(dataset.samples):
        stored = np.asarray(Image.open(sample.label))
        expected = [[COLOURS[tuple(pixel)] for pixel in row] for row in stored.tolist()]
        assert np.array_equal(label_of(dataset, index), expected)
        assert sample.name in sample.image and sample.name in sample.label


def test_feature_deepscene_void(tree):
    """White has no class: ignored, whatever the ignored label is."""
    mask = colours(0)
    mask[0, :5] = 255
    save(tree / "train/GT_color/b1-99445_mask.png", mask)
    label = label_of(DeepScene(str(tree), "training"), 0, ignore_index=-1)
    assert (label[0, :5] == -1).all() and (label == -1).sum() == 5


def test_cardinality_deepscene_classes():
    assert DeepScene.classes[0] == "Void"
    assert len(DeepScene.classes) == len(set(DeepScene.palette)) == 7
    assert [DeepScene.palette[label] for label in COLOURS.values()] == list(COLOURS)


def test_exception_deepscene_masks(tree):
    mask = colours(0)
    mask[2, 3:5] = (1, 60, 0)
    save(tree / "train/GT_color/b1-99445_mask.png", mask)
    with pytest.raises(DataError, match=r"b1-99445_mask\.png: 2 pixels .*\(1, 60, 0\)"):
        label_of(DeepScene(str(tree), "training"))
    save(tree / "train/GT_color/b1-99445_mask.png", mask[..., 0] % 6 + 1)  # ids
    with pytest.raises(DataError, match=r"colour that is not a class.*\(1, 1, 1\)"):
        label_of(DeepScene(str(tree), "training"))


def test_feature_deepscene_grey_and_palette_masks_are_colours(tree):
    """Black is the only obstacle, in whatever way it is stored."""
    expected = label_of(DeepScene(str(tree), "training"))
    file = next((tree / "train/GT_color").glob("b1-99445*"))
    Image.fromarray(np.asarray(Image.open(file).convert("RGB"))).quantize(7).save(file)
    assert np.array_equal(label_of(DeepScene(str(tree), "training")), expected)
    save(file, np.full(expected.shape, 170, np.uint8))
    assert (label_of(DeepScene(str(tree), "training")) == 1).all()


def test_feature_deepscene_missing_files_are_problems(tree):
    (tree / "test/GT_color/b275-311_Clipped.png").unlink()
    dataset = DeepScene(str(tree), "validation")
    assert "1 of 2 images" in dataset.problems[0] and "b275-311" in dataset.problems[0]
    save(tree / "test/GT_color/b9-9_mask.png", colours(0))
    assert "1 of 2 masks" in DeepScene(str(tree), "validation").notes[0]


def test_exception_deepscene_folders(tree):
    save(tree / "test/rgb/b1-09517.jpg", image(0))
    with pytest.raises(DataError, match="share the id b1-09517"):
        DeepScene(str(tree), "validation")
    with pytest.raises(ValueError, match="split: expected one of training, validation, got 'test'"):
        DeepScene(str(tree), "test")
    with pytest.raises(DataError, match=r"expected the folders train and test \(.*: GT_color"):
        DeepScene(str(tree / "train"), "training")
    (tree / "train/GT_color").rename(tree / "train/GT")
    with pytest.raises(DataError, match=r"no such folder.*: GT, rgb"):
        DeepScene(str(tree), "training")


def test_feature_deepscene_parent_folder(tree, tmp_path_factory):
    parent = tmp_path_factory.mktemp("parent")
    (parent / "freiburg_forest_annotated").symlink_to(tree)
    assert len(DeepScene(str(parent), "training")) == 3


def test_feature_deepscene_pytorch_segmentation_config_builds(tree):
    train, val = pytorch_segmentation_loaders("DeepScene", tree, ("training", "validation"))
    (batch,) = list(train.epoch(1))
    assert tuple(batch.labels.shape) == (2, 380, 380)
    assert (val.num_samples, len(val.source.classes)) == (2, 7)
