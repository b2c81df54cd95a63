# shellcheck shell=bash
# What the machine must have, and how it comes there: by apt as root on Debian and its kin, otherwise by the user's own hand.

# require_programs WHAT-FOR PROGRAM=PACKAGE...: installs what is missing, or says what to install
require_programs() {
    local purpose=$1 entry programs=() packages=()
    shift
    for entry in "$@"; do
        program_there "${entry%%=*}" || {
            programs+=("${entry%%=*}")
            packages+=("${entry#*=}")
        }
    done
    ((${#packages[@]} > 0)) || return 0
    can_install || fail "$EXIT_UNAVAILABLE" "missing for $purpose: ${programs[*]}" "$(how_to_install "${packages[@]}")"
    apt_install "${packages[@]}"
    for entry in "${programs[@]}"; do
        program_there "$entry" || fail "$EXIT_UNAVAILABLE" "$entry is still missing after apt installed ${packages[*]}"
    done
}

# want_programs PROGRAM=PACKAGE...: installs what is missing where that is possible; nothing depends on it
want_programs() {
    local entry packages=()
    for entry in "$@"; do
        program_there "${entry%%=*}" || packages+=("${entry#*=}")
    done
    ((${#packages[@]} > 0)) && can_install || return 0
    (apt_install "${packages[@]}") || say "going on without ${packages[*]}"
}

program_there() {
    case $1 in
    postgres) [[ -n $(postgres_bin) ]] ;;
    python3-venv) python_with_venv >/dev/null ;;
    ca-certificates) [[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/pki/tls/certs/ca-bundle.crt || -e /etc/ssl/cert.pem ]] ;;
    openssl-headers) pkg-config --exists openssl ;;
    *) has "$1" ;;
    esac
}

# The folder with initdb and postgres, newest first: Debian keeps them off the PATH.
postgres_bin() {
    local folder newest=""
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
        [[ ! -x $folder/initdb ]] || newest=$(printf '%s\n%s\n' "$newest" "$folder" | sort -V | tail -n 1)
    done
    if [[ -z $newest ]] && has initdb && has postgres; then
        newest=$(dirname "$(command -v initdb)")
    fi
    say "$newest"
}

# A Python that can make virtual environments: one from a version manager may lack what Debian's has, and the other way round.
python_with_venv() {
    local python
    for python in /usr/bin/python3 python3; do
        if has "$python" && "$python" -c 'import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

can_install() { is_root && has apt-get && has dpkg; }

how_to_install() {
    if has apt-get; then
        say "install: sudo apt-get install $*"
    else
        say "install with this system's package manager what Debian calls: $*"
    fi
}

# apt_install PACKAGE...: without a question, and without anything of it starting by itself, now or at the next boot
apt_install() {
    local log=$STATE/logs/apt.log
    mkdir -p "$STATE/logs"
    progress "apt installs $*"
    (
        trap allow_service_starts EXIT
        forbid_service_starts
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q && apt-get install -q -y --no-install-recommends "$@"
    ) </dev/null >>"$log" 2>&1 9>&- ||
        fail "$EXIT_UNAVAILABLE" "apt could not install $*: $(grep -E '^(E|W|Err):?' "$log" | tail -n 1)" \
            "the whole of it: $log" "no network, or another apt at work? Or install them by hand: apt-get install $*"
    local unit
    for unit in prometheus postgresql; do
        [[ " $* " != *" $unit "* ]] || disable_at_boot "$unit"
    done
}

POLICY=/usr/sbin/policy-rc.d
POLICY_KEPT=$POLICY.before-kstream-agg
CLUSTER_POLICY=/etc/postgresql-common/createcluster.d/kstream-agg.conf

# Debian's way to keep packages from starting services: policy-rc.d says no (101), and no default cluster of Postgres is made.
# A policy that the machine already has comes back afterwards, also after a run that was cut off.
forbid_service_starts() {
    allow_service_starts
    [[ ! -e $POLICY ]] || mv "$POLICY" "$POLICY_KEPT"
    printf '#!/bin/sh\n# kstream-agg, while it installs packages\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
    mkdir -p "${CLUSTER_POLICY%/*}"
    say "create_main_cluster = false" >"$CLUSTER_POLICY"
}

allow_service_starts() {
    rm -f "$CLUSTER_POLICY"
    ! grep -qs 'kstream-agg, while it installs' "$POLICY" || rm -f "$POLICY"
    [[ ! -e $POLICY_KEPT ]] || mv "$POLICY_KEPT" "$POLICY"
}

disable_at_boot() {
    if [[ -d /run/systemd/system ]]; then
        systemctl disable --quiet "$1.service" 2>/dev/null || true
    elif has update-rc.d; then
        update-rc.d "$1" disable >/dev/null 2>&1 || true
    fi
}

# require_cargo: Rust's own tools, and what building librdkafka and zstd from source takes
require_cargo() {
    require_programs "building" gcc=gcc g++=g++ make=make cmake=cmake pkg-config=pkg-config openssl-headers=libssl-dev
    has cargo || [[ ! -x ${HOME:-/root}/.cargo/bin/cargo ]] || PATH=$PATH:${HOME:-/root}/.cargo/bin
    has cargo || fail "$EXIT_UNAVAILABLE" "cargo is missing (Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml"))" \
        "install it: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh   (https://rustup.rs)" \
        "or use Docker, which builds inside: make run SERVERS=docker"
}
