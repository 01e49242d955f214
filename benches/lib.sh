# shellcheck shell=bash
# What every bench needs: a PostgreSQL server of its own, a configuration, medians. Sourced, not run.

set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
daykeep=${DAYKEEP:-$top/target/release/daykeep}
examples=${EXAMPLES:-$top/target/release/examples}
pgbin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
work=$(mktemp -d "${BENCH_DIR:-/var/tmp}/daykeep-bench.XXXXXX")
chmod 755 "$work"

as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups env -C / "$@"
    else
        "$@"
    fi
}

start_server() {
    mkdir "$work/pg"
    [ "$(id -u)" != 0 ] || chown postgres "$work/pg"
    as_postgres "$pgbin/initdb" -D "$work/pg/data" -U postgres -A trust --no-sync >/dev/null
    as_postgres "$pgbin/pg_ctl" -D "$work/pg/data" -w -s -l "$work/pg/log" \
        -o "-c listen_addresses='' -c unix_socket_directories=$work/pg -c fsync=off -c max_wal_size=8GB -c shared_buffers=512MB" start
    export PGHOST=$work/pg PGUSER=postgres PGDATABASE=postgres
}

finish() {
    [ ! -d "$work/pg/data" ] || as_postgres "$pgbin/pg_ctl" -D "$work/pg/data" -s -m immediate stop || true
    rm -rf "$work"
}
trap finish EXIT

# configure NAME DATABASE TREE: a repository that is held by two commands that do nothing
configure() {
    cat >"$work/$1.toml" <<TOML
state_dir = "$work/state"
[repository.$1]
vault = "$work/vault"
[repository.$1.hold.command]
pause = ["true"]
release = ["true"]
[repository.$1.database]
host = "$PGHOST"
user = "postgres"
only = ["$2"]
[repository.$1.tree.files]
path = "$3"
TOML
    mkdir -p "$work/vault"
}

run_daykeep() { "$daykeep" --config "$work/$1.toml" --quiet run "$1" >/dev/null; }

held_ms() { jq '.hold.held_seconds * 1000 | . * 10 | round / 10' "$work/vault/$1/current/manifest.json"; }

median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
