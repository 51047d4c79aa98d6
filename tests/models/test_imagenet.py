"""The order of ImageNet's classes; that of timm itself is asked in tests/extras."""

from __future__ import annotations

import pytest

from detrojan.errors import MissingExtraError
from detrojan.models import imagenet
from detrojan.models.imagenet import synsets


class _Data:
    """What `timm.data` has of it, for 1000 made-up classes."""

    class ImageNetInfo:
        def __init__(self, subset):
            assert subset == "imagenet-1k"

        def label_names(self):
            return [f"n{number:08}" for number in range(1000)]

        def index_to_description(self, label):
            return f"beast {label}, Bestia {label}"

    @staticmethod
    def infer_imagenet_subset(config):
        return "imagenet-1k" if config["num_classes"] == 1000 else None


@pytest.fixture
def _timm(monkeypatch):
    monkeypatch.setattr(imagenet, "imported", lambda module: _Data)


@pytest.mark.usefixtures("_timm")
def test_the_ids_stand_in_the_order_of_the_labels():
    assert synsets(1000)[7] == "n00000007"
    assert synsets(1001)[:2] == ("", "n00000000")
    assert synsets(10) == synsets(1234) == ()


@pytest.mark.usefixtures("_timm")
def test_names_have_to_agree_with_the_order():
    names = [f"Beast_{label}" for label in range(1000)]
    assert len(synsets(1000, names)) == 1000
    assert len(synsets(1001, ["background", *names])) == 1001
    assert synsets(1000, names[::-1]) == ()
    assert synsets(1000, ["cow"] * 1000) == ()


def test_nothing_is_known_without_timm(monkeypatch):
    def missing(module):
        raise MissingExtraError("timm", "timm", "networks of timm")

    monkeypatch.setattr(imagenet, "imported", missing)
    assert synsets(1000) == ()
