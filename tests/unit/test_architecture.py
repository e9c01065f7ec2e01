"""The arrows between the packages, read from the source: who may import whom, and which library belongs to whom.

Source: docs/architecture.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

TOP = Path(__file__).parents[2]
FACADE = "vsnapfs"

ARROWS = {
    "core": set[str](),
    "mounts": {"core"},
    "attach": {"mounts", "core"},
    "binding": {"core"},
    "catalog": {"binding", "core"},
    "policy": {"core"},
    "media": {"policy", "core"},
    "quiesce": {"policy", "mounts", "core"},
    "verify": {"attach", "hunt", "policy", "core"},
    "repository": {"catalog", "policy", "binding", "mounts", "core"},
    "archive": {FACADE, "media", "repository", "catalog", "policy", "binding", "core"},
    "tree": {"repository", "binding", "mounts", "core"},
    "daemon": {FACADE, "tree", "mounts", "quiesce", "repository", "policy", "binding", "core"},
    "hunt": {"daemon", "repository", "attach", "core"},
    "replay": {"hunt", "daemon", "repository", "attach", "binding", "core"},
    "cli": {
        FACADE,
        "verify",
        "replay",
        "hunt",
        "daemon",
        "archive",
        "media",
        "catalog",
        "repository",
        "attach",
        "mounts",
        "core",
    },
    FACADE: {"repository", "core"},
}
"""A package, and those that it may import beside itself."""

ONLY_LAYOUT = {"vsnapfs.repository.layout"}
"""What the command may know of the repository: where its files are."""

OWNERS = {
    "vsnapfs.binding._native": ("vsnapfs.binding",),
    "pyfuse3": ("vsnapfs.tree.fuse",),
    "apsw": ("vsnapfs.catalog",),
    "starlette": ("vsnapfs.daemon",),
    "hypercorn": ("vsnapfs.daemon",),
    "sdnotify": ("vsnapfs.daemon",),
    "psycopg": ("vsnapfs.quiesce",),
    "pymysql": ("vsnapfs.quiesce",),
    "cronsim": ("vsnapfs.policy.schedule",),
    "tomlkit": ("vsnapfs.policy.edited",),
    "zstandard": ("vsnapfs.archive.coding",),
    "click": ("vsnapfs.cli",),
    "rich": ("vsnapfs.cli",),
}
"""A library, and the only packages or modules that import it."""

NO_IO = {"asyncio", "io", "os", "pathlib", "shutil", "socket", "subprocess", "tempfile", "threading", "trio"}

Imports = Mapping[str, frozenset[str]]


def module_name(path: Path, top: Path = TOP) -> str:
    parts = path.relative_to(top).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str) -> Iterator[str]:
    """Every module an import statement may load, wherever it stands; of ``from a import b`` both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports are absolute here"
            assert node.level == 0, "imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read_imports() -> Imports:
    """Of each module of vsnapfs: what it imports. Names in a module that are no modules of ours are among them."""
    paths = sorted((TOP / "vsnapfs").rglob("*.py"))
    return {module_name(path): frozenset(imported(path.read_text(encoding="utf-8"))) for path in paths}


IMPORTS = read_imports()


def package_of(module: str) -> str:
    """The row of the table that a module of vsnapfs belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ARROWS else FACADE


def is_within(module: str, owner: str) -> bool:
    return module == owner or module.startswith(f"{owner}.")


def ours(modules: frozenset[str], known: Imports) -> set[str]:
    return {module for module in modules if module in known}


def cycle_in(imports: Imports) -> list[str] | None:
    """A chain of modules that leads back to its first, if there is one."""
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> list[str] | None:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return None
        for target in sorted(ours(imports[module], imports) - {module}):
            found = walk(target, [*trail, module])
            if found:
                return found
        done.add(module)
        return None

    return next((found for module in sorted(imports) if (found := walk(module, []))), None)


def test_every_package_is_in_the_table() -> None:
    packages = {path.parent.name for path in (TOP / "vsnapfs").glob("*/__init__.py")}
    assert packages <= set(ARROWS)
    assert len(IMPORTS) > len(packages)


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_arrows_point_down(module: str) -> None:
    package = package_of(module)
    allowed = ARROWS[package] | {package}
    wrong = {target for target in ours(IMPORTS[module], IMPORTS) if package_of(target) not in allowed}
    assert not wrong, f"{module}, of {package}, must not import {sorted(wrong)}"


def test_the_command_knows_only_the_layout_of_a_repository() -> None:
    for module in IMPORTS:
        if package_of(module) == "cli":
            targets = {target for target in ours(IMPORTS[module], IMPORTS) if package_of(target) == "repository"}
            assert targets <= ONLY_LAYOUT | {"vsnapfs.repository"}, module


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_a_library_has_one_owner(library: str) -> None:
    users = {module for module, targets in IMPORTS.items() if any(is_within(target, library) for target in targets)}
    strangers = {user for user in users if not any(is_within(user, owner) for owner in OWNERS[library])}
    assert not strangers, f"{library} belongs to {OWNERS[library]}"
    assert users, f"nobody imports {library}: strike it from the table and from pyproject.toml"


def test_core_and_policy_do_no_io() -> None:
    for module in IMPORTS:
        if package_of(module) in ("core", "policy"):
            assert not {target.split(".")[0] for target in IMPORTS[module]} & NO_IO, module


def test_no_import_cycles() -> None:
    assert cycle_in(IMPORTS) is None


def test_a_cycle_is_found() -> None:
    imports = {"a": frozenset({"b"}), "b": frozenset({"c", "os"}), "c": frozenset({"b"})}
    assert cycle_in(imports) == ["b", "c", "b"]


def test_imports_are_read_wherever_they_stand() -> None:
    source = "import a.b as c\ndef f() -> None:\n    from d import e\nif g:\n    import h\n"
    assert set(imported(source)) == {"a.b", "d", "d.e", "h"}
