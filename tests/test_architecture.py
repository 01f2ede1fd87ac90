"""The order of the folders, see docs/architecture.md: a file imports from its own folder and from lower ones."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "mlic"
# From the lowest to the highest; names in one entry do not import from each other.
ORDER = (
    ("escaping", "process_settings"),
    ("errors",),
    ("addresses", "seeds", "config"),
    ("settings",),
    ("runs", "command_help"),
    ("command_line", "svg"),
    ("figures",),
    ("sweeps",),
    ("data",),
    ("evaluation",),
    ("models",),
    ("features",),
    ("inference",),
    ("training",),
    ("report",),
    ("tuning", "verification", "exporting"),
)
LEVELS = {name: level for level, names in enumerate(ORDER) for name in names}
ENTRY_POINTS = len(ORDER)  # the commands, and mlic itself: they may import everything
HEAVY = {"torch", "torchvision", "timm", "lightning"}


def imports_of(file: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, also inside its functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "mlic":
            yield from (f"mlic.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def forbidden_imports() -> Iterator[tuple[str, str]]:
    """(file, module) of all imports that are not from a lower folder, and of heavy ones where arrays are read."""
    for name, level in LEVELS.items():
        for file in (*PACKAGE.glob(f"{name}/**/*.py"), *PACKAGE.glob(f"{name}.py")):
            for module in imports_of(file):
                package, _, rest = module.partition(".")
                imported = rest.partition(".")[0]
                upward = (
                    package == "mlic" and imported != name and LEVELS.get(imported, ENTRY_POINTS) >= level
                )
                if upward or (name in ("evaluation", "report") and package in HEAVY):
                    yield str(file.relative_to(PACKAGE)), module if upward else package


def test_folders_import_only_what_lies_below_them():
    assert set(forbidden_imports()) == set(), "imported from a higher folder; see docs/architecture.md"


def test_every_folder_has_its_place():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(LEVELS)
    assert all((PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists() for name in LEVELS)
