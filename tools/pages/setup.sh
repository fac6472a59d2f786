#!/usr/bin/env bash
# The tests of pages need Chromium, and Node.js with npm, besides Go. Installs the
# missing ones as root on Debian and its derivatives; elsewhere it prints the command.
set -euo pipefail

packages=()
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || packages+=(chromium fonts-liberation)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
if [ ${#packages[@]} -eq 0 ]; then
  exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  apt-get --option Acquire::Retries=3 update
  DEBIAN_FRONTEND=noninteractive apt-get --option Acquire::Retries=3 install --yes --no-install-recommends "${packages[@]}"
  exit 0
fi
echo "tools/pages/setup.sh: missing: ${packages[*]}" >&2
echo "hint: sudo apt-get install ${packages[*]}" >&2
exit 1
