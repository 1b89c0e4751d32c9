"""How runs, models and data are called in headings."""

import pytest

import models
from dataloaders.folder import Folder
from utils.runs.headings import data_folder, describe_arch, heading


@pytest.mark.parametrize(
    ("model", "args", "expected"),
    [
        ("PSPNet", {"backbone": "resnet50"}, "PSPNet (resnet50)"),
        ("UperNet", {"backbone": "timm-swin_tiny"}, "UperNet (timm-swin_tiny)"),
        ("DeepLab", {}, "DeepLab (xception)"),  # the default of its signature
        ("DeepLab", None, "DeepLab (xception)"),  # a checkpoint without a config
        ("UNet", {"base_channels": 8}, "UNet"),
        ("UNet", {"backbone": "resnet18"}, "UNet"),  # an argument that the model does not take
        ("SMP", {"encoder_name": "tu-efficientnet_b0"}, "SMP Unet (tu-efficientnet_b0)"),
        ("SMP", {"architecture": "Segformer", "encoder_name": "mit_b2"}, "SMP Segformer (mit_b2)"),
        ("PSPNet", {"backbone": ["no name"]}, "PSPNet"),  # checkpoints of strangers
        ("PSPNet", {"backbone": "a\x1b[31m"}, "PSPNet (a\ufffd[31m)"),
    ],
)
def test_feature_a_model_is_named_with_its_encoder(model, args, expected):
    assert describe_arch(getattr(models, model), args) == expected


def test_smoke_every_model_has_a_name():
    for name in models.__all__:
        text = describe_arch(getattr(models, name), {})
        assert text.startswith(name) and "\n" not in text


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"data_dir": "data/voc", "split": "train"}, "data/voc"),
        ({"data_dir": "data/camvid", "images": "train", "masks": "trainannot"}, "data/camvid"),
        ({"images": "my_data/images", "masks": "my_data/masks"}, "my_data"),
        ({"images": "/d/lists/train.txt", "masks": "/d/lists/train_gt.txt"}, "/d/lists"),
        ({"images": "images", "masks": "masks"}, "images"),  # nothing in common
        ({"images": "/images", "masks": "/masks"}, "/images"),
        ({"images": "/d/images", "masks": "masks"}, "/d/images"),
        ({"images": "photos", "masks": "photos"}, "photos"),
        ({"images": "photos/*_image.png", "masks": "photos/*_mask.png"}, "photos"),
        ({"images": "photos/*.png", "masks": "photos/masks"}, "photos"),
        ({"images": "*.jpg", "masks": "*.png"}, "*.jpg"),
        ({"split": "train", "num_images": 3}, None),  # Shapes
        ({"data_dir": 3}, None),
        (None, None),
    ],
)
def test_feature_the_folder_of_the_data(args, expected):
    assert data_folder(args) == expected


def test_feature_a_heading_names_run_model_and_data():
    full = heading("roads", "PSPNet (resnet50)", Folder.__name__, "my_data")
    assert full == "roads: PSPNet (resnet50) on my_data (Folder)"
    assert heading(None, "UNet", "Shapes", None) == "UNet on Shapes"
    assert heading("a\nb", "UNet", "Shapes", None) == "a\ufffdb: UNet on Shapes"
