"""Networks with weights as they are published, for the tests of several models."""

import torch
import torchvision
from torch import nn


def stir(network):
    """Give every BatchNorm statistics and factors that a mistake cannot hide behind."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.8, 1.2)
            nn.init.normal_(norm.bias, 0, 0.1)
    return network.eval()


def stirred(name):
    """A network of torchvision."""
    return stir(torchvision.models.get_model(name))


def narrow_vgg(batch_norm=False):
    """A VGG-16 of few channels, under the names of torchvision's."""
    widths = [4, 4, "M", 8, 8, "M", 16, 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, "M"]
    features = torchvision.models.vgg.make_layers(widths, batch_norm)
    layers = [nn.Linear(32 * 7 * 7, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU()]
    classifier = nn.Sequential(*layers, nn.Dropout(), nn.Linear(8, 1000))
    network = nn.ModuleDict({"features": features, "classifier": classifier})
    with torch.device("meta"):
        whole = torchvision.models.get_model("vgg16_bn" if batch_norm else "vgg16")
    assert list(network.state_dict()) == list(whole.state_dict())
    return stir(network)


def saved(weights, folder):
    torch.save(weights, folder / "weights.pth")
    return str(folder / "weights.pth")
