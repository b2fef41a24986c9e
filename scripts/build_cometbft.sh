#!/usr/bin/env bash
# Build the engine of the distributed network, CometBFT, unmodified and at one version, into a directory of its own.
# Usage: build_cometbft.sh DIRECTORY. Does nothing where that version is there already. Needs Go >= 1.25.
set -euo pipefail

version=v0.39.4
mkdir -p "$1"
directory=$(cd "$1" && pwd)
binary=$directory/cometbft
marker=$directory/.cometbft-$version

if [[ -x $binary && -e $marker ]]; then
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "CometBFT $version is built from source, and there is no Go here: install Go 1.25 or newer." >&2
    echo "All else works without it: a network of one validator (solo) needs no engine of its own." >&2
    exit 1
fi
echo "building CometBFT $version with $(go version | cut -d' ' -f3), about a minute"
rm -f "$directory"/.cometbft-*
CGO_ENABLED=0 GOFLAGS=-mod=mod GOBIN=$directory go install "github.com/cometbft/cometbft/cmd/cometbft@$version"
touch "$marker"
