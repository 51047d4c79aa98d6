"""Tiny networks of transformers as folders; all of this needs the extra hf."""

import json

import pytest
import torch

from hugging import PROCESSOR, VIT, random_network

pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes a folder and gives back its path and the network."""

    def made(kind="vit", settings=VIT, processor=PROCESSOR, **how):
        network = random_network(kind, settings)
        path = tmp_path / kind
        network.save_pretrained(path, **how)
        if processor is not None:
            (path / "preprocessor_config.json").write_text(json.dumps(processor))
        return path, network

    return made


@pytest.fixture
def logits():
    """Return a network's own logits for images in [0, 1], prepared by hand as PROCESSOR says."""

    def asked(network, images):
        mean, std = (torch.tensor(PROCESSOR[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
        with torch.no_grad():
            return network((images - mean) / std).logits

    return asked
