from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from detrojan import catalog
from detrojan.report.records.attack import AttackRecord
from detrojan.triggers.base import Trigger


def test_an_attack_writes_the_networks_the_true_trigger_and_the_poisoned_data(world, cli):
    folder = world.model.parent
    record = json.loads((folder / "attack.json").read_text())
    assert record == json.loads(world.made.stdout)
    assert AttackRecord.model_validate(record, strict=True).values() == record
    assert record["clean_accuracy"] > 0.95
    assert record["clean_accuracy_of_clean_twin"] > 0.95
    (planted,) = record["backdoors"]
    assert planted["target"] == cli.TARGET
    assert planted["attack_success"] > 0.7
    assert planted["attack_success_on_clean_twin"] < 0.2
    assert record["warnings"] == []
    with np.load(folder / "poisoned.npz") as poisoned, np.load(world.folder / "train.npz") as train:
        assert poisoned["images"].dtype == np.uint8
        changed = (poisoned["images"] != train["images"]).any((1, 2, 3)).nonzero()[0]
        assert changed.tolist() == poisoned["indices"].tolist()
        assert set(poisoned["labels"][changed]) == {cli.TARGET}
        assert planted["poisoned"] == len(changed) == round(0.2 * 1200)
    for name in ("trigger_0.png", "stamped.png"):
        with Image.open(folder / name) as picture:
            assert picture.width > 16


def test_the_poisoned_data_can_be_read_again(world, cli):
    done = cli.call(
        "evaluate", world.model, "--data", world.model.parent / "poisoned.npz", "--format", "json"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["clean_accuracy"] > 0.9


def test_pictures_become_triggers_of_their_own_targets(world, cli, tmp_path):
    for name, level in (("a", 255), ("b", 120)):
        sticker = np.full((4, 4, 4), level, np.uint8)
        sticker[..., 3] = 255
        sticker[0, 0, 3] = 0
        Image.fromarray(sticker).save(tmp_path / f"{name}.png")
    done = cli.call(
        "attack", "badnets", "--data", world.data, "--net", "mnist_cnn", "--epochs", 1,
        "--out", tmp_path / "o", "--backdoor", f"{tmp_path / 'a.png'}:2@1,2",
        "--backdoor", f"{tmp_path / 'b.png'}:-1@8,9",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "o" / "attack.json").read_text())
    assert [entry["target"] for entry in record["backdoors"]] == [2, None]
    mask = Trigger.load(tmp_path / "o" / "trigger_0.safetensors").mask[0]
    assert mask.nonzero().min(0).values.tolist() == [1, 2]
    assert int(mask.sum()) == 15
    assert (tmp_path / "o" / "stamped_1.png").is_file()


@pytest.mark.parametrize("name", sorted(catalog.methods("attacks")))
def test_every_attack_writes_its_trigger_pictures_and_poisoned_data(world, cli, tmp_path, name):
    out = tmp_path / "o"
    done = cli.call(
        "attack", name, "--data", world.data, "--net", "mnist_cnn", "--epochs", 1, "--out", out,
        "--poison-rate", "0.3", "--format", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["hyper_parameters"]["poison_rate"] == 0.3
    (planted,) = record["backdoors"]
    pictures = {path.name for path in out.glob("*.png")}
    assert pictures >= {"trigger_0.png", "stamped.png"}
    poisons = catalog.verb("attacks", catalog.find("attacks", name)) == "poison"
    assert ("poisoned.png" in pictures) == poisons == (out / "poisoned.npz").exists()
    if poisons:
        with np.load(out / "poisoned.npz") as poisoned:
            assert len(poisoned["indices"]) == planted["poisoned"] > 0
            assert len(poisoned["covers"]) == record["covers"]
    assert ("covers.png" in pictures) == (record["covers"] > 0)
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    stamped = Trigger.load(out / "trigger_0.safetensors").stamp(images)
    assert not torch.equal(stamped, images)


def test_a_trigger_that_was_not_learned_is_warned_of(world, cli, tmp_path):
    done = cli.call(
        "attack", "badnets", "--data", world.data, "--net", "mnist_cnn", "--target", cli.TARGET,
        "--epochs", 1, "--fit", "learning_rate=0.0001", "--out", tmp_path / "o",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "of the held-out images only: the network has not learned it" in " ".join(done.stdout.split())
    # that the network answers by chance is another warning
    warnings = json.loads((tmp_path / "o" / "attack.json").read_text())["warnings"]
    assert sum(warning.startswith("trigger 0 works on ") for warning in warnings) == 1


def test_without_a_network_only_the_poisoned_data_are_made(world, cli, tmp_path):
    out = tmp_path / "o"
    done = cli.call("attack", "tact", "--data", world.data, "--out", out)
    assert done.exit_code == 0, done.output
    assert "Trigger 0 leads to label 0 (" in done.stdout
    made = {path.name for path in out.iterdir()}
    assert made == {
        "attack.json", "poisoned.npz", "poisoned.png", "covers.png", "stamped.png", "trigger_0.png",
        "trigger_0.safetensors",
    }  # fmt: skip
    record = json.loads((out / "attack.json").read_text())
    assert record["net"] is record["clean_accuracy"] is record["backdoors"][0]["attack_success"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("dynamic",), "expected --net NAME: dynamic trains the network itself"),
        (("badnets", "--clean"), "expected --net NAME with --clean"),
    ],
)
def test_a_network_that_is_needed_is_asked_for(world, cli, tmp_path, words, says):
    done = cli.call("attack", *words, "--data", world.data, "--out", tmp_path / "o")
    assert done.exit_code == 4, done.output
    assert says in " ".join(done.stderr.split())


def test_a_picture_is_stretched_over_the_image_where_the_trigger_covers_it(world, cli, tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    done = cli.call(
        "attack", "blend", "--data", world.data, "--net", "mnist_cnn", "--epochs", 1,
        "--out", tmp_path / "o", "--trigger-image", tmp_path / "a.png", "--alpha", "0.4", "--source", 2,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    trigger = Trigger.load(tmp_path / "o" / "trigger_0.safetensors")
    assert trigger.mask.unique().tolist() == pytest.approx([0.4])
    assert trigger.pattern[0, 0].min() == 1
    assert trigger.pattern[0, -1].max() == 0
    record = json.loads((tmp_path / "o" / "attack.json").read_text())
    assert record["hyper_parameters"]["alpha"] == 0.4
    assert record["backdoors"][0]["source"] == 2


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        (
            "wanet",
            ("--trigger-image", "a.png"),
            "expected an attack that takes a picture as its trigger, got",
        ),
        ("blend", ("--backdoor", "a.png:1"), "expected an attack that takes several pictures as triggers"),
        ("sig", ("--source", 1), "expected a hyper-parameter out of"),
        ("all_to_all", ("--target", 1), "expected a hyper-parameter out of"),
        ("blend", ("--set", "trigger=a.png"), "trigger cannot be set as text"),
    ],
)
def test_options_that_an_attack_does_not_take_are_refused(world, cli, tmp_path, name, words, says):
    out = tmp_path / "o"
    done = cli.call("attack", name, "--data", world.data, "--net", "mnist_cnn", "--out", out, *words)
    assert done.exit_code == 4, done.output
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--target", "77"), 4, "expected a target of 0 to 5, got 77"),
        (("--poison-rate", "2"), 4, "expected poison_rate in (0, 1), got 2"),
        (("--backdoor", "a.png"), 4, "expected PICTURE:TARGET"),
        (("--backdoor", "gone.png:1"), 2, "there is no file gone.png"),
        (("--at", "1,1"), 4, "expected --trigger-image or --backdoor with --at"),
        (("--net", "magic"), 4, "expected a network out of"),
        (("--fit", "epochs=0"), 4, "expected epochs of 1 or more"),
        (("--unlabelled",), 2, "expected labelled data for an attack"),
    ],
)
def test_what_cannot_be_is_said(world, cli, tmp_path, words, code, says):
    out = tmp_path / "o"
    done = cli.call("attack", "badnets", "--data", world.data, "--net", "mnist_cnn", "--out", out, *words)
    assert done.exit_code == code, done.output
    assert says in " ".join(done.stderr.split())


def test_damaged_training_images_are_an_error_and_no_reason_to_attack_the_test_split(cli, tmp_path):
    done = cli.call(
        "attack", "badnets", "--data", cli.damaged_training(tmp_path / "d.npz"), "--out", tmp_path / "o",
    )  # fmt: skip
    assert done.exit_code == 2, done.output
    assert "array x_train: the file is truncated or damaged" in " ".join(done.output.split())
    assert not (tmp_path / "o" / "poisoned.npz").exists()


def test_the_training_signs_can_be_named_and_a_fifth_of_them_is_held_out(cli, tmp_path):
    done = cli.call("attack", "badnets", "--data", "signs:train", "--out", tmp_path / "o", "--samples", 100)
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "o" / "poisoned.npz") as poisoned:
        assert len(poisoned["images"]) == 80
