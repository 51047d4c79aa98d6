"""A file whose channels come last: to say so is right, and turns nothing twice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.jobs.inputs import load_model_at
from detrojan.jobs.sources import ModelSource
from detrojan.models.loading import load_model
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run

pytest.importorskip("onnx")


class Last(nn.Module):
    """Takes images (N, H, W, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.maps(images.permute(0, 3, 1, 2))).mean((2, 3)))


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_with_channels_last_answers_alike_whether_that_is_said_or_not(tmp_path):
    torch.manual_seed(0)
    network, path = Last().eval(), tmp_path / "last.onnx"
    torch.onnx.export(network, (torch.rand(1, 12, 10, 3),), path, dynamo=False)
    images = torch.rand(4, 3, 12, 10)
    with torch.no_grad():
        right = network(images.permute(0, 2, 3, 1))
    said = load_model(path, preprocessing=Preprocessing(layout="NHWC"))
    stated = load_model_at(path, ModelSource(model=path, layout="NHWC"), Run(device="cpu"))
    for model in (load_model(path), said, stated):
        assert model.input_shape == (3, 12, 10)
        assert torch.allclose(model.logits(images), right, atol=1e-5)
