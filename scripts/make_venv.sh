#!/usr/bin/env bash
# Make a virtual environment with the newest Python >= 3.11 that runs here; PYTHON=/path/to/python overrides the choice.
# Usage: make_venv.sh DIRECTORY
set -euo pipefail

directory=$1
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "making $directory with $("$candidate" --version) ($candidate)"
        rm -rf "$directory"
        exec "$candidate" -m venv "$directory"
    fi
done

echo "Onecode needs Python 3.11 or newer with its venv module; none of these is: ${PYTHON:-python3.13 python3.12 python3.11 python3}." >&2
echo "Install one (Debian and Ubuntu: python3 and python3-venv), or name it: make setup PYTHON=/path/to/python3" >&2
exit 1
