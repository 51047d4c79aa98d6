from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import detrojan
from detrojan.cli.main import main
from detrojan.errors import AnswersOnlyError, ModelError, OptionError
from twins import TARGET
from v2_server import Served, serving


@pytest.fixture(scope="module")
def answer(twins):
    return lambda images: twins.backdoored.probabilities(torch.as_tensor(images))


def test_a_function_is_scanned_and_guarded_as_its_network_is(twins, answer):
    out = detrojan.scan(answer, twins.test, method=detrojan.Attractor(count=70))
    assert out.report.model.parameters == 0
    guards = [
        detrojan.guard(
            model, twins.test.images[:200], method=detrojan.Strip(copies=20), run=detrojan.Run(seed=1)
        )
        for model in (answer, twins.backdoored)
    ]
    scores = [guard.score(twins.test.images[:20]) for guard in guards]
    assert torch.allclose(*scores, atol=1e-4)


def code(words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def test_what_needs_weights_says_so_and_never_in_python_s_words(twins, answer):
    with pytest.raises(AnswersOnlyError, match=r"cascade needs the network's weights.*scan --method peaks"):
        detrojan.scan(answer, twins.test, method="cascade")
    with pytest.raises(AnswersOnlyError, match="finetune needs the network's weights"):
        detrojan.repair(answer, twins.test, findings=[], method="finetune")
    with pytest.raises(AnswersOnlyError, match="expected a network"):
        detrojan.save_model(detrojan.classifier(answer, shape=twins.test.shape), "model.safetensors")
    with pytest.raises(OptionError, match="expected net only beside a file"):
        detrojan.scan(answer, twins.test, net="deepid")
    with pytest.raises(ModelError, match="predict_proba as the model, got int"):
        detrojan.scan(3, twins.test)


def test_a_url_serves_every_verb_that_needs_answers_alone(twins, answer, tmp_path, capsys):
    served = Served(answer, (-1, *twins.test.shape), binary=True)
    images = tmp_path / "test.npz"
    np.savez(images, x=twins.test.images.numpy(), y=twins.test.labels.numpy())
    with serving(served) as url:
        there = ["signs", "--url", url, "--data", str(images)]
        assert code(["evaluate", *there, "--format", "json"]) == 0
        measured = json.loads(capsys.readouterr().out)
        assert measured["clean_accuracy"] == pytest.approx(
            detrojan.clean_accuracy(twins.backdoored, twins.test), abs=0.01
        )
        assert code(["predict", *there, "--samples", "3"]) == 0
        guard, few = str(tmp_path / "guard"), ("--samples", "150")
        assert code(["guard", "calibrate", *there, *few, "--out", guard]) == 0
        assert code(["guard", "check", guard, "--data", str(images), *few, "--url", url]) in {0, 1}
        assert code(["guard", "check", guard, "--data", str(images), *few]) == 4
        assert "expected --url URL of the server that answers as 'signs'" in capsys.readouterr().err
        assert code(["scan", *there, "--method", "cascade"]) == 2
        assert "cascade needs the network's weights or gradients" in capsys.readouterr().err
        assert code(["scan", *there, "--method", "attractor", "--set", "count=70"]) in {0, 1, 3}
    assert code(["predict", "signs", "--url", "ftp://x", "--data", str(images)]) == 2


def test_names_of_classes_are_matched_as_the_command_line_does(twins):
    names = tuple(f"sign {label}" for label in range(twins.backdoored.num_classes))
    data = replace(twins.test, class_names=names)
    out = detrojan.scan(twins.backdoored, data, method=detrojan.Attractor(count=70))
    assert out.report.model.class_names[TARGET] == names[TARGET]
    assert not twins.backdoored.class_names
