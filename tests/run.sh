#!/usr/bin/env bash
# The tests, all of them: `tests/run.sh [options of cargo test]`. Proxies run on epoll where io_uring
# is refused; EVENKEEL_DRIVER=epoll says that it is refused on purpose.
#
# As root it installs with apt-get what they call and this machine lacks. A test that cannot run here
# (no root, no io_uring, no package) is skipped and listed at the end with its reason; with CI=true
# it fails instead. The exit status is that of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

# A command that the tests call, and the Debian package that has it.
declare -A package_of=(
    [iptables]=iptables [nft]=nftables [ip]=iproute2 [ps]=procps [strace]=strace [setpriv]=util-linux
    [curl]=curl [openssl]=openssl [python3]=python3 [nginx]=nginx [haproxy]=haproxy
)

# Administrators' commands are not on the PATH of every user.
PATH="$PATH:/usr/sbin:/sbin"

missing=()
for command in "${!package_of[@]}"; do
    command -v "$command" >/dev/null || missing+=("${package_of[$command]}")
done
if ((${#missing[@]} > 0)); then
    install() {
        # Servers are for the tests to start (invoke-rc.d(8)).
        export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"
    }
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null && install </dev/null >/dev/null; then
        echo "installed: ${missing[*]}"
    else
        echo "not installed: ${missing[*]} (as root, apt-get would); tests that need them are skipped"
    fi
fi

if ! command -v cargo >/dev/null; then
    echo "cargo is not on the PATH; see https://rustup.rs" >&2
    exit 1
fi

output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0
cargo test --all-features --no-fail-fast "$@" 2>&1 | tee "$output" || status=${PIPESTATUS[0]}

# The test runner's own output may stand before it in the line.
skipped=$(grep -o 'SKIPPED .*' "$output" | sort -u || true)
echo
if [[ -n $skipped ]]; then
    echo "Skipped, with the reason:"
    sed 's/^SKIPPED /  /' <<<"$skipped"
else
    echo "No test was skipped."
fi
exit "$status"
