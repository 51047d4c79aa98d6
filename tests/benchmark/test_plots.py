import io

import numpy as np
import pytest
from PIL import Image

from detrojan.benchmark.plots import losses_picture, picture, pruning_picture
from detrojan.errors import DataError, OptionError


def row(attack="plain", defence="pruning", data="signs", **more):
    curve = {
        "units pruned": [0.0, 8.0, 16.0],
        "clean accuracy": [0.98, 0.97, 0.1],
        "attack success": [1.0, 0.1, 0.0],
    }
    judged = {"layer": "conv3", "chosen": 8, "curve": {**curve, **more}}
    return {
        "attack": attack,
        "defence": defence,
        "data": data,
        "network": "cnn",
        "seed": 0,
        "about": {"data": "nine signs", "network": "sign CNN"},
        "details": {"judged": judged},
    }


def coloured(picture: bytes, colour: tuple[int, int, int]) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    return int((pixels == colour).all(-1).sum())


def test_each_attack_has_its_own_colour_and_the_same_rows_give_the_same_picture():
    blue, orange = (0, 114, 178), (213, 94, 0)
    one = pruning_picture([row()], "pruning")
    two = pruning_picture([row(), row("aware", **{"attack success": [1.0, 1.0, 0.1]})], "pruning")
    assert coloured(one, blue) > 100
    assert coloured(one, orange) == 0
    assert coloured(two, orange) > 100
    assert one == pruning_picture([row(), row(defence="none") | {"details": {}}], "pruning")


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(OptionError, match=r"with a pruning curve out of pruning, got 'finetune'"):
        pruning_picture([row()], "finetune")
    with pytest.raises(OptionError, match=r"out of \(none\), got 'pruning'"):
        pruning_picture([], "pruning")
    with pytest.raises(OptionError, match="of one data set and network, got faces, cnn; signs, cnn"):
        pruning_picture([row(), row(data="faces")], "pruning")
    with pytest.raises(DataError, match="of one length in the curve of plain"):
        pruning_picture([row(**{"attack success": [1.0]})], "pruning")
    with pytest.raises(DataError, match="of one length in the curve of plain"):
        pruning_picture([row(**{"units pruned": "abc"})], "pruning")


def trained(attack="badnets", **more):
    first = {"clean loss": [2.0, 1.5], "poisoned loss": [1.0, 0.0], "epoch": [1.0, 2.0]}
    second = {"clean loss": [0.5], "poisoned loss": [4.0], "epoch": [1.0]}
    steps = [{"curves": first | more}, {"curves": second}]
    return row(attack, "abl") | {"details": {"steps": steps}}


def test_a_trainer_s_losses_have_a_panel_for_each_attack():
    blue, orange = (0, 114, 178), (213, 94, 0)
    one, two = picture([trained(), row()], "abl"), picture([trained(), trained("sig")], "abl")
    assert coloured(one, blue) > 20
    assert coloured(one, orange) > 20
    assert coloured(two, orange) > coloured(one, orange)
    assert one == losses_picture([trained()], "abl")
    assert picture([row(), trained()], "pruning") == pruning_picture([row()], "pruning")


def test_a_defence_without_a_curve_is_told_which_have_one():
    with pytest.raises(OptionError, match="with a curve to draw out of abl, pruning, got 'nad'"):
        picture([trained(), row()], "nad")
    with pytest.raises(OptionError, match=r"out of \(none\), got 'nad'"):
        picture([], "nad")


def test_losses_that_do_not_fit_are_told():
    for wrong in ([1.0], ["x", "y"], None):
        with pytest.raises(DataError, match="expected losses of clean and of poisoned samples of badnets"):
            picture([trained(**{"clean loss": wrong})], "abl")
