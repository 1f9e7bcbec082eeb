#!/usr/bin/env bash
# Builds mailkeep as one static file for each kind of machine that a disk can be read on, in target/rescue/.
# The machine's own kind always; the others where Rust's library and a C compiler for them are there (as root they are
# fetched). What could not be built is said; a disk carries what there is.
# Usage: images/rescue.sh [x86_64] [aarch64]
set -euo pipefail
cd "$(dirname "$0")/.."
out=target/rescue
cargo=${CARGO:-cargo}
own=$(uname -m)
mkdir -p "$out"

build() { # machine, further flags of the compiler
    RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols ${2:-}" \
        "$cargo" build --release -p mailkeep-cli --target "$1-unknown-linux-gnu" &&
        install -m 755 "target/$1-unknown-linux-gnu/release/mailkeep" "$out/mailkeep-$1" && echo "$out/mailkeep-$1"
}

# The static libbtrfsutil of another architecture: unpacked, not installed, with lists of packages of its own.
library() { # architecture, folder
    local state=$2/apt
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    local apt=(apt-get -qq -o "APT::Architecture=$1" -o "APT::Architectures=$1" -o "Dir::State=$state"
        -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o Dir::State::status=/dev/null)
    "${apt[@]}" update && (cd "$2" && "${apt[@]}" download "libbtrfsutil-dev:$1") 2>/dev/null &&
        dpkg -x "$2"/libbtrfsutil-dev_*.deb "$2" && rm -rf "$state" "$2"/*.deb
}

cross() { # machine, architecture as Debian calls it
    local name=${1}_unknown_linux_gnu triple=$1-linux-gnu
    local folder=$PWD/target/rescue-$2
    if ! command -v "$triple-gcc" >/dev/null; then
        [ "$(id -u)" -ne 0 ] || bash images/packages.sh "rescue-$2" || true
    fi
    command -v "$triple-gcc" >/dev/null || { echo "no $triple-gcc" && return 1; }
    if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$1-unknown-linux-gnu" ]; then
        command -v rustup >/dev/null && rustup -q target add "$1-unknown-linux-gnu" ||
            { echo "Rust has no library for $1" && return 1; }
    fi
    [ -e "$folder/usr/lib/$triple/libbtrfsutil.a" ] || { rm -rf "$folder" && mkdir -p "$folder" && library "$2" "$folder"; } ||
        { echo "no libbtrfsutil for $1" && return 1; }
    env "CARGO_TARGET_${name^^}_LINKER=$triple-gcc" "CC_$name=$triple-gcc" "AR_$name=$triple-ar" \
        "BINDGEN_EXTRA_CLANG_ARGS_$name=-I/usr/$triple/include" \
        bash -c "$(declare -f build); cargo='$cargo' out='$out' build '$1' '-L native=$folder/usr/lib/$triple'"
}

[ $# -gt 0 ] || set -- x86_64 aarch64
for machine in "$@"; do
    case $machine in
    "$own") build "$machine" ;;
    aarch64) cross aarch64 arm64 || echo "rescue.sh: no program for aarch64: see above" >&2 ;;
    x86_64) cross x86_64 amd64 || echo "rescue.sh: no program for x86_64: see above" >&2 ;;
    *) echo "rescue.sh: unknown machine $machine" >&2 && exit 64 ;;
    esac
done
