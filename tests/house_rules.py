"""The rules of the house, as functions from one parsed file to its violations.

`test_architecture` shows each of them a made-up file that breaks it, then the source tree.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "detrojan"

#: from the ground up: a module may import its own layer and those before it
LAYERS = (
    (
        "errors",
        "files",
        "extras",
        "words",
        "records",
        "store",
        "run",
        "machine",
        "method",
        "catalog",
        "quarantine",
        "parsing",
        "tensor_files",
    ),
    ("triggers", "models", "data"),
    ("findings",),
    ("metrics",),
    ("learning", "search"),
    ("judging",),
    ("attacks", "scans", "repairs", "guards", "trainers", "filters"),
    ("report", "runner"),
    ("jobs",),
    # the package's own __init__ hands out the public names
    ("", "benchmark", "calls", "integrations", "testing"),
    ("serve", "console"),
    ("cli", "__main__"),
)
ROOMS = LAYERS[6]
#: slow to import or optional: only inside the functions that need them
LAZY = {
    "keras",
    "tensorflow",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "onnx2torch",
    "matplotlib",
    "jinja2",
    "transformers",
    "lightning",
    "pytorch_lightning",
    "huggingface_hub",
    "timm",
    "torchvision",
    "pyarrow",
    "ray",
    "art",
    "httpx2",
    "starlette",
    "uvicorn",
    "structlog",
    "prometheus_client",
    "opentelemetry",
    "mlflow",
    "yaml",
}
#: their published builds do not work beside CPU-only torch
NEVER = {"onnx2torch"}
#: they run code out of files
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
SPEAKERS = ("cli", "console", "report", "__main__")
#: lines of a function without its decorators, and of a file
LONGEST_FUNCTION, LONGEST_FILE = 60, 350


@dataclass
class Source:
    """One parsed file."""

    module: str
    text: str
    is_package: bool = False
    tree: ast.Module = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)

    @property
    def part(self) -> str:
        """The room: what follows "detrojan." in the module's name."""
        return self.module.partition(".")[2].partition(".")[0]

    def resolve(self, node: ast.ImportFrom) -> str:
        """Return the absolute name of what a from-import names, relative ones included."""
        if node.level == 0:
            return node.module or ""
        parts = self.module.split(".")
        package = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*package, *([node.module] if node.module else [])])

    def imports(self, *, top_level: bool = False) -> Iterator[tuple[int, str]]:
        """Yield line and absolute dotted name of each import; names of from-imports appended."""
        for node in self._module_body(self.tree) if top_level else ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield node.lineno, f"{self.resolve(node)}.{alias.name}"

    def _module_body(self, parent: ast.AST) -> Iterator[ast.AST]:
        """Yield what runs on import: everything but bodies of functions and of `if TYPE_CHECKING`."""
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                continue
            yield node
            yield from self._module_body(node)

    @cached_property
    def aliases(self) -> dict[str, str]:
        """What each imported name stands for, so that `np.load` is read as `numpy.load`."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    names[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{self.resolve(node)}.{alias.name}"
        return names

    def dotted(self, node: ast.expr) -> str:
        """Return the full dotted name of an expression such as `np.random.seed`, or an empty text."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Yield each call with the full dotted name of what is called."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, self.dotted(node.func)


def rank(part: str) -> int | None:
    """Return the layer of a part of the package, 0 the ground; None if nobody gave it one."""
    return next((number for number, layer in enumerate(LAYERS) if part in layer), None)


def layer_violations(source: Source) -> Iterator[str]:
    here = rank(source.part)
    if here is None:
        yield f"{source.module}: {source.part!r} has no layer; give it one in LAYERS"
        return
    for line, name in source.imports():
        if name.partition(".")[0] != "detrojan":
            continue
        parts = name.split(".")
        there = parts[1] if len(parts) > 1 else ""
        level = rank(there)
        if level is None:
            level = rank("")  # a name of the package's own __init__
        if level is not None and level > here:
            yield f"{source.module}:{line}: {source.part or 'detrojan'} imports {name}, which lies above it"
        if source.part in ROOMS and there in ROOMS and there != source.part:
            yield f"{source.module}:{line}: the rooms {source.part} and {there} must not know each other"


def import_violations(source: Source) -> Iterator[str]:
    for line, name in source.imports():
        library = name.partition(".")[0]
        if library in NEVER:
            yield f"{source.module}:{line}: {library} is imported"
        if library in UNPICKLERS and name not in {"pickle", "pickle.UnpicklingError"}:
            yield f"{source.module}:{line}: {name} is imported"
    for line, name in source.imports(top_level=True):
        if name.partition(".")[0] in LAZY:
            yield f"{source.module}:{line}: {name} is imported at module level, not where it is needed"


def pickle_violations(source: Source) -> Iterator[str]:
    """Pickle itself is there for the name of its error, and for nothing else."""
    harmless = {
        node.value
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and source.dotted(node) == "pickle.UnpicklingError"
    }
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and source.aliases.get(node.id) == "pickle" and node not in harmless:
            yield f"{source.module}:{node.lineno}: pickle is used"


def danger_violations(source: Source) -> Iterator[str]:
    for call, name in source.calls():
        where = f"{source.module}:{call.lineno}"
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if name in {"eval", "exec", "__import__", "os.system", "os.popen", "builtins.eval", "builtins.exec"}:
            yield f"{where}: {name}() runs text as code"
        if name == "torch.load" and "weights_only" not in given:
            yield f"{where}: torch.load without weights_only"
        if name == "numpy.load":
            allowed = given.get("allow_pickle", ast.Constant(value=False))
            if not (isinstance(allowed, ast.Constant) and allowed.value is False):
                yield f"{where}: numpy.load with allow_pickle"
        shell = given.get("shell")
        if name.startswith("subprocess.") and shell is not None and ast.unparse(shell) != "False":
            yield f"{where}: {name} through a shell"
        if isinstance(call.func, ast.Attribute) and call.func.attr == "cuda" and name != "torch.cuda":
            yield f"{where}: .cuda() instead of the run's device"


SEEDERS = {
    "torch.manual_seed",
    "torch.random.manual_seed",
    "torch.seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "numpy.random.seed",
    "random.seed",
    "keras.utils.set_random_seed",
}
DRAWS = {"rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal"}
NUMPY_OK = {"default_rng", "Generator", "SeedSequence", "PCG64", "BitGenerator"}


def chance_violations(source: Source) -> Iterator[str]:
    """Randomness comes from a run's named streams; torch's own one may be seeded within fork_rng only."""
    forked: set[ast.AST] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.With) and any("fork_rng" in ast.unparse(i.context_expr) for i in node.items):
            forked.update(ast.walk(node))
    for call, name in source.calls():
        where = f"{source.module}:{call.lineno}"
        library, _, last = name.rpartition(".")
        if name in SEEDERS and call not in forked:
            yield f"{where}: {name} seeds for everybody"
        if library == "torch" and last in DRAWS and call not in forked:
            drawn_from = next((k.value for k in call.keywords if k.arg == "generator"), None)
            if drawn_from is None:
                yield f"{where}: {name} without a generator"
        if library == "numpy.random" and last not in NUMPY_OK:
            yield f"{where}: {name} draws from the generator that everybody shares"
        if library == "random" and last != "Random":
            yield f"{where}: {name} draws from the generator that everybody shares"


def speech_violations(source: Source) -> Iterator[str]:
    if source.part in SPEAKERS:
        return
    for call, name in source.calls():
        if name in {"print", "click.echo", "sys.stdout.write", "sys.stderr.write", "rich.print"}:
            yield f"{source.module}:{call.lineno}: {name} speaks; only cli, console and report do"
    for line, name in source.imports():
        if name.partition(".")[0] in {"click", "rich"}:
            yield f"{source.module}:{line}: {name} is for cli, console and report only"


def size_violations(source: Source) -> Iterator[str]:
    lines = len(source.text.splitlines())
    if lines > LONGEST_FILE:
        yield f"{source.module}: {lines} lines, {LONGEST_FILE} are the most"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                where = f"{source.module}:{node.lineno}: {node.name}"
                yield f"{where} has {lines} lines, {LONGEST_FUNCTION} are the most"


#: what the package keeps
RULES: tuple[Callable[[Source], Iterator[str]], ...] = (
    layer_violations,
    import_violations,
    pickle_violations,
    danger_violations,
    chance_violations,
    speech_violations,
)


def parsed(folder: Path) -> Iterator[Source]:
    """Yield every file of a folder; its modules are named from the folder on."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if package else parts)
        yield Source(module, path.read_text(encoding="utf-8"), package)


@cache
def sources() -> list[Source]:
    """Return the files of the package."""
    return list(parsed(SOURCE))


def cycles(found: list[Source]) -> list[list[str]]:
    """Return the import cycles among modules; imports for types and within functions count as well."""
    names = {source.module for source in found}
    edges: dict[str, set[str]] = {}
    for source in found:
        targets = {
            candidate
            for _, name in source.imports()
            for candidate in (name, name.rpartition(".")[0])
            if candidate in names and candidate != source.module
        }
        # `from detrojan.data import reading` names the package too, but needs the module
        edges[source.module] = {t for t in targets if not any(o.startswith(f"{t}.") for o in targets)}
    found_cycles: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found_cycles.append([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(edges[module]):
                visit(target, [*path, module])
            done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return found_cycles
