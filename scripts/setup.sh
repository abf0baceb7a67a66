#!/usr/bin/env bash
# Installs what is missing on Debian and Ubuntu, and nothing else. Says nothing and does not touch the network when
# nothing is missing.
#
#   scripts/setup.sh build        compiler and headers, to build and run
#   scripts/setup.sh test         traffic generators and servers that the tests drive the agent with, and a validating
#                                 server for the platform's contract (into the target folder, not into the system)
#   scripts/setup.sh lint         rustfmt and clippy
#   scripts/setup.sh fuzz         what the fuzzer's own library is compiled with
#
# Packages go through sudo when it is run by anybody but root; it then calls itself with `packages NAME...`.

set -euo pipefail

readonly MIN_RUST=1.88
readonly POLICY=/usr/sbin/policy-rc.d
# The newest that runs on the Node.js of Debian 12; its successors want one of version 24.
readonly PRISM=5.14.2

# What each group needs: the package, and what proves that it is there. A path stands for itself, a bare word for a
# command.
readonly BUILD=(
    "gcc cc"
    "libc6-dev /usr/include/stdio.h"
    "libpcap-dev /usr/include/pcap/pcap.h"
    "make make"
    "pkg-config pkg-config"
)
readonly TEST=(
    "apache2-utils ab"
    "ca-certificates /etc/ssl/certs/ca-certificates.crt"
    "curl curl"
    "dnsperf dnsperf"
    "ethtool ethtool"
    "hping3 hping3"
    "iperf3 iperf3"
    "iproute2 ip"
    "knot knotd"
    "netsniff-ng trafgen"
    "nginx-light nginx"
    "nodejs node"
    "npm npm"
    "procps sysctl"
    "tcpdump tcpdump"
    "tcpreplay tcpreplay"
    "util-linux setpriv"
    "wrk wrk"
)
readonly FUZZ=(
    "g++ c++"
)

main() {
    # Ordinary users have no administration commands on their path, and cargo may just have been installed.
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"

    if [[ ${1-} == packages ]]; then
        install_packages "${@:2}"
        return
    fi
    local group missing=() tools=()
    for group in "$@"; do
        case $group in
            build) require_rust && add_missing "${BUILD[@]}" ;;
            test) add_missing "${TEST[@]}" && tools+=(prism) ;;
            lint) require_lints ;;
            fuzz) add_missing "${FUZZ[@]}" ;;
            *) fail "unknown group '$group' (expected build, test, lint or fuzz)" ;;
        esac
    done
    if ((${#missing[@]} > 0)); then
        install_packages "${missing[@]}"
    fi
    if ((${#tools[@]} > 0)); then
        require_prism
    fi
}

fail() {
    echo "setup: $*" >&2
    exit 1
}

# Adds to `missing` every package whose proof is not there.
add_missing() {
    local entry package proof
    for entry in "$@"; do
        read -r package proof <<<"$entry"
        if [[ $proof == /* ]]; then
            [[ -e $proof ]] || missing+=("$package")
        else
            command -v "$proof" >/dev/null || missing+=("$package")
        fi
    done
}

require_rust() {
    command -v cargo >/dev/null || fail "cargo not found; install Rust $MIN_RUST or later from https://rustup.rs"
    local version
    version=$(rustc --version | cut -d ' ' -f 2)
    [[ $(printf '%s\n' "$MIN_RUST" "$version" | sort -V | head -n 1) == "$MIN_RUST" ]] ||
        fail "Rust $version is too old; $MIN_RUST or later is needed (rustup update)"
}

require_lints() {
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        command -v rustup >/dev/null || fail "cargo $component not found, and no rustup to add it with"
        rustup component add "${component/fmt/rustfmt}"
    done
}

# The validating server belongs to the tests of this checkout: it goes where cargo puts what it builds. Without network
# its tests are skipped, unless nothing may be.
require_prism() {
    local target=${CARGO_TARGET_DIR:-$(dirname "${BASH_SOURCE[0]}")/../target}
    local folder=$target/tools/prism said
    if grep -qs "\"version\": \"$PRISM\"" "$folder/node_modules/@stoplight/prism-cli/package.json"; then
        return
    fi
    echo "setup: installing @stoplight/prism-cli $PRISM into $folder"
    mkdir -p "$folder"
    said=$(npm install --prefix "$folder" --no-audit --no-fund --no-update-notifier --loglevel=error \
        "@stoplight/prism-cli@$PRISM" 2>&1) && return
    if [[ -n ${FTAGENT_REQUIRE_LIVE-} ]]; then
        echo "$said" >&2
        fail "@stoplight/prism-cli $PRISM cannot be installed"
    fi
    echo "setup: @stoplight/prism-cli $PRISM cannot be installed; the tests that need it will be skipped" >&2
}

install_packages() {
    command -v apt-get >/dev/null ||
        fail "missing: $*; these are Debian's package names, install what your distribution calls them"
    if (($(id -u) != 0)); then
        command -v sudo >/dev/null || fail "missing: $*; run as root: apt-get install $*"
        echo "setup: installing $* (with sudo)"
        sudo -- "${BASH_SOURCE[0]}" packages "$@"
        return
    fi
    echo "setup: installing $*"
    forbid_service_starts
    export DEBIAN_FRONTEND=noninteractive
    apt_get update
    apt_get install --no-install-recommends "$@"
    # Nor shall it start at the next boot.
    if [[ " $* " == *" nginx-light "* ]] && command -v systemctl >/dev/null; then
        systemctl --quiet disable nginx 2>/dev/null || true
    fi
}

# Waits for another apt-get to finish instead of failing at once.
apt_get() {
    apt-get -qq -y -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 || {
        cat "$log" >&2
        fail "apt-get $1 failed"
    }
}

# Debian starts a service when its package is installed. The tests want nginx as a program, not as a server on port 80:
# a policy that says no is put in place, and what was there before is put back at the end.
forbid_service_starts() {
    scratch=$(mktemp -d)
    log=$scratch/apt.log
    if [[ -e $POLICY || -L $POLICY ]]; then
        mv "$POLICY" "$scratch/policy-rc.d"
    fi
    trap restore_policy EXIT
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

restore_policy() {
    rm -f "$POLICY"
    if [[ -e $scratch/policy-rc.d || -L $scratch/policy-rc.d ]]; then
        mv "$scratch/policy-rc.d" "$POLICY"
    fi
    rm -rf "$scratch"
}

main "$@"
