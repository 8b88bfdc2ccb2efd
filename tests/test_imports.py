"""Who imports whom, and that the command line starts without torch."""

import ast
import functools
import graphlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "minbert": set(),
    "optim": set(),
    "data": {"minbert"},
    "multitask": {"data", "lab", "minbert", "optim"},
    "lab": {"data", "minbert", "multitask", "optim"},
}
"""Package -> the project's other packages that it may import. The command line alone imports lab,
and lab calls what is to be checked inside functions: see the tests at the end."""


@functools.cache
def imported(path: Path) -> set[str]:
    """Top-level names of all imports of a file, those inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def dependencies(*tables: str) -> set[str]:
    """Import names of what pyproject.toml lists in these tables."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = [re.search(rf"^{table} = \[(.*?)\]$", text, re.M | re.S)[1] for table in tables]
    names = {name for text in lists for name in re.findall(r'"([\w-]+)', text)}
    modules = {"scikit-learn": "sklearn", "markdown-it-py": "markdown_it"}
    return {modules.get(name, name) for name in names}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_the_arrows_between_packages_hold(package):
    files = modules(package)
    assert len(files) >= {"minbert": 7, "optim": 4, "data": 5, "multitask": 15, "lab": 15}[package]
    others = MAY_IMPORT.keys() - {package}
    for path in files:
        wrong = imported(path) & others - MAY_IMPORT[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_third_parties_are_dependencies(package):
    known = dependencies("dependencies", "tensorboard", "parquet") | sys.stdlib_module_names
    assert {"torch", "numpy", "sklearn", "tensorboard", "json"} <= known
    assert "transformers" not in known
    found = set()
    for path in modules(package):
        found |= imported(path)
        unknown = imported(path) - known - MAY_IMPORT.keys()
        assert not unknown, f"{path.relative_to(ROOT)} imports {sorted(unknown)}"
    assert found & known


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_class_variables_name_their_type(package):
    """Python 3.10 resolves no annotation that is a plain ClassVar."""
    for path in modules(package):
        assert not re.search(r": ClassVar( =|$)", path.read_text(encoding="utf-8"), re.M), path


TRAINING = ("loop", "runs", "extensions")
ROOMS = {
    **{room: set() for room in TRAINING},
    "experiments": set(),
    "study": {"experiments"},
    "glue": {"experiments"},
    "report": {"experiments", "study", "glue"},
    "export": {"report"},
    "inside": {"experiments"},
    "commands": {"experiments", "study", "glue", "report", "export", "inside"},
}
"""Room of multitask -> the rooms that it may import beside those that train and the files beside
them, which import no other room."""


def test_what_trains_does_not_know_what_uses_training():
    home = ROOT / "multitask"
    assert ROOMS.keys() == {path.parent.name for path in home.glob("*/__init__.py")}
    seen = set()
    for path in [path for path in modules("multitask") if path.name != "__main__.py"]:
        room = path.parent.name if path.parent != home else "loop"
        found = set(re.findall(r"from multitask\.(\w+)[. ]", path.read_text(encoding="utf-8")))
        others = found & ROOMS.keys() - {*TRAINING, room}
        seen |= others
        assert others <= ROOMS[room], f"{path.relative_to(ROOT)} imports {sorted(others)}"
    assert seen >= {"glue", "study", "report", "experiments"}


def test_multitask_has_no_circle_of_imports():
    """Not even of those for types alone, or inside functions."""
    graph = {}
    for path in modules("multitask"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found = [node for node in nodes if isinstance(node, ast.ImportFrom)]
        graph[name] = {f"{node.module}.{each.name}" for node in found for each in node.names}
        graph[name] |= {node.module for node in found}
    graph = {n: found & graph.keys() for n, found in graph.items() if not n.endswith("__init__")}
    assert "multitask.config" in graph["multitask.training"] and len(graph) > 50
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_imports_inside_functions_are_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "def f():\n    from multitask.config import x\n    import os.path\n", encoding="utf-8"
    )
    assert imported(path) == {"multitask", "os"}


STEPS = """
import json, sys
def seen():
    print(json.dumps([name for name in sys.argv[1:] if name in sys.modules]))
import multitask.commands.main, minbert, multitask
seen()
minbert.Bert
seen()
encoder = minbert.load_backbone("minilm").encoder
from optim import AdamW
optimizer = AdamW(encoder.parameters())
encoder.embeddings.norm.weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
seen()
"""


@pytest.fixture(scope="module")
def heavy():
    """What a process has imported with the command line, an encoder's class, and training."""
    names = ["torch", "tokenizers", "sklearn", "scipy", "matplotlib", "huggingface_hub"]
    done = subprocess.run(
        [sys.executable, "-c", STEPS, *names, "torch._dynamo", "sympy"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def test_the_command_line_starts_without_torch(heavy):
    started, used, _ = heavy
    assert not started
    assert "torch" in used


@pytest.mark.parametrize("package", ["minbert", "multitask"])
def test_every_public_name_is_there_and_no_other(package):
    module = __import__(package)
    assert len(module.__all__) >= 5
    for name in module.__all__:
        home = getattr(module, name).__module__
        assert home == f"{package}.{module._HOMES[name]}", name
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


def test_loading_and_training_a_backbone_does_not_import_the_compiler(heavy):
    assert "torch" in heavy[2]
    assert not heavy[2] & {"torch._dynamo", "sympy"}


def test_files_of_the_working_folder_stand_in_no_packages_place(tmp_path):
    for name in ("data", "optim", "tests", "lab"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')", encoding="utf-8")
    options = {"cwd": tmp_path, "capture_output": True, "encoding": "utf-8"}
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ["-m", "multitask", "task", "new", "none.csv"]
    done = subprocess.run([sys.executable, *words], env=env, **options)
    assert (done.returncode, done.stderr) == (2, "error: none.csv does not exist\n")
    code = "import os, sys; sys.path.insert(0, os.getcwd()); import multitask"  # as in a notebook
    done = subprocess.run([sys.executable, "-c", code], env=env, **options)
    assert f"{tmp_path / 'optim.py'} is found where the package optim should be" in done.stderr
    assert "rename that file" in done.stderr


def test_the_command_line_alone_imports_the_lab():
    users = [path.name for path in modules("multitask") if "lab" in imported(path)]
    assert users == ["__main__.py", "messages.py"]


def test_the_lab_starts_on_the_standard_library_alone():
    code = """
import sys
before = set(sys.modules)
import lab.__main__, lab.check, lab.diagnose, lab.harness, lab.runner, lab.grade, lab.handout
print(sorted({name.partition(".")[0] for name in sys.modules.keys() - before}))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    new = set(ast.literal_eval(done.stdout)) - sys.stdlib_module_names
    assert new == {"lab"}
