# What the scripts share: finding and installing what a fresh machine lacks. Sourced, never run.
# shellcheck shell=bash

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Prints a line about what goes on, apart from what a script answers on standard output.
say() {
    printf '%s\n' "$*" >&2
}

# Ends the script with a reason.
fail() {
    say "error: $*"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Installs packages, `install_packages WHAT_FOR PACKAGE...`; says what to type where it may not do so itself.
install_packages() {
    local purpose="$1"
    shift
    local -a sudo=()
    if ((EUID != 0)); then
        sudo=(sudo)
    fi
    if ! have apt-get; then
        say "$purpose is missing, and this system has no apt-get to install it with: install the equivalent of"
        say "    $*"
        exit 1
    fi
    local -a install=("${sudo[@]}" apt-get install -y --no-install-recommends "$@")
    if ((EUID != 0)) && ! sudo -n true 2>/dev/null; then
        say "$purpose is missing. Install it with"
        say "    sudo apt-get update && ${install[*]}"
        exit 1
    fi
    say "$purpose is missing: installing $*"
    "${sudo[@]}" apt-get update -q >&2
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]:${#sudo[@]}}" >&2
}

# Prints the folder with the programs of a PostgreSQL server: the search path's, else the newest installed.
postgres_programs() {
    local candidate
    candidate="$(command -v postgres || true)"
    if [[ -n "$candidate" ]]; then
        candidate="$(dirname "$(readlink -f "$candidate" 2>/dev/null || echo "$candidate")")"
    fi
    for candidate in "$candidate" "$(pg_config --bindir 2>/dev/null || true)" \
        $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin /usr/local/pgsql/bin; do
        if [[ -n "$candidate" && -x "$candidate/postgres" && -x "$candidate/initdb" && -x "$candidate/psql" ]]; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

need_postgres() {
    postgres_programs >/dev/null || install_packages "a PostgreSQL server" postgresql
    postgres_programs >/dev/null || fail "a PostgreSQL server was installed but cannot be found"
}

need_compiler() {
    have cc || install_packages "a C compiler (for the TLS library)" gcc libc6-dev
}

need_rust() {
    if ! have cargo && [[ -x "$HOME/.cargo/bin/cargo" ]]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    if ! have cargo; then
        say "Rust is missing. Install it from https://rustup.rs with"
        say "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
        exit 1
    fi
    # rust-toolchain.toml names version and components; rustup knows how to get them, other packagings do not.
    if have rustup && ! (cd "$root" && cargo fmt --version && cargo clippy --version) >/dev/null 2>&1; then
        say "the Rust toolchain of rust-toolchain.toml is missing: installing it"
        (cd "$root" && rustup toolchain install >&2)
    fi
    (cd "$root" && cargo --version >/dev/null) || fail "cargo does not work with rust-toolchain.toml"
}

# Python, as new as the tools of tests/sdk want it, with what makes environments of its own; Debian has that apart.
need_python() {
    local is_enough='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
    python3 -c "$is_enough" 2>/dev/null || install_packages "Python 3.11 with venv" python3 python3-venv
    python3 -c "$is_enough" 2>/dev/null || fail "python3 is older than 3.11 or has no venv"
}

# Node.js, as new as the tools of tests/sdk want it.
need_node() {
    { have node && have npm; } || install_packages "Node.js" nodejs npm
    node -e 'process.exit(Number.parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null ||
        fail "Node.js 20 or newer is needed, and $(node --version 2>/dev/null || echo none) is there: https://nodejs.org has it"
}

# A build machine checks out afresh each time; its target folder stays.
use_kept_target() {
    if [[ -n "${CI:-}" ]]; then
        export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kiln/target}"
    fi
}
