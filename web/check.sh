#!/usr/bin/env bash
# Types, lint and tests of the page's own code, and that the committed bundle is what it gives.
# Where npm's registry cannot be had it says so, and checks nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if ! command -v npm >/dev/null || ! timeout 120 npm ci --no-audit --no-fund --ignore-scripts --silent; then
  echo "web: npm, or what it installs, is not to be had; the bundle stays as it is" >&2
  exit 0
fi
npm run --silent check
npm test --silent
npm run --silent build
git diff --exit-code --stat -- ../multitask/inside/assets
echo "web: the bundle is what its sources give"
