"""Which reader a file gets, and files that no reader gets."""

import hashlib
import zipfile

import pytest
import torch

from detrojan.errors import ModelError, OptionError
from detrojan.models.loading import load_model
from detrojan.models.nets import NETS
from detrojan.models.preprocessing import Preprocessing


@pytest.fixture
def deepid(tmp_path):
    path = tmp_path / "net.pt"
    torch.save(NETS["deepid"].build(4, (3, 55, 47)).state_dict(), path)
    return path


def test_origin_holds_the_digest_and_options_reach_the_model(deepid):
    pre = Preprocessing(high=255.0)
    model = load_model(str(deepid), preprocessing=pre, class_names=("a", "b", "c", "d"))
    assert model.origin.sha256 == hashlib.sha256(deepid.read_bytes()).hexdigest()
    assert model.origin.path == str(deepid)
    assert model.preprocessing == pre
    assert model.class_name(2) == "c"


def test_what_was_read_answers_as_in_use(deepid):
    assert not any(module.training for module in load_model(deepid).network.modules())


def test_contradictions_and_unknown_networks(deepid):
    with pytest.raises(OptionError, match=r"got both: deepid and a:b"):
        load_model(deepid, net="deepid", factory="a:b")
    with pytest.raises(OptionError, match=r"expected a network out of .*got 'alexnet'"):
        load_model(deepid, net="alexnet")


def _zip(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: None, r"expected a model: .*does not exist"),
        (lambda p: p.mkdir(), r"expected a model: .*is a folder that holds nothing"),
        (
            lambda p: (p.mkdir(), _zip(p / "config.json"), _zip(p / "model.weights.h5")),
            r"is a folder that holds config.json, model.weights.h5",
        ),
        (lambda p: p.touch(), r"expected a model: .*is empty"),
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 50), r"begins with b'\\x89PNG.*none of them"),
        (lambda p: p.write_text("hello"), r"begins with b'hello'"),
        (lambda p: _zip(p, "a.txt", "b.txt"), r"is a zip that holds a.txt, b.txt"),
        (lambda p: p.write_bytes(b"PK\x03\x04" + b"0" * 80), r"a zip that is damaged or cut off"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 80), r"damaged or cut off"),
        (lambda p: _zip(p, "config.json", "model.weights.h5"), r"config.json: expected JSON"),
        (lambda p: p.write_bytes((60).to_bytes(8, "little") + b"{" + b"x" * 100), r"damaged or cut off"),
        (
            lambda p: p.write_bytes(b"\x80\x02" + b"zzz"),
            r"got a pickle that would run code|damaged or cut off",
        ),
    ],
)
def test_what_is_no_model(tmp_path, make, text):
    path = tmp_path / "thing.h5"
    make(path)
    with pytest.raises(ModelError, match=text):
        load_model(path)
