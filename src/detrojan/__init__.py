"""detrojan: finds, explains, removes and stops backdoors in neural networks.

The public names are imported when they are first used, so that `import detrojan` stays cheap. Type
checkers read `__init__.pyi`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("detrojan")

#: where each public name lives: modules of this package, and their names
_HOMES = {
    "attacks.adaptive_blend": "AdaptiveBlend",
    "attacks.all_to_all": "AllToAll",
    "attacks.badnets": "BadNets",
    "attacks.base": "Attack Planted Poisoned PoisoningAttack TrainingAttack",
    "attacks.blend": "Blend",
    "attacks.bpp": "Bpp",
    "attacks.composite": "Composite",
    "attacks.detector_aware": "DetectorAware",
    "attacks.dfst": "DFST",
    "attacks.dynamic": "Dynamic",
    "attacks.feature_collision": "FeatureCollision",
    "attacks.issba": "ISSBA",
    "attacks.label_consistent": "LabelConsistent",
    "attacks.latent": "Latent",
    "attacks.low_frequency": "LowFrequency",
    "attacks.pruning_aware": "PruningAware",
    "attacks.sig": "SIG",
    "attacks.tact": "TaCT",
    "attacks.trojan": "Trojan",
    "attacks.wanet": "WaNet",
    "calls.art": "from_art to_art",
    "calls.given": "classifier",
    "calls.images": "dataset",
    "calls.results": "RepairOutcome ScanOutcome",
    "calls.verbs": "guard repair scan",
    "data.dataset": "Dataset",
    "data.drawn.signs": "draw_signs",
    "data.reading": "read_data",
    "errors": (
        "AnswersOnlyError BackdoorFoundError DataError DetrojanError EndpointError InputError "
        "InterruptedRunError LabelError MissingExtraError ModelError NonFiniteError OptionError RangeError "
        "RefusedError UnsafeFileError WeightsError"
    ),
    "filters.activation_clustering": "ActivationClustering",
    "filters.base": "Filter Suspects",
    "filters.spectral": "Spectral",
    "findings": "Criterion Finding RepairStep ScanResult Unit",
    "guards.base": "Calibrated Guard",
    "guards.bundle": "load_bundle load_guard save_bundle save_guard",
    "guards.sequential_strip": "SequentialStrip",
    "guards.auto": "Auto",
    "guards.badexpert": "BadExpert",
    "guards.consistency": "Consistency",
    "guards.ibd_psc": "IbdPsc",
    "guards.mahalanobis": "Mahalanobis",
    "guards.strip": "Strip",
    "guards.ted": "Ted",
    "learning.fitting": "Fitting fit",
    "learning.fresh": "start_net train_net",
    "machine": "tune",
    "method": "Method",
    "metrics.accuracy": "agreement attack_success clean_accuracy",
    "metrics.detection": "Detection auroc detection",
    "models.blackbox": "BlackBox",
    "models.classifier": "Classifier",
    "models.endpoint": "open_endpoint",
    "models.preprocessing": "Framing Preprocessing",
    "models.loading": "load_model",
    "models.nets": "find_net",
    "models.surgery.n_plus_one": "n_plus_one",
    "models.writing": "save_model",
    "repairs.activation_pruning": "ActivationPruning",
    "repairs.adversarial": "Adversarial",
    "repairs.base": "Repair Repaired",
    "repairs.direction_pruning": "DirectionPruning",
    "repairs.fine_pruning": "FinePruning",
    "repairs.finetune": "FineTune",
    "repairs.mcr": "MCR",
    "repairs.nad": "NAD",
    "repairs.prune": "Prune",
    "repairs.unlearn": "Unlearn",
    "report.html_page": "render_html",
    "report.pictures": "pictures_of",
    "report.reading": "load_report",
    "report.report": "evaluate_report repair_report scan_report",
    "report.schema": "EvaluateReport RepairReport ScanReport",
    "report.text": "report_text",
    "run": "Progress Run",
    "runner.processes": "Processes",
    "scans.attractor": "Attractor",
    "scans.base": "Scan",
    "scans.cascade": "Cascade",
    "scans.k_arm": "KArm",
    "scans.head_rows": "HeadRows",
    "scans.latent_margin": "LatentMargin",
    "scans.mm_bd": "MMBD",
    "scans.neural_cleanse": "NeuralCleanse",
    "scans.peaks": "Peaks",
    "scans.pixel": "Pixel",
    "scans.reference_network": "ReferenceNetwork",
    "trainers.abl": "ABL",
    "trainers.base": "Trained Trainer",
    "trainers.plain": "Plain",
    "triggers.additive": "AdditiveTrigger",
    "triggers.aim": "Aim",
    "triggers.backdoor": "Backdoor",
    "triggers.base": "Trigger",
    "triggers.blend": "BlendTrigger",
    "triggers.composite": "CompositeTrigger",
    "triggers.filtered": "FilterTrigger",
    "triggers.input_aware": "InputAwareTrigger",
    "triggers.low_frequency": "LowFrequencyTrigger",
    "triggers.patch": "PatchTrigger",
    "triggers.pieces": "PiecesTrigger",
    "triggers.quantise": "QuantiseTrigger",
    "triggers.redrawn": "RedrawnTrigger",
    "triggers.sample_specific": "SampleSpecificTrigger",
    "triggers.sinusoid": "SinusoidTrigger",
    "triggers.style": "StyleTrigger",
    "triggers.warp": "WarpTrigger",
}
_NAMES = {name: f"detrojan.{home}" for home, names in _HOMES.items() for name in names.split()}

__all__ = ["__version__", *_NAMES]  # noqa: PLE0604 - the names are the table's


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _NAMES:
        raise AttributeError(f"module 'detrojan' has no attribute {name!r}")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
