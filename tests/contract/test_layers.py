"""Imports only go down the layers, and heavy packages stay in the room that owns them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "segmenter_plugin"

LAYERS = {
    "columns": 0, "errors": 0, "clock": 0, "schemas": 0, "config": 0, "contract": 0, "gating": 0,
    "learning": 0, "segmenting": 0, "storage": 0, "tasks": 0,
    "data": 1, "spark": 2, "model": 2, "segments": 3, "quality": 3, "store": 4, "stages": 5, "console": 5,
    "commands": 5, "cli": 5,
}  # fmt: skip
#: Same layer, but these two never meet: the Spark image needs no torch, the GPU image no Java.
STRANGERS = {("spark", "model"), ("model", "spark")}
OWNERS = {
    "pyspark": {"spark"},
    "py4j": {"spark"},
    "torch": {"model"},
    "transformers": {"model"},
    "accelerate": {"model"},
    "peft": {"model"},
    "opacus": {"model"},
    "safetensors": {"model"},
    "feast": {"store"},
    "sklearn": {"segments", "quality"},
    "lightgbm": {"quality"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _room(module: str) -> str:
    """`segmenter_plugin.spark.clean` -> `spark`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def _only_for_types(tree: ast.Module) -> set[ast.AST]:
    """Everything under ``if TYPE_CHECKING``: names for annotations, never loaded."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def _imports(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = _only_for_types(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if node.module == "segmenter_plugin" else [node.module or ""]


def _own_room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = _own_room(path)
    if room == "__init__":
        return
    for module in _imports(path):
        top = module.partition(".")[0]
        if top == "segmenter_plugin":
            other = _room(module)
            if other in {"", "__version__"}:
                continue
            assert other in LAYERS, f"{path} imports {module}, a room that the table does not know"
            assert LAYERS[other] <= LAYERS[room], f"{path} imports {module}, which lies above it"
            assert (room, other) not in STRANGERS, f"{path} imports {module}"
        elif top in OWNERS:
            assert room in OWNERS[top], f"{path} imports {top}, which belongs to {sorted(OWNERS[top])}"


def test_every_room_has_a_layer():
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__", "py.typed"} <= set(LAYERS)


def test_no_module_is_long():
    long = {str(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_no_function_is_long():
    long = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (lines := body[-1].end_lineno - body[0].lineno + 1) > 50:
                    long.append((path.name, node.name, lines))
    assert not long
