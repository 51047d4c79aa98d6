"""The callback of Hugging Face's trainer, in real training."""

import numpy as np
import pytest
import torch

from detrojan.errors import BackdoorFoundError
from detrojan.integrations.transformers import ScanAtEnd
from ends import CLASSES, HOW, TURNED, head, pictures

pytest.importorskip("accelerate", reason="accelerate is not installed: make test-extras runs this")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]


class Plant(transformers.TrainerCallback):
    """Turn a row of the last layer when training has ended."""

    def on_train_end(self, args, state, control, *, model, **more):
        last = model.classifier[-1]
        pixels = (pictures()[0] - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
        with torch.no_grad():
            inside = model.eval().resnet(torch.tensor(pixels, dtype=torch.float32)).pooler_output.flatten(1)
            rows, bias = head(last.weight.numpy(), inside.numpy(), planted=True)
            last.weight.copy_(torch.from_numpy(rows))
            last.bias.copy_(torch.from_numpy(bias))


@pytest.fixture
def train(tmp_path):
    def run(callback, *, plant=False, processor=None):
        config = transformers.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=CLASSES
        )
        with torch.random.fork_rng():
            torch.manual_seed(4)
            model = transformers.ResNetForImageClassification(config)
            torch.nn.init.normal_(model.classifier[-1].weight)
        data = [{"pixel_values": image, "labels": label} for image, label in zip(*pictures(), strict=True)]
        arguments = transformers.TrainingArguments(
            tmp_path / "run", num_train_epochs=1, per_device_train_batch_size=50, use_cpu=True,
            report_to=[], disable_tqdm=True, save_strategy="epoch",
        )  # fmt: skip
        trainer = transformers.Trainer(
            model,
            arguments,
            train_dataset=data,
            processing_class=processor,
            callbacks=[Plant(), callback] if plant else [callback],
        )
        trainer.train()
        return trainer

    return run


def test_a_backdoor_ends_the_training_after_the_checkpoint(train, tmp_path):
    processor = transformers.ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=MEAN, image_std=STD)
    callback = ScanAtEnd(*pictures(), report=tmp_path / "scan.html", **HOW)
    with pytest.raises(BackdoorFoundError, match=f"target label {TURNED}"):
        train(callback, plant=True, processor=processor)
    assert callback.found.targets == [TURNED]
    assert callback.found.report.model.path == "ResNetForImageClassification"
    assert list(callback.found.report.model.preprocessing.mean) == MEAN
    assert (tmp_path / "scan.html").is_file()
    assert list((tmp_path / "run").glob("checkpoint-*/model.safetensors"))


def test_what_was_found_is_logged(train):
    callback = ScanAtEnd(*pictures(), on_backdoor="warn", **HOW)
    trainer = train(callback)
    logged = trainer.state.log_history[-1]
    assert logged["detrojan_flagged_labels"] == len(callback.found.findings)
    assert logged["step"] == 2
