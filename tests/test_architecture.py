"""Holds the house together: imports point downward, and what is dangerous stands nowhere.

Each rule is first shown to catch a violation in a made-up file, then applied to the source tree.
"""

from __future__ import annotations

from textwrap import indent

import pytest

from house_rules import (
    LONGEST_FILE,
    LONGEST_FUNCTION,
    ROOT,
    RULES,
    Source,
    chance_violations,
    cycles,
    danger_violations,
    import_violations,
    layer_violations,
    parsed,
    pickle_violations,
    size_violations,
    sources,
    speech_violations,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule):
    found = sources()
    assert len(found) > 20, "the source tree was not found"
    assert [text for source in found for text in rule(source)] == []


def test_no_import_cycles():
    assert cycles(sources()) == []


@pytest.mark.parametrize("folder", ["src/detrojan", "tests", "scripts", "benchmark"])
def test_no_function_and_no_file_is_too_long(folder):
    found = sources() if folder == "src/detrojan" else list(parsed(ROOT / folder))
    assert found, "the folder was not found"
    assert [text for source in found for text in size_violations(source)] == []


def function(lines: int, head: str = "def f():") -> str:
    return head + "\n    pass" * (lines - 1)


TOO_LONG = [
    ("function", function(LONGEST_FUNCTION + 1), "f has 61 lines"),
    ("coroutine", function(LONGEST_FUNCTION + 1, "async def f():"), "f has 61 lines"),
    ("method", f"class A:\n{indent(function(LONGEST_FUNCTION + 1), ' ')}", "f has 61 lines"),
    ("file", "\n" * (LONGEST_FILE + 1), "351 lines"),
]
LONG_ENOUGH = [
    ("function", f"@decorated\n{function(LONGEST_FUNCTION)}"),
    ("file", "\n" * LONGEST_FILE),
]

BAD = [
    (
        layer_violations,
        "detrojan.errors",
        "from detrojan.run import Run\nimport detrojan.models.nets",
        "above it",
    ),
    (layer_violations, "detrojan.data.npz", "from detrojan.scans import base", "above it"),
    (
        layer_violations,
        "detrojan.models.loading",
        "def f():\n    from detrojan.report import html",
        "above it",
    ),
    (layer_violations, "detrojan.models.nets", "from ..metrics import accuracy", "above it"),
    (layer_violations, "detrojan.store", "from detrojan import Run", "above it"),
    (layer_violations, "detrojan.findings", "import detrojan.metrics.accuracy", "above it"),
    (layer_violations, "detrojan.triggers.patch", "import detrojan.findings", "above it"),
    (layer_violations, "detrojan.attacks.blend", "from detrojan.scans.base import Scan", "each other"),
    (layer_violations, "detrojan.repairs.prune", "import detrojan.scans", "each other"),
    (layer_violations, "detrojan.serve.routes", "from detrojan.cli import main", "above it"),
    (layer_violations, "detrojan.utils", "", "has no layer"),
    (import_violations, "detrojan.data.folder", "import onnx2torch.node", "onnx2torch"),
    (import_violations, "detrojan.data.folder", "def f():\n    from onnx2torch import convert", "onnx2torch"),
    (import_violations, "detrojan.models.formats.keras.files", "import keras", "module level"),
    (
        import_violations,
        "detrojan.report.html",
        "try:\n    import jinja2\nexcept ImportError: pass",
        "module level",
    ),
    (
        import_violations,
        "detrojan.report.plots",
        "class A:\n    from matplotlib import pyplot",
        "module level",
    ),
    (import_violations, "detrojan.models.formats.torch_file", "import dill", "dill"),
    (pickle_violations, "detrojan.models.formats.torch_file", "import pickle as p\np.load(f)", "is used"),
    (pickle_violations, "detrojan.models.formats.torch_file", "import pickle\nf(module=pickle)", "is used"),
    (
        import_violations,
        "detrojan.models.formats.torch_file",
        "def f():\n    from pickle import loads",
        "pickle.loads",
    ),
    (danger_violations, "detrojan.store", "eval('1')", "runs text"),
    (danger_violations, "detrojan.store", "exec('1')", "runs text"),
    (danger_violations, "detrojan.store", "import torch\ntorch.load('f')", "without weights_only"),
    (danger_violations, "detrojan.store", "from torch import load as l\nl('f')", "without weights_only"),
    (
        danger_violations,
        "detrojan.store",
        "import numpy as np\nnp.load('f', allow_pickle=True)",
        "allow_pickle",
    ),
    (danger_violations, "detrojan.store", "import subprocess as s\ns.run('ls', shell=True)", "shell"),
    (danger_violations, "detrojan.store", "model.cuda()", "device"),
    (danger_violations, "detrojan.store", "f(x)[0].cuda(0)", "device"),
    (chance_violations, "detrojan.run", "import torch\ntorch.manual_seed(0)", "seeds"),
    (chance_violations, "detrojan.run", "from torch import manual_seed\nmanual_seed(0)", "seeds"),
    (chance_violations, "detrojan.run", "import numpy as np\nnp.random.seed(0)", "seeds"),
    (chance_violations, "detrojan.run", "import numpy.random as r\nr.rand(3)", "shares"),
    (chance_violations, "detrojan.run", "import random\nrandom.shuffle(x)", "shares"),
    (chance_violations, "detrojan.run", "import torch\ntorch.randperm(3)", "without a generator"),
    (speech_violations, "detrojan.scans.nc", "print('hello')", "speaks"),
    (speech_violations, "detrojan.scans.nc", "import sys\nsys.stderr.write('x')", "speaks"),
    (speech_violations, "detrojan.learning.fitting", "from rich.progress import track", "only"),
    *(pytest.param(size_violations, "tests.test_run", *rest, id=f"size-{name}") for name, *rest in TOO_LONG),
]

GOOD = [
    (layer_violations, "detrojan.findings", "from detrojan.triggers.base import Trigger"),
    (
        layer_violations,
        "detrojan.scans.nc",
        "from detrojan.scans.base import Scan\nimport detrojan.learning.fitting",
    ),
    (
        layer_violations,
        "detrojan.cli.scan",
        "from detrojan import catalog\nfrom detrojan.console.progress import A",
    ),
    (layer_violations, "detrojan", "from detrojan.report.schema import Report"),
    (import_violations, "detrojan.models.formats.keras.files", "def f():\n    import keras"),
    (
        import_violations,
        "detrojan.models.formats.torch_file",
        "from pickle import UnpicklingError\nimport pickle",
    ),
    (
        pickle_violations,
        "detrojan.models.formats.torch_file",
        "import pickle\nerror = pickle.UnpicklingError",
    ),
    (import_violations, "detrojan.report.html", "if TYPE_CHECKING:\n    import jinja2"),
    (danger_violations, "detrojan.store", "import torch\ntorch.load('f', weights_only=True)\nmodel.eval()"),
    (danger_violations, "detrojan.store", "import numpy as np\nnp.load('f', allow_pickle=False)"),
    (danger_violations, "detrojan.store", "import torch\ntorch.cuda.is_available()"),
    (chance_violations, "detrojan.run", "import torch\ntorch.Generator().manual_seed(0)"),
    (
        chance_violations,
        "detrojan.run",
        "import torch\nwith torch.random.fork_rng():\n    torch.manual_seed(1)",
    ),
    (chance_violations, "detrojan.run", "import torch\ntorch.randn(3, generator=g)"),
    (chance_violations, "detrojan.run", "import numpy as np\nnp.random.default_rng(3)"),
    (speech_violations, "detrojan.cli.scan", "import click\nclick.echo('x')"),
    *(pytest.param(size_violations, "tests.test_run", text, id=f"size-{name}") for name, text in LONG_ENOUGH),
]


@pytest.mark.parametrize(("rule", "module", "text", "says"), BAD)
def test_a_rule_catches_its_violation(rule, module, text, says):
    found = list(rule(Source(module, text)))
    assert found
    assert says in found[0]


@pytest.mark.parametrize(("rule", "module", "text"), GOOD)
def test_a_rule_lets_pass_what_is_right(rule, module, text):
    assert list(rule(Source(module, text))) == []


def test_relative_imports_of_a_package_are_resolved_from_the_package():
    package = Source("detrojan.scans", "from .base import Scan\nfrom ..repairs import base", is_package=True)
    assert [name for _, name in package.imports()] == ["detrojan.scans.base.Scan", "detrojan.repairs.base"]


def test_a_cycle_is_found():
    found = [
        Source("detrojan.a", "from detrojan.b import x"),
        Source("detrojan.b", "import detrojan.c"),
        Source("detrojan.c", "from detrojan import a"),
        Source("detrojan.d", "def f():\n    import detrojan.a"),
    ]
    assert cycles(found) == [["detrojan.a", "detrojan.b", "detrojan.c", "detrojan.a"]]


@pytest.mark.parametrize(
    "text",
    ["if TYPE_CHECKING:\n    from detrojan.a import x", "def f():\n    from detrojan.a import x"],
    ids=["for types", "in a function"],
)
def test_a_cycle_that_is_not_met_on_import_is_found_too(text):
    found = [Source("detrojan.a", "from detrojan.b import y"), Source("detrojan.b", text)]
    assert cycles(found) == [["detrojan.a", "detrojan.b", "detrojan.a"]]
