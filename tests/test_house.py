"""The rules of the house, read off the source: who imports whom, what is listed, what is never used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("fields", "render", "datasets", "tools")
PACKAGES = ("fieldstone", *FOLDERS)
MAY_IMPORT = {
    "core": set(),
    "fields": {"core"},
    "render": {"core"},
    "datasets": {"core", "render"},
    "tools": {"core", "fields", "render", "datasets"},
}
FRONT_DOOR = ("fieldstone/__init__.py", "fieldstone/__main__.py")

LAZY = set(
    "OpenEXR cv2 fast_simplification lpips matplotlib newton nvdiffrast open3d pycolmap rich skimage".split()
    + "tinycudann tyro viser warp xatlas".split()
)
DISTRIBUTION = {  # where the name of the import is not the name of the package
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "warp": "warp-lang",
    "yaml": "pyyaml",
}
BY_HAND = {"tinycudann", "nvdiffrast"}  # not on PyPI


def package_files() -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for top in PACKAGES for p in (ROOT / top).rglob("*.py"))


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), file)


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def module_name(file: str) -> list[str]:
    parts = list(Path(file).with_suffix("").parts)
    return parts if parts[0] == "fieldstone" else ["fieldstone", *parts]


def imports(file: str) -> Iterator[tuple[int, str, bool]]:
    """Line, absolute module name and whether it was written relatively, of every import in `file`."""
    package = module_name(file)[:-1]  # also right for __init__.py, whose last part is "__init__"
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                base = node.module
            else:
                base = ".".join(
                    package[: len(package) - node.level + 1] + ([node.module] if node.module else [])
                )
            if base in ("fieldstone", *(f"fieldstone.{name}" for name in MAY_IMPORT)):
                yield from ((node.lineno, f"{base}.{alias.name}", bool(node.level)) for alias in node.names)
            else:
                yield node.lineno, base, bool(node.level)


def at_import_time(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported: not in functions, nor under `if TYPE_CHECKING`."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from at_import_time(statement.orelse)
            continue
        yield statement
        for block in ("body", "orelse", "finalbody"):
            yield from at_import_time(getattr(statement, block, []))
        for handler in getattr(statement, "handlers", []):
            yield from at_import_time(handler.body)


def declared(*extras: str) -> list[Requirement]:
    """The dependencies of the project and of the named extras (all extras if none is named)."""
    optional = project()["project"]["optional-dependencies"]
    lines = list(project()["project"]["dependencies"])
    for extra in extras or optional:
        lines += optional[extra]
    return [Requirement(line) for line in lines]


def test_each_folder_imports_only_what_it_may():
    wrong = []
    for file in package_files():
        if file in FRONT_DOOR:
            continue
        own = module_name(file)[1]
        for line, target, relative in imports(file):
            parts = target.split(".")
            if parts[0] in FOLDERS:
                wrong.append(f"{file}:{line} imports {target}, which is not importable outside a checkout")
            if parts[0] != "fieldstone" or target in ("fieldstone", "fieldstone.__version__"):
                continue
            other = parts[1]
            if other not in MAY_IMPORT:
                wrong.append(f"{file}:{line} imports the front door ({target})")
            elif other != own and other not in MAY_IMPORT[own]:
                wrong.append(f"{file}:{line} {own} may not import {other}")
            elif relative == (other == "core"):
                wrong.append(f"{file}:{line} {target}: core by its full name, everything else relatively")
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "fieldstone":
                if node.attr != "__version__":
                    wrong.append(f"{file}:{node.lineno} goes through the front door (fieldstone.{node.attr})")
    assert not wrong, "\n".join(wrong)


def test_relative_imports_are_resolved_as_python_does():
    """The rule above rests on `imports`; its resolver is held against importlib's."""
    from importlib.util import resolve_name

    assert resolve_name("..render.cameras", "fieldstone.datasets") == "fieldstone.render.cameras"
    checked = 0
    for file in package_files():
        package = ".".join(module_name(file)[:-1])
        expected = set()
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ImportFrom) and node.level:
                expected.add((node.lineno, resolve_name("." * node.level + (node.module or ""), package)))
        found = {(line, target) for line, target, relative in imports(file) if relative}
        for line, name in expected:
            assert any(at == line and (target + ".").startswith(name + ".") for at, target in found), (
                file,
                line,
            )
            checked += 1
    assert checked > 20


def test_no_file_is_longer_than_500_lines():
    files = [p for top in (*PACKAGES, "tests", "benchmarks") for p in (ROOT / top).rglob("*.py")]
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in files}
    assert not {name: lines for name, lines in lengths.items() if lines > 500}


def test_every_package_on_disk_is_installed_and_the_other_way_round():
    prefix = {folder: name for name, folder in project()["tool"]["setuptools"]["package-dir"].items()}
    assert prefix == {"fieldstone": "fieldstone", **{folder: f"fieldstone.{folder}" for folder in FOLDERS}}
    on_disk = set()
    for top in PACKAGES:
        for folder in [ROOT / top, *(ROOT / top).rglob("*/")]:
            parts = folder.relative_to(ROOT).parts
            if "__pycache__" in parts or not list(folder.glob("*.py")):
                continue
            assert (folder / "__init__.py").exists(), f"{'/'.join(parts)} has no __init__.py"
            on_disk.add(".".join([prefix[top], *parts[1:]]))
    assert on_disk == set(project()["tool"]["setuptools"]["packages"])


def test_every_data_file_inside_a_package_is_installed():
    patterns = project()["tool"]["setuptools"].get("package-data", {})
    missing = []
    for file in (p for top in PACKAGES for p in (ROOT / top).rglob("*") if p.is_file()):
        relative = file.relative_to(ROOT)
        if file.suffix in (".py", ".nbi", ".nbc") or "__pycache__" in relative.parts:
            continue
        named = module_name(str(relative))[:-1]  # a pattern may belong to a package further up
        packages = (".".join(named[:depth]) for depth in range(1, len(named) + 1))
        if not any(file.match(pattern) for package in packages for pattern in patterns.get(package, [])):
            missing.append(str(relative))
    assert not missing, f"not in pyproject's package-data: {missing}"


def test_modules_say_what_they_offer_and_offer_what_they_say():
    wrong = []
    for file in package_files():
        body = tree(file).body
        assigned = [
            node
            for node in body
            if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets)
        ]
        defines = any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign) for node in body)
        if not assigned:
            if defines and not file.endswith("__main__.py"):
                wrong.append(f"{file} has no __all__")
            continue
        if any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in body):
            continue  # resolved on first use: the front door's test below imports each
        names = set()
        for node in at_import_time(body):
            if isinstance(node, ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names |= {(alias.asname or alias.name) for alias in node.names}
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {t.id for target in targets for t in ast.walk(target) if isinstance(t, ast.Name)}
        names |= {node.name for node in body if isinstance(node, ast.FunctionDef)}
        listed = {c.value for c in ast.walk(assigned[0].value) if isinstance(c, ast.Constant)}
        wrong += [f"{file}: __all__ lists {name}, which it does not define" for name in listed - names]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_pickled_or_unpickled():
    wrong = []
    for file in package_files():
        for line, target, _ in imports(file):
            if target.split(".")[0] in {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}:
                wrong.append(f"{file}:{line} imports {target}")
        for node in ast.walk(tree(file)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in {"torch.load", "torch.save", "torch.jit.load", "pd.read_pickle"}:
                wrong.append(f"{file}:{node.lineno} calls {called}")
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", True) is not False:
                    wrong.append(f"{file}:{node.lineno} allows pickles")
    assert not wrong, "\n".join(wrong)


def test_packages_that_few_need_are_imported_where_they_are_needed():
    wrong = []
    for file in package_files():
        for node in at_import_time(tree(file).body):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            wrong += [
                f"{file}:{node.lineno} imports {n} at its top" for n in names if n.split(".")[0] in LAZY
            ]
    assert not wrong, "\n".join(wrong)


def test_every_third_party_import_is_a_declared_dependency():
    allowed = {canonicalize_name(r.name) for r in declared()}
    missing = set()
    for file in package_files():
        names = [target for _, target, relative in imports(file) if not relative]
        for node in ast.walk(tree(file)):  # and what is asked for through core.lazy.require
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require" and node.args:
                names += [c.value for c in ast.walk(node.args[0]) if isinstance(c, ast.Constant)]
        for name in (n.split(".")[0] for n in names):
            if name in sys.stdlib_module_names or name == "fieldstone" or name in BY_HAND:
                continue
            if canonicalize_name(DISTRIBUTION.get(name, name)) not in allowed:
                missing.add(f"{file}: {name}")
    assert not missing, "\n".join(sorted(missing))


def test_constraints_pin_every_dependency_to_a_version_it_allows():
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line:
            name, version = line.split("==")
            pinned[canonicalize_name(name)] = version
    for requirement in declared("sfm", "dev"):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} forbids {pinned[name]}"


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`, less those it starts with."""
    script = (
        "import sys\nbefore = set(sys.modules)\ntry:\n"
        + "".join(f"    {line}\n" for line in code.splitlines())
        + "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in set(sys.modules) - before}))\n"
    )
    with tempfile.TemporaryDirectory() as empty:  # nothing in it may stand in for the installed package
        ran = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=empty
        )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.rsplit("LOADED", 1)[1].split())


def test_importing_the_package_loads_nothing_but_itself():
    assert loaded_by("import fieldstone") - sys.stdlib_module_names <= {"fieldstone"}


@pytest.mark.parametrize("command", [["--help"], ["train-scene", "--help"]], ids=" ".join)
def test_help_loads_none_of_the_heavy_packages(command):
    run = f"import runpy\nsys.argv = ['fieldstone', *{command}]\n"
    loaded = loaded_by(run + "runpy.run_module('fieldstone', run_name='__main__')")
    assert not loaded & {"torch", "numba", "scipy", "skimage", "cv2", "trimesh", "pycolmap"}


def test_the_front_door_opens_onto_everything_it_lists():
    import fieldstone

    for name in fieldstone.__all__:
        assert getattr(fieldstone, name) is not None


def test_no_source_or_page_names_a_path_of_somebodys_machine():
    pages = [
        p for pattern in ("*.md", "docs/*", "benchmarks/**/*") for p in ROOT.glob(pattern) if p.is_file()
    ]
    files = [ROOT / f for f in package_files()] + [
        p for p in pages if p.suffix in (".md", ".svg", ".py", ".json", ".txt")
    ]
    machine_path = re.compile(r"/(?:work|root|home|Users|mnt)/\w")
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if machine_path.search(line)
    ]
    assert not wrong, wrong


def test_links_between_pages_lead_somewhere():
    wrong = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                wrong.append(f"{page.relative_to(ROOT)} -> {target}")
    assert not wrong, wrong
