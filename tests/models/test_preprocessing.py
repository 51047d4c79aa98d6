from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Framing, Preprocessing, preset


class Seen(nn.Module):
    """Answers the middle pixel that it is fed."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 1, 1] if images.shape[-1] == 3 else images[:, :, 1, 1]


def fed(preprocessing: Preprocessing, *colour: float) -> list[float]:
    """What a network is fed for a colour in [0, 1]."""
    model = Classifier(Seen(), (3, 4, 4), preprocessing=preprocessing)
    return model.logits(torch.tensor(colour)[None, :, None, None].expand(1, 3, 4, 4))[0].tolist()


def test_the_presets_feed_what_their_makers_feed():
    white, black = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    assert fed(preset("unit"), 0.2, 0.4, 0.6) == pytest.approx([0.2, 0.4, 0.6])
    assert fed(preset("bytes"), *white) == pytest.approx([255] * 3)
    assert fed(preset("inception"), *black) == pytest.approx([-1] * 3)
    assert fed(preset("imagenet"), *black) == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)
    assert fed(preset("caffe"), 1.0, 0.0, 0.0) == pytest.approx([-103.939, -116.779, 255 - 123.68], abs=1e-3)
    assert [round(value, 4) for value in preset("mnist").affine(1)[1].flatten().tolist()] == [-0.4242]


def test_a_name_that_no_preset_has_is_refused():
    with pytest.raises(OptionError, match="expected a preprocessing out of unit, bytes, imagenet, "):
        preset("imagnet")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_network_of_bgr_sees_the_colours_the_other_way_round(layout):
    stated = Preprocessing(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0), channels="BGR", layout=layout)
    assert fed(stated, 0.5, 0.6, 0.7) == pytest.approx([0.7 - 0.1, (0.6 - 0.2) / 2, (0.5 - 0.3) / 4])
    assert str(stated).endswith(f"{layout}, BGR")


def test_the_usual_framing_depends_on_the_size():
    assert Framing.usual((32, 32)) == Framing(resize=(32, 32), assumed=True)
    assert Framing.usual((224, 224)) == Framing(resize=256, crop=(224, 224), assumed=True)
    assert Framing.usual((299, 299)).resize == 342
    assert Framing.usual((200, 160)).resize == (200, 160), "a crop would lose more"


def test_a_framing_has_to_give_the_network_s_size():
    assert Framing(resize=256).for_size((224, 224)) == Framing(resize=256, crop=(224, 224))
    fitting = Framing(resize=(32, 32))
    assert fitting.for_size((32, 32)) is fitting
    with pytest.raises(ModelError, match=r"the network's 32x32, got to 30x30, bilinear; .*--resize"):
        Framing(resize=(30, 30)).for_size((32, 32))


@pytest.mark.parametrize(
    "wrong",
    [{"resize": 0}, {"resize": 5000}, {"resize": (4, 4, 4)}, {"resize": 8, "interpolation": "box"}],
    ids=str,
)
def test_a_framing_that_cannot_be_computed_is_refused(wrong):
    with pytest.raises(ModelError, match="expected"):
        Framing(**wrong)
    with pytest.raises(ModelError, match="expected the channels RGB, BGR or grey"):
        Preprocessing(channels="GBR")
