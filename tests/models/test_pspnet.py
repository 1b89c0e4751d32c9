"""What is PSPNet's own."""

import pytest
import torch
from torch import Tensor

import models
from models.resnet import RESNETS
from tests.slow import mark_slow

K = 3


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def build(**args):
    return models.PSPNet(K, **{"backbone": "resnet18", "pretrained": False, **args})


def test_exception_pspnet_backbone():
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        build(backbone="resnet5")


@pytest.mark.parametrize("backbone", mark_slow(RESNETS))
def test_smoke_pspnet_backbones(backbone):
    model = build(backbone=backbone)
    with torch.no_grad():
        logits, auxiliary_logits = model.train()(torch.randn(2, 3, 33, 40))
    assert logits.shape == auxiliary_logits.shape == (2, K, 33, 40)


def test_feature_pspnet_without_auxiliary_head():
    model = build(use_aux=False).train()
    assert isinstance(model(torch.randn(2, 3, 32, 32)), Tensor)
    assert not any(p.requires_grad for p in model.auxiliary_branch.parameters())
    build().load_state_dict(model.state_dict())


def test_feature_pspnet_parameter_order():
    """Source: the order in which older optimizer states hold the two groups."""
    model = build()
    name_of = {id(parameter): key.split(".")[0] for key, parameter in model.named_parameters()}
    decoder = dict.fromkeys(name_of[id(p)] for p in model.get_decoder_params())
    backbone = dict.fromkeys(name_of[id(p)] for p in model.get_backbone_params())
    assert list(decoder) == ["master_branch", "auxiliary_branch"]
    assert list(backbone) == ["initial", "layer1", "layer2", "layer3", "layer4"]


def test_exception_batch_of_one():
    with pytest.raises(ValueError, match="one value per channel"):
        build().train()(torch.randn(1, 3, 64, 64))
