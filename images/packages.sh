#!/usr/bin/env bash
# Installs the Debian packages that a purpose needs, those that are missing, each in a call of its own.
# Usage: images/packages.sh build|run|test|bench|rescue-arm64|rescue-amd64 …
# Not as root, it names what is missing and goes on: the build says what it lacks, the tests say what they skip.
set -euo pipefail

packages() {
    case $1 in
    build) echo gcc pkg-config libbtrfsutil-dev libclang-dev ;;
    run) echo btrfs-progs cyrus-imapd cyrus-clients cyrus-admin sasl2-bin ;;
    test) echo git python3 zstd age rsync fuse3 acl attr strace openssh-server openssh-client systemd iproute2 bindfs xfsprogs openssl qemu-system-x86 busybox-static lvm2 thin-provisioning-tools ;;
    rescue-arm64) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
    rescue-amd64) echo gcc-x86-64-linux-gnu libc6-dev-amd64-cross ;;
    bench) echo restic borgbackup rsync ;;
    *) echo "images/packages.sh: unknown purpose $1" >&2 && return 64 ;;
    esac
}

installed() { dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# A kernel for the guest of the tests (tests/guest), which is unpacked and never installed.
kernel_place=/var/cache/mailkeep-guest/kernel
unpack_kernel() (
    name=$(apt-cache depends "linux-image-cloud-$(dpkg --print-architecture)" | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
    [ -n "$name" ] && mkdir -p "${kernel_place%/*}" && work=$(mktemp -d "$kernel_place.XXXXXX") || exit 1
    trap 'rm -rf "$work"' EXIT
    cd "$work" && apt-get download -qq "$name" && dpkg -x "$name"_*.deb unpacked && chmod 755 unpacked &&
        mv -T unpacked "$kernel_place"
)

missing=()
for purpose in "$@"; do
    for package in $(packages "$purpose"); do
        installed "$package" || missing+=("$package")
    done
done
kernel=
[[ " $* " != *" test "* ]] || [ -d "$kernel_place" ] || kernel=wanted
[ ${#missing[@]} -gt 0 ] || [ "$kernel" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing packages; as root: for p in ${missing[*]}; do apt-get install -y \$p; done" >&2
    [ ! "$kernel" ] || echo "a kernel for the tests' guest is missing; as root: images/packages.sh test" >&2
    exit 0
fi

# A mail server that is installed for tests must not start by itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "apt-get update failed; trying with the lists at hand" >&2
for package in "${missing[@]}"; do
    echo "installing $package"
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
        echo "could not install $package; what needs it will say so" >&2
done
if [ "$kernel" ]; then
    echo "unpacking a kernel in $kernel_place"
    unpack_kernel 2>/dev/null || [ -d "$kernel_place" ] || echo "could not unpack a kernel; what needs it will say so" >&2
fi
