"""detrojan: finds, explains, removes and stops backdoors in neural networks.

The public names are imported when they are first used, so that `import detrojan` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("detrojan")

#: where each public name lives
_HOMES = {
    "ABL": "detrojan.trainers.abl",
    "ActivationPruning": "detrojan.repairs.activation_pruning",
    "Adversarial": "detrojan.repairs.adversarial",
    "Aim": "detrojan.triggers.aim",
    "Backdoor": "detrojan.triggers.backdoor",
    "BadNets": "detrojan.attacks.badnets",
    "Classifier": "detrojan.models.classifier",
    "Dataset": "detrojan.data.dataset",
    "DetrojanError": "detrojan.errors",
    "DirectionPruning": "detrojan.repairs.direction_pruning",
    "FinePruning": "detrojan.repairs.fine_pruning",
    "FineTune": "detrojan.repairs.finetune",
    "Finding": "detrojan.findings",
    "MCR": "detrojan.repairs.mcr",
    "NAD": "detrojan.repairs.nad",
    "NeuralCleanse": "detrojan.scans.neural_cleanse",
    "PatchTrigger": "detrojan.triggers.patch",
    "Preprocessing": "detrojan.models.classifier",
    "Prune": "detrojan.repairs.prune",
    "Run": "detrojan.run",
    "ScanResult": "detrojan.findings",
    "Strip": "detrojan.guards.strip",
    "Trigger": "detrojan.triggers.base",
    "Unlearn": "detrojan.repairs.unlearn",
    "attack_success": "detrojan.metrics.accuracy",
    "clean_accuracy": "detrojan.metrics.accuracy",
    "load_model": "detrojan.models.loading",
    "n_plus_one": "detrojan.models.surgery.n_plus_one",
    "read_data": "detrojan.data.reading",
    "save_model": "detrojan.models.writing",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are the table's


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'detrojan' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
