#!/usr/bin/env bash
# shellcheck source=benches/lib.sh
# How long does a restore take, against what an admin would use instead? The database: `daykeep restore`, `psql` of what pg_dumpall
# wrote, `pg_restore -j2` of what `pg_dump -Fd -j2` wrote, each into a server with fsync on that lacks the database. The
# trees: `daykeep restore` and `rsync -a`, into an empty directory and onto a tree of which some was changed; there rsync goes by sizes and
# times, and with `--checksum` it reads every byte, as a restore does before it changes anything. In turn, after
# one round that is not counted; prints every round and the ratios of the medians. PARTS says which.
source "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-5}
scale=${SCALE:-45}
files=${FILES:-50000}
parts=${PARTS:-database trees}

# seconds COMMAND...: runs it, prints how long it took.
seconds() {
    local began=$EPOCHREALTIME
    "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; return 1; }
    awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }'
}

record() { echo "$2" >>"$work/times-$1"; }
last() { tail -n 1 "$work/times-$1"; }
median_of() { tail -n +2 "$work/times-$1" | median; }
against() {
    echo "$1: daykeep $(median_of "$2") s, $3 $(median_of "$4") s, ratio $(ratio "$(median_of "$2")" "$(median_of "$4")")" >>"$work/verdicts"
}

restore() { "$daykeep" --config "$work/bench.toml" --quiet restore bench latest --yes "$@"; }
confirm() { "$daykeep" --config "$work/bench.toml" --quiet restore bench --confirm --yes; }

start_server
createdb bench
stop_target() {
    [ ! -d "$work/target/data" ] ||
        as_postgres "$pgbin/pg_ctl" -D "$work/target/data" -s -m immediate stop || true
    finish
}
trap stop_target EXIT

start_target() {
    mkdir "$target_host"
    [ "$(id -u)" != 0 ] || chown postgres "$target_host"
    as_postgres "$pgbin/initdb" -D "$target_host/data" -U postgres -A trust --no-sync >/dev/null
    as_postgres "$pgbin/pg_ctl" -D "$target_host/data" -w -s -l "$target_host/log" \
        -o "-c listen_addresses='' -c unix_socket_directories=$target_host -c max_wal_size=8GB -c shared_buffers=512MB" start
}

fill_database() {
    "$pgbin/pgbench" -q -i -s "$scale" bench 2>/dev/null
    psql -q bench -v docs=$((scale * 4000)) <<'SQL'
CREATE TABLE docs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner int NOT NULL, title text NOT NULL, body text NOT NULL);
INSERT INTO docs (owner, title, body)
    SELECT n % 1000, 'document ' || n, (SELECT string_agg(md5((n * 100 + i)::text), ' ') FROM generate_series(1, 60) i)
    FROM generate_series(1, :docs) n;
CREATE INDEX ON docs (owner);
CREATE INDEX ON docs (title);
SQL
}

target_host=$work/target
on_target() { env PGHOST="$target_host" "$@"; }
drop_target() { on_target dropdb --if-exists -f bench; }
flush() { sync; on_target psql -qc checkpoint; }
by_daykeep() { restore --only database --to-server "host=$target_host user=postgres"; }
by_psql() { on_target psql -q -f "$work/all.sql" postgres; }
by_pg_restore() { on_target pg_restore -j2 --create -d postgres "$work/dir"; }
analyze() { on_target vacuumdb -q -Z -j2 bench; }

database() {
    start_target
    pg_dumpall >"$work/all.sql"
    pg_dump -Fd -j2 -Z1 -f "$work/dir" bench
    for round in $(seq 0 "$rounds"); do
        for way in daykeep psql pg_restore; do
            drop_target
            flush
            record "database-$way" "$(seconds "by_$way")"
            if [ "$way" = daykeep ]; then
                confirm >/dev/null 2>&1 || true
            else
                record "analyze-$way" "$(seconds analyze)"
                paste "$work/times-database-$way" "$work/times-analyze-$way" | awk '{ print $1 + $2 }' >"$work/times-analyzed-$way"
            fi
        done
        echo "round $round: database: daykeep $(last database-daykeep) s (with ANALYZE), psql $(last database-psql) s and" \
            "$(last analyze-psql) s for ANALYZE, pg_restore -j2 $(last database-pg_restore) s and $(last analyze-pg_restore) s"
    done
    against "database" database-daykeep "psql" database-psql
    against "database" database-daykeep "pg_restore -j2" database-pg_restore
    against "database, ANALYZE counted" database-daykeep "psql" analyzed-psql
    against "database, ANALYZE counted" database-daykeep "pg_restore -j2" analyzed-pg_restore
}

change() {
    find "$work/tree" -type f | awk -v most=$((files / 200)) 'NR % 100 == 0 && n++ < most' | xargs -d '\n' -n 500 truncate -s 10
    find "$work/tree" -type f | awk -v most=$((files / 200)) 'NR % 100 == 50 && n++ < most' | xargs -d '\n' rm -f
    for n in $(seq 100); do echo "$n" >"$work/tree/new-$n"; done
}
empty_by_daykeep() { restore --only trees --to "$work/out"; }
# What daykeep says is there survives a power cut: rsync's files are flushed, too.
empty_by_rsync() { mkdir -p "$work/out" && rsync -a "$day/" "$work/out/files/" && sync -f "$work/out"; }
changed_by_daykeep() { restore --only trees; }
changed_by_rsync() { rsync -a --delete "$day/" "$work/tree/" && sync -f "$work/tree"; }
changed_by_checksum() { rsync -a --checksum --delete "$day/" "$work/tree/" && sync -f "$work/tree"; }

trees() {
    day=$work/vault/bench/current/trees/files
    mkdir "$work/gone"
    for round in $(seq 0 "$rounds"); do
        for way in daykeep rsync checksum; do
            # Not removed before the end: ext4 makes files slowly where many were removed within the last minutes.
            [ ! -e "$work/out" ] || mv "$work/out" "$work/gone/$round-$way"
            sync
            [ "$way" = checksum ] || record "empty-$way" "$(seconds "empty_by_$way")"
            change
            sync
            record "changed-$way" "$(seconds "changed_by_$way")"
            [ "$way" != daykeep ] || confirm
        done
        echo "round $round: tree: into an empty directory daykeep $(last empty-daykeep) s, rsync -a $(last empty-rsync) s; onto a" \
            "changed tree daykeep $(last changed-daykeep) s, rsync -a --delete $(last changed-rsync) s, with --checksum" \
            "$(last changed-checksum) s"
    done
    against "tree, into an empty directory" empty-daykeep "rsync -a" empty-rsync
    against "tree, onto a changed one" changed-daykeep "rsync -a --delete" changed-rsync
    against "tree, onto a changed one, every byte read" changed-daykeep "rsync -a --checksum --delete" changed-checksum
}

case " $parts " in *" database "*) fill_database ;; esac
"$examples/make_tree" "$work/tree" "$files" 256
configure bench bench "$work/tree"
run_daykeep bench
echo "database: $(psql -Atc "select pg_size_pretty(pg_database_size('bench'))"); tree: $files files"
for part in $parts; do "$part"; done
cat "$work/verdicts"
