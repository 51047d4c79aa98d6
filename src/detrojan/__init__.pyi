# What type checkers see of the package: `__init__.py` imports the same names when they are first used.
from detrojan.attacks.adaptive_blend import AdaptiveBlend as AdaptiveBlend
from detrojan.attacks.all_to_all import AllToAll as AllToAll
from detrojan.attacks.badnets import BadNets as BadNets
from detrojan.attacks.base import (
    Attack as Attack,
    Planted as Planted,
    Poisoned as Poisoned,
    PoisoningAttack as PoisoningAttack,
    TrainingAttack as TrainingAttack,
)
from detrojan.attacks.blend import Blend as Blend
from detrojan.attacks.bpp import Bpp as Bpp
from detrojan.attacks.composite import Composite as Composite
from detrojan.attacks.detector_aware import DetectorAware as DetectorAware
from detrojan.attacks.dfst import DFST as DFST
from detrojan.attacks.dynamic import Dynamic as Dynamic
from detrojan.attacks.feature_collision import FeatureCollision as FeatureCollision
from detrojan.attacks.issba import ISSBA as ISSBA
from detrojan.attacks.label_consistent import LabelConsistent as LabelConsistent
from detrojan.attacks.latent import Latent as Latent
from detrojan.attacks.low_frequency import LowFrequency as LowFrequency
from detrojan.attacks.pruning_aware import PruningAware as PruningAware
from detrojan.attacks.sig import SIG as SIG
from detrojan.attacks.tact import TaCT as TaCT
from detrojan.attacks.trojan import Trojan as Trojan
from detrojan.attacks.wanet import WaNet as WaNet
from detrojan.calls.art import from_art as from_art, to_art as to_art
from detrojan.calls.given import classifier as classifier
from detrojan.calls.images import dataset as dataset
from detrojan.calls.results import RepairOutcome as RepairOutcome, ScanOutcome as ScanOutcome
from detrojan.calls.verbs import guard as guard, repair as repair, scan as scan
from detrojan.data.dataset import Dataset as Dataset
from detrojan.data.drawn.signs import draw_signs as draw_signs
from detrojan.data.reading import read_data as read_data
from detrojan.errors import (
    AnswersOnlyError as AnswersOnlyError,
    BackdoorFoundError as BackdoorFoundError,
    DataError as DataError,
    DetrojanError as DetrojanError,
    EndpointError as EndpointError,
    InputError as InputError,
    InterruptedRunError as InterruptedRunError,
    LabelError as LabelError,
    MissingExtraError as MissingExtraError,
    ModelError as ModelError,
    NonFiniteError as NonFiniteError,
    OptionError as OptionError,
    RangeError as RangeError,
    RefusedError as RefusedError,
    UnsafeFileError as UnsafeFileError,
    WeightsError as WeightsError,
)
from detrojan.filters.activation_clustering import ActivationClustering as ActivationClustering
from detrojan.filters.base import Filter as Filter, Suspects as Suspects
from detrojan.filters.spectral import Spectral as Spectral
from detrojan.findings import (
    Criterion as Criterion,
    Finding as Finding,
    RepairStep as RepairStep,
    ScanResult as ScanResult,
    Unit as Unit,
)
from detrojan.guards.auto import Auto as Auto
from detrojan.guards.badexpert import BadExpert as BadExpert
from detrojan.guards.base import Calibrated as Calibrated, Guard as Guard
from detrojan.guards.bundle import (
    load_bundle as load_bundle,
    load_guard as load_guard,
    save_bundle as save_bundle,
    save_guard as save_guard,
)
from detrojan.guards.consistency import Consistency as Consistency
from detrojan.guards.ibd_psc import IbdPsc as IbdPsc
from detrojan.guards.mahalanobis import Mahalanobis as Mahalanobis
from detrojan.guards.sequential_strip import SequentialStrip as SequentialStrip
from detrojan.guards.strip import Strip as Strip
from detrojan.guards.ted import Ted as Ted
from detrojan.learning.fitting import Fitting as Fitting, fit as fit
from detrojan.learning.fresh import start_net as start_net, train_net as train_net
from detrojan.machine import tune as tune
from detrojan.method import Method as Method
from detrojan.metrics.accuracy import (
    agreement as agreement,
    attack_success as attack_success,
    clean_accuracy as clean_accuracy,
)
from detrojan.metrics.detection import Detection as Detection, auroc as auroc, detection as detection
from detrojan.models.blackbox import BlackBox as BlackBox
from detrojan.models.classifier import Classifier as Classifier
from detrojan.models.endpoint import open_endpoint as open_endpoint
from detrojan.models.loading import load_model as load_model
from detrojan.models.nets import find_net as find_net
from detrojan.models.preprocessing import Framing as Framing, Preprocessing as Preprocessing
from detrojan.models.surgery.n_plus_one import n_plus_one as n_plus_one
from detrojan.models.writing import save_model as save_model
from detrojan.repairs.activation_pruning import ActivationPruning as ActivationPruning
from detrojan.repairs.adversarial import Adversarial as Adversarial
from detrojan.repairs.base import Repair as Repair, Repaired as Repaired
from detrojan.repairs.direction_pruning import DirectionPruning as DirectionPruning
from detrojan.repairs.fine_pruning import FinePruning as FinePruning
from detrojan.repairs.finetune import FineTune as FineTune
from detrojan.repairs.mcr import MCR as MCR
from detrojan.repairs.nad import NAD as NAD
from detrojan.repairs.prune import Prune as Prune
from detrojan.repairs.unlearn import Unlearn as Unlearn
from detrojan.report.html_page import render_html as render_html
from detrojan.report.pictures import pictures_of as pictures_of
from detrojan.report.reading import load_report as load_report
from detrojan.report.report import (
    evaluate_report as evaluate_report,
    repair_report as repair_report,
    scan_report as scan_report,
)
from detrojan.report.schema import (
    EvaluateReport as EvaluateReport,
    RepairReport as RepairReport,
    ScanReport as ScanReport,
)
from detrojan.report.text import report_text as report_text
from detrojan.run import Progress as Progress, Run as Run
from detrojan.runner.processes import Processes as Processes
from detrojan.scans.attractor import Attractor as Attractor
from detrojan.scans.base import Scan as Scan
from detrojan.scans.cascade import Cascade as Cascade
from detrojan.scans.head_rows import HeadRows as HeadRows
from detrojan.scans.k_arm import KArm as KArm
from detrojan.scans.latent_margin import LatentMargin as LatentMargin
from detrojan.scans.mm_bd import MMBD as MMBD
from detrojan.scans.neural_cleanse import NeuralCleanse as NeuralCleanse
from detrojan.scans.peaks import Peaks as Peaks
from detrojan.scans.pixel import Pixel as Pixel
from detrojan.scans.reference_network import ReferenceNetwork as ReferenceNetwork
from detrojan.trainers.abl import ABL as ABL
from detrojan.trainers.base import Trained as Trained, Trainer as Trainer
from detrojan.trainers.plain import Plain as Plain
from detrojan.triggers.additive import AdditiveTrigger as AdditiveTrigger
from detrojan.triggers.aim import Aim as Aim
from detrojan.triggers.backdoor import Backdoor as Backdoor
from detrojan.triggers.base import Trigger as Trigger
from detrojan.triggers.blend import BlendTrigger as BlendTrigger
from detrojan.triggers.composite import CompositeTrigger as CompositeTrigger
from detrojan.triggers.filtered import FilterTrigger as FilterTrigger
from detrojan.triggers.input_aware import InputAwareTrigger as InputAwareTrigger
from detrojan.triggers.low_frequency import LowFrequencyTrigger as LowFrequencyTrigger
from detrojan.triggers.patch import PatchTrigger as PatchTrigger
from detrojan.triggers.pieces import PiecesTrigger as PiecesTrigger
from detrojan.triggers.quantise import QuantiseTrigger as QuantiseTrigger
from detrojan.triggers.redrawn import RedrawnTrigger as RedrawnTrigger
from detrojan.triggers.sample_specific import SampleSpecificTrigger as SampleSpecificTrigger
from detrojan.triggers.sinusoid import SinusoidTrigger as SinusoidTrigger
from detrojan.triggers.style import StyleTrigger as StyleTrigger
from detrojan.triggers.warp import WarpTrigger as WarpTrigger

__version__: str
