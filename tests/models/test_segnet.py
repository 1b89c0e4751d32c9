"""What is SegNet's own."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from tests.models.test_models import K
from tests.models.test_models import build as build_case
from tests.models.weights import narrow_vgg, saved

build = functools.partial(build_case, "SegNet")


def test_feature_segnet_pretrained(tmp_path, caplog):
    """Source: torchvision's network."""
    theirs = narrow_vgg(batch_norm=True)
    model = build(pretrained=saved(theirs.state_dict(), tmp_path)).eval()
    assert not caplog.records
    features = images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for stage in model.backbone_modules():
            features = F.max_pool2d(stage(features), 2)
        torch.testing.assert_close(features, theirs.features(images))


def test_feature_segnet_decoder_mirrors_encoder():
    """Source: the paper, section 3. Each encoder layer has a decoder layer: 13 and 13."""
    model = build()
    encoder, decoder = (
        [m.weight.shape[:2] for stage in stages for m in stage if isinstance(m, nn.Conv2d)]
        for stages in (model.backbone_modules(), model.decoder_modules())
    )
    assert len(encoder) == 13
    # From back to front with input and output exchanged, but for the image.
    mirrored = [torch.Size((before, after)) for after, before in reversed(encoder)]
    assert decoder == [*mirrored[:-1], (4, 4), (K, 4)]


def test_feature_segnet_uses_positions():
    """Source: the paper, figure 3. A maximum comes back where it was, not where its cell begins."""
    model = build().eval()
    for stage in (*model.backbone_modules(), *model.decoder_modules()):
        for module in stage:
            if isinstance(module, nn.Conv2d):  # each convolution passes its first channel on
                nn.init.zeros_(module.weight)
                module.weight.data[0, 0, 1, 1] = 1
    images = torch.zeros(1, 3, 67, 70)
    images[0, 0, 13, 45] = images[0, 0, 66, 69] = 1  # the second where sizes are rounded up
    with torch.no_grad():
        logits = model(images)
    assert logits[0, 0].nonzero().tolist() == [[13, 45], [66, 69]]
