"""Who may import whom: contracts ← engine ← worker; contracts ← api; contracts ← client."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "accentor": ROOT / "core" / "accentor",
    "accentor_api": ROOT / "api" / "accentor_api",
    "accentor_worker": ROOT / "worker" / "accentor_worker",
    "accentor_client": ROOT / "client" / "accentor_client",
}
SERVERS = {"celery", "redis", "boto3", "botocore"}

BLOCKED_IMPORT = """
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
for module in {modules!r}:
    importlib.import_module(module)
loaded = sorted({{name.partition(".")[0] for name in sys.modules}} & {blocked!r})
assert not loaded, loaded
"""


def imports_without(blocked: set[str], modules: list[str]) -> None:
    """Import the modules in a fresh interpreter in which the blocked ones cannot be imported."""
    for module in modules:
        room, _, inner = module.partition(".")
        path = ROOMS[room].joinpath(*inner.split(".")) if inner else ROOMS[room]
        if not path.with_suffix(".py").exists() and not (path / "__init__.py").exists():
            pytest.skip(f"{module} is not written yet")
    code = BLOCKED_IMPORT.format(blocked=blocked, modules=modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "modules", [["accentor", "accentor.spec", "accentor.errors", "accentor.images"], ["accentor_client"]], ids=str
)
def test_contracts_and_client_need_neither_torch_nor_servers(modules):
    imports_without({"torch", "torchvision", "numpy", "safetensors", "fastapi", "pydantic_settings"} | SERVERS, modules)


def test_api_needs_no_torch():
    imports_without({"torch", "torchvision", "safetensors", "accentor_worker", "accentor_client"}, ["accentor_api.app"])


def test_state_and_storage_need_no_torch():
    imports_without({"torch", "torchvision", "fastapi"}, ["accentor.state", "accentor.storage", "accentor.settings"])


def test_the_workers_parent_process_needs_no_torch():
    """No CUDA in the parent: children are spawned, and import the engine themselves."""
    imports_without({"torch", "torchvision", "accentor_api", "accentor_client"}, ["accentor_worker.main"])


def test_the_command_line_starts_light():
    imports_without({"torch", "torchvision", "fastapi", "uvicorn"} | SERVERS, ["accentor.cli"])


# --- in the source -----------------------------------------------------------------------------------------------


def imported(path: Path) -> set[str]:
    """Return every module that a file imports, anywhere in it, except for type checkers alone."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update({node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)})
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "__import__"}:
            names.update(argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))
    return names


def offenders(room: str, forbidden: set[str], *, outside: tuple[str, ...] = ()) -> list[str]:
    if not ROOMS[room].exists():
        pytest.skip(f"{room} is not written yet")
    found = []
    for path in sorted(ROOMS[room].rglob("*.py")):
        inner = path.relative_to(ROOMS[room]).as_posix()
        if inner.startswith(outside):
            continue
        hits = sorted(
            name for name in imported(path) if any(name == one or name.startswith(f"{one}.") for one in forbidden)
        )
        found += [f"{room}/{inner} imports {name}" for name in hits]
    return found


@pytest.mark.parametrize("room", ["accentor_api", "accentor_worker", "accentor_client"])
def test_rooms_do_not_import_one_another(room):
    assert offenders(room, set(ROOMS) - {room, "accentor"}) == []


def test_the_core_imports_no_room():
    """The command line is the composition root, and so is the embedded mode behind it."""
    assert offenders("accentor", set(ROOMS) - {"accentor"}, outside=("cli/", "cli.py", "embedded/")) == []


@pytest.mark.parametrize("room", ["accentor", "accentor_api", "accentor_client"])
def test_torch_is_the_engines(room):
    assert offenders(room, {"torch", "torchvision", "safetensors"}, outside=("engine/",)) == []


@pytest.mark.parametrize("room", ["accentor_api", "accentor_client"])
def test_the_engine_is_the_workers(room):
    assert offenders(room, {"accentor.engine"}) == []


def test_the_client_knows_nothing_of_the_service():
    assert offenders("accentor_client", {"accentor.state", "accentor.storage", "accentor.settings"} | SERVERS) == []


@pytest.mark.parametrize("part", ["spec", "engine", "errors.py", "images.py"])
def test_contracts_and_engine_know_nothing_of_the_service(part):
    others = tuple(
        f"{path.name}/" if path.is_dir() else path.name for path in ROOMS["accentor"].iterdir() if path.name != part
    )
    forbidden = {"accentor.state", "accentor.storage", "accentor.settings", "accentor.cli", "httpx"} | SERVERS
    assert offenders("accentor", forbidden, outside=others) == []


def test_the_loop_imports_the_parts_and_not_the_other_way_round():
    engine = ROOMS["accentor"] / "engine"
    parts = ["parameterization", "crops", "features", "regularization", "opacity", "layers", "color"]
    for part in parts:
        files = list((engine / part).glob("*.py")) or [engine / f"{part}.py"]
        names = set().union(*(imported(file) for file in files))
        assert not names & {"accentor.engine", "accentor.engine.optimize", "accentor.engine.accentuate"}, part


def test_every_package_can_be_found():
    for room, folder in ROOMS.items():
        if (folder / "__init__.py").exists():
            found = importlib.util.find_spec(room)
            assert found is not None
            assert Path(found.origin).parent == folder
