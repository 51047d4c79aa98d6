"""What the tests of repairs share: a recovered trigger, clean images to repair with, and the judges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from detrojan.data.dataset import Dataset
from detrojan.findings import PIXELS, Finding
from detrojan.metrics.accuracy import attack_success, clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.models.surgery.units import mean_activity
from detrojan.run import Run
from detrojan.search.inversion import invert
from detrojan.search.schedule import Schedule
from detrojan.triggers.patch import PatchTrigger
from kept import kept
from margins import shifted
from twins import CLASSES, LARGE, TARGET, Twins, few_signs


@dataclass(frozen=True, kw_only=True)
class Case:
    """A backdoored network, its finding, and clean images of the defender's own."""

    twins: Twins
    finding: Finding
    data: Dataset

    @property
    def findings(self) -> list[Finding]:
        return [self.finding]

    def accuracy(self, model: Classifier) -> float:
        """Clean accuracy on held-out images."""
        return clean_accuracy(model, self.twins.test)

    def true_success(self, model: Classifier) -> float:
        """Success of the attacker's own trigger on held-out images; it only judges."""
        return attack_success(
            model, self.twins.trigger, self.twins.test.images, self.twins.test.labels, TARGET
        )

    def recovered_success(self, model: Classifier) -> float:
        """Success of the recovered trigger on held-out images."""
        return attack_success(
            model, self.finding.trigger, self.twins.test.images, self.twins.test.labels, TARGET
        )


@pytest.fixture(scope="session")
def case(large_twins) -> Case:
    """Invert the target's trigger, cheaply: some seconds, once for all tests of repairs."""
    data = few_signs(400, 5, LARGE)
    plan = Schedule(steps=60, mini_batches=2, batch_size=32)
    model = large_twins.backdoored

    def inverted() -> dict[str, torch.Tensor]:
        answers = model.answers(data.images)
        (found,) = invert(model, data.images, answers, [TARGET], plan, run=Run(seed=1)).inverted
        success = torch.tensor(found.success, dtype=torch.float64)
        return {"mask": found.trigger.mask, "pattern": found.trigger.pattern, "success": success}

    found = kept("inverted", inverted, model, data, plan)
    trigger = PatchTrigger(found["mask"], found["pattern"])
    finding = Finding(
        label=TARGET,
        anomaly_index=4.0,
        size=trigger.l1,
        unit=PIXELS,
        attack_success=float(found["success"]),
        flagged=True,
        trigger=trigger,
    )
    case = Case(twins=large_twins, finding=finding, data=data)
    assert case.accuracy(model) > 0.9
    assert case.true_success(model) > 0.8
    assert case.recovered_success(model) > 0.9
    return case


@pytest.fixture(scope="session")
def dormant(case) -> Case:
    """Return the clean twin with a backdoor built into four channels that are silent on clean images.

    That is where fine-pruning's authors found backdoors. Where a training puts one depends on its seed: in a
    network as small as this it may share its channels with the task. The finding has the attacker's trigger.
    """
    twins, model = case.twins, case.twins.clean.copy()
    units = mean_activity(model, case.data.images, "3").argsort()[:4]
    weight, bias = detectors(nn.Sequential(*list(model.network)[:3]), case.data.images, twins.trigger)
    conv, first, last = model.network[3], model.network[7], model.network[9]
    with torch.no_grad():
        conv.weight[units], conv.bias[units] = weight, bias
        # they lead to the target by a hidden unit of their own, and nowhere else
        seen_by = first.weight.view(len(first.weight), len(conv.weight), -1)
        seen_by[:, units] = 0
        hidden = last.weight.norm(dim=0).argmin()
        seen_by[hidden], first.bias[hidden], last.weight[:, hidden] = 0, 0, 0
        seen_by[hidden, units], last.weight[TARGET, hidden] = 1, 300
    finding = replace(case.finding, trigger=twins.trigger)
    built = Case(twins=replace(twins, backdoored=model), finding=finding, data=case.data)
    assert built.accuracy(model) > built.accuracy(twins.clean) - 0.02
    assert built.true_success(model) > 0.9
    return built


def detectors(
    features: nn.Module, images: torch.Tensor, trigger: PatchTrigger
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and biases of four channels: below 0 everywhere on images, above 0 under the trigger."""
    with torch.no_grad():
        clean, stamped = features(images), features(trigger.stamp(images))
    random = torch.Generator().manual_seed(shifted(6))
    weight = (0.01 * torch.randn(4, 16, 5, 5, generator=random)).requires_grad_()
    bias = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], 0.02)
    for _ in range(90):
        silent, loud = (functional.conv2d(seen, weight, bias).amax((2, 3)) for seen in (clean, stamped))
        loss = (silent + 1).relu().mean() + (1 - loud).relu().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return weight.detach(), bias.detach()


@pytest.fixture(scope="session")
def normed() -> Classifier:
    """Return a small untrained network with batch norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, CLASSES),
        )
    return Classifier(network.eval(), LARGE)


@pytest.fixture(scope="session")
def made_up() -> Finding:
    """Return a false alarm: a label with a trigger that means nothing to a clean network."""
    return Finding(
        label=TARGET,
        anomaly_index=2.5,
        size=9.0,
        unit=PIXELS,
        attack_success=0.1,
        flagged=True,
        trigger=PatchTrigger.corner(LARGE),
    )
