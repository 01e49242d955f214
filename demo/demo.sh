#!/usr/bin/env bash
# The main job, end to end: a PostgreSQL server with tens of megabytes, a repository of thousands of files and a scheduler that
# adds jobs, rows and files all the while; two days kept by daykeepd; the newer one verified and drilled; both restored by their own
# restore.sh, without daykeep, and compared with what was recorded at the freeze point; then the worst day: the database dropped and
# files destroyed under the running scheduler, restored in place by one command, compared again, taken back, restored once more.
# Everything lives in one directory, which is removed at the end.
#
# DEMO_KEEP=1 leaves the directory, DEMO_DIR says where it is made (default /var/tmp).
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
programs=${PROGRAMS:-$top/target/release}
pgbin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)
work=$(mktemp -d "${DEMO_DIR:-/var/tmp}/daykeep-demo.XXXXXX")
chmod 755 "$work"
port=$((20000 + RANDOM % 20000))
daemon=

say() { printf '\n== %s\n' "$*"; }

as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups env -C / "$@"
    else
        "$@"
    fi
}

start_server() { # start_server DIRECTORY
    mkdir "$1"
    [ "$(id -u)" != 0 ] || chown postgres "$1"
    as_postgres "$pgbin/initdb" -D "$1/data" -U postgres -A trust --no-sync >/dev/null
    as_postgres "$pgbin/pg_ctl" -D "$1/data" -w -s -l "$1/log" \
        -o "-c listen_addresses='' -c unix_socket_directories=$1 -c fsync=off -c max_wal_size=2GB" start
}

stop_server() { as_postgres "$pgbin/pg_ctl" -D "$1/data" -s -m immediate stop || true; }

finish() {
    status=$?
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    pkill -KILL -f "fossology_scheduler.*$work" 2>/dev/null || true
    for server in "$work"/server "$work"/restored-*; do
        [ ! -e "$server/data/postmaster.pid" ] || stop_server "$server"
    done
    if [ "$status" != 0 ]; then
        echo "demo: FAILED; the daemon's log ends with:"
        tail -n 20 "$work/daykeepd.log" 2>/dev/null || true
    fi
    [ -n "${DEMO_KEEP:-}" ] || rm -rf "$work"
}
trap finish EXIT

say "a PostgreSQL server with two databases"
start_server "$work/server"
export PGHOST=$work/server PGUSER=postgres PGDATABASE=postgres
createdb fossology
createdb bench
"$pgbin/pgbench" -q -i -s 4 bench 2>/dev/null
"$programs/examples/fossology_scheduler" schema --database "host=$PGHOST user=postgres dbname=fossology"

say "a scheduler that adds jobs, rows and files all the while"
mkdir -p "$work/repository" "$work/etc"
echo "[FOSSOLOGY] depth=3" >"$work/etc/fossology.conf"
cat >"$work/start-scheduler" <<SH
#!/bin/sh
setsid "$programs/examples/fossology_scheduler" run --port $port --repository "$work/repository" --sysconf "$work/etc" \\
    --database "host=$PGHOST user=postgres dbname=fossology" --reset --slots 4 --agent-ms 50 --files 50 --file-bytes 6000 \\
    --busy-ms 1000 </dev/null >>"$work/scheduler.log" 2>&1 &
SH
chmod +x "$work/start-scheduler"
"$work/start-scheduler"
"$programs/examples/fossology_scheduler" queue --database "host=$PGHOST user=postgres dbname=fossology" --count 100
until [ "$(psql -At -d fossology -c 'select count(*) from jobqueue where jq_end_bits = 1')" -ge 100 ]; do sleep 0.2; done
echo "$(find "$work/repository" -type f | wc -l) files, $(psql -At -c \
    'select pg_size_pretty(sum(pg_database_size(oid))) from pg_database where datallowconn') in the databases"

say "daykeepd"
cat >"$work/daykeep.toml" <<TOML
state_dir = "$work/state"

[daemon]
socket = "$work/daykeep.sock"

[repository.demo]
vault = "$work/vault"
schedule = "0 1 * * *"
timezone = "Europe/Berlin"

[repository.demo.hold]
max = "1m"
drain = "1m"

[repository.demo.hold.fossology]
address = "127.0.0.1:$port"
start = ["$work/start-scheduler"]
database = "fossology"
agent_match = "$work/etc"

[repository.demo.database]
host = "$PGHOST"
user = "postgres"

[repository.demo.tree.repository]
path = "$work/repository"
content_named = true

[repository.demo.tree.configuration]
path = "$work/etc"

[repository.demo.check.files]
builtin = "fossology"
database = "fossology"
tree = "repository"
TOML
mkdir "$work/vault"
daykeep() { "$programs/daykeep" --config "$work/daykeep.toml" "$@"; }
daykeep config check
"$programs/daykeepd" --config "$work/daykeep.toml" >"$work/daykeepd.log" 2>&1 &
daemon=$!
until curl -s --unix-socket "$work/daykeep.sock" http://localhost/v1/status >/dev/null; do
    kill -0 "$daemon"
    sleep 0.1
done
daykeep status

keep_a_day() {
    job=$(daykeep run demo --detach --json | jq .job.id)
    daykeep watch "$job"
}

say "the first day"
keep_a_day
first=$(readlink -f "$work/vault/demo/current")

say "life goes on: rows change, the scheduler works"
"$pgbin/pgbench" -n -T 3 -c 2 bench >/dev/null 2>&1
sleep 3

say "the second day"
keep_a_day
second=$(readlink -f "$work/vault/demo/current")
[ "$first" != "$second" ]
daykeep list
daykeep status

for day in "$first" "$second"; do
    say "restoring $(basename "$day") by its own restore.sh, without daykeep"
    server=$work/restored-$(basename "$day")
    files=$work/files-$(basename "$day")
    start_server "$server"
    PGHOST=$server "$day/restore.sh" --files "$files" >"$work/restore.log" 2>&1 || { cat "$work/restore.log"; exit 1; }
    "$programs/examples/compare_day" "$day" "$server" 5432 postgres "$files"
    stop_server "$server"
done

say "the second day is verified, and proven by a drill: restored into a scratch server, compared, thrown away"
daykeep verify demo latest
daykeep drill demo latest
daykeep status

say "the worst day: a database is dropped, the scheduler is dead, files are gone and others are damaged"
pkill -KILL -f "fossology_scheduler.*$work"
dropdb --force fossology
psql -qd bench -c 'truncate pgbench_accounts'
find "$work/repository" -type f | awk 'NR % 3 == 0' | xargs -d '\n' rm -f
find "$work/repository" -type f | awk 'NR % 7 == 0' | xargs -d '\n' -n 1 cp /etc/hostname
psql -Atc "select count(*) || ' rows left in pgbench_accounts' from pgbench_accounts" bench
databases() { psql -Atc "select datname from pg_database order by 1" | tr '\n' ' '; }
state_before="$(databases) $(find "$work/repository" -type f -exec sha256sum {} + | sort | sha256sum)"

say "restored in place, by one command"
daykeep restore demo latest --plan
daykeep restore demo latest --yes
mkdir "$work/live"
ln -s "$work/repository" "$work/live/repository"
ln -s "$work/etc" "$work/live/configuration"
"$programs/examples/compare_day" "$second" "$PGHOST" 5432 postgres "$work/live"

say "taken back: everything is as destroyed as it was"
daykeep restore demo --undo --yes
[ "$state_before" = "$(databases) $(find "$work/repository" -type f -exec sha256sum {} + | sort | sha256sum)" ]
echo "the same databases and the same files, to the last byte"

say "restored again, and confirmed"
daykeep restore demo latest --yes
"$programs/examples/compare_day" "$second" "$PGHOST" 5432 postgres "$work/live"
daykeep restore demo --confirm --yes
databases
echo
"$work/start-scheduler"

say "what it took"
jq -r '"\(.day): held \(.hold.held_seconds * 1000 | round) ms, " +
    "\((.database.new_bytes + ([.trees[].copied_bytes] | add)) / 1e6 * 10 | round / 10) MB new, " +
    "\([.database.databases[].row_bytes] | add / 1e6 | round) MB of rows, " +
    "\([.trees[].files] | add) files, checked \([.checks[].rows] | add) rows against them"' \
    "$first/manifest.json" "$second/manifest.json"
new() { jq '.database.new_bytes + ([.trees[].copied_bytes] | add)' "$1/manifest.json"; }
awk -v first="$(new "$first")" -v second="$(new "$second")" 'BEGIN {
    printf "the second day is %.1f %% of the first in new bytes\n", 100 * second / first
    exit !(second < first / 3)
}'
kill -0 "$daemon"
curl -s --unix-socket "$work/daykeep.sock" http://localhost/v1/status >/dev/null
[ "$(psql -At -d fossology -c "select count(*) from upload where upload_pk > 100")" -gt 0 ]
echo
echo "demo: ok"
