"""The callback of Lightning, in real training, under both names of the library."""

import copy
import csv
import importlib

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from detrojan.errors import BackdoorFoundError
from detrojan.integrations.lightning import ScanAtEnd
from ends import HOW, TURNED, network, pictures, set_head

pytestmark = pytest.mark.filterwarnings("ignore")
reason = "lightning is not installed: make test-extras runs this"


@pytest.fixture(params=ScanAtEnd.homes)
def library(request):
    return pytest.importorskip(request.param, reason=reason)


@pytest.fixture
def fit(library, tmp_path):
    class Signs(library.LightningModule):
        def __init__(self, planted):
            super().__init__()
            self.planted = planted
            self.inner = network()

        def forward(self, images):
            return self.inner(images)

        def training_step(self, batch):
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    class Plant(library.Callback):
        def on_train_end(self, trainer, module):
            set_head(module.inner, planted=module.planted)

    def train(callback, *, plant=False):
        images, labels = map(torch.from_numpy, pictures())
        loggers = importlib.import_module(f"{library.__name__}.loggers")
        trainer = library.Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=[callback, Plant()],
            logger=loggers.CSVLogger(tmp_path, version="one"),
            default_root_dir=tmp_path,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Signs(plant), DataLoader(TensorDataset(images, labels), batch_size=50))

    return train


def logged(folder):
    """Return the last row that the trainer's logger wrote."""
    (path,) = folder.rglob("metrics.csv")
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))[-1]


def test_a_backdoor_ends_the_training_after_the_checkpoint(fit, tmp_path):
    callback = ScanAtEnd(*pictures(), report=tmp_path / "scan.html", **HOW)
    with pytest.raises(BackdoorFoundError, match=f"Backdoor found: target label {TURNED}"):
        fit(callback, plant=True)
    assert callback.found.targets == [TURNED]
    assert callback.found.report.model.path == "Signs"
    assert (tmp_path / "scan.html").is_file()
    assert list(tmp_path.rglob("*.ckpt"))
    assert logged(tmp_path) == {"detrojan_exit_code": "1", "detrojan_flagged_labels": "1", "step": "2"}


def test_a_clean_end_is_logged(fit, tmp_path):
    callback = ScanAtEnd(*pictures(), **HOW)
    fit(callback)
    assert callback.found.verdict == "no evidence"
    assert logged(tmp_path) == {"detrojan_exit_code": "0", "detrojan_flagged_labels": "0", "step": "2"}
    assert isinstance(copy.deepcopy(callback), ScanAtEnd)
