#!/usr/bin/env bash
# shellcheck source=benches/lib.sh
# The nightly run against what an admin would use instead: the trees against rsync, restic and the bare system calls, the dump
# against pg_dumpall, pg_dump and bare COPY, the hold against the script, the removal against rm. Each pair in turn, warm cache, after one
# round that is not counted; prints every round and the ratio of the medians with what it should reach.
source "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-5} files=${FILES:-200000} scale=${SCALE:-60}
parts=${PARTS:-trees database hold} layouts=${LAYOUTS:-256 65536}

record() { echo "$2" >>"$work/times-$1"; }
last() { tail -n 1 "$work/times-$1"; }
median_of() { tail -n +2 "$work/times-$1" | median; }

# clock NAME COMMAND...: runs it and records how many seconds it took.
clock() {
    local name=$1 began=$EPOCHREALTIME
    shift
    "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; return 1; }
    record "$name" "$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }')"
}

# judge WHAT OURS THEIRS GOAL
judge() {
    local ours theirs
    ours=$(median_of "$2") theirs=$(median_of "$3")
    awk -v what="$1" -v a="$ours" -v b="$theirs" -v goal="$4" -v names="$2 $3" 'BEGIN {
        split(names, n); r = a / b
        printf "%s: %s / %s: ratio %.3f, to reach %s: %s\n", what, a, b, r, goal, (r <= goal) ? "reached" : "NOT REACHED" }' |
        tee -a "$work/verdicts"
}

# tell WHAT OURS THEIRS: a ratio that nothing asks for, but that explains another one.
tell() {
    awk -v what="$1" -v a="$(median_of "$2")" -v b="$(median_of "$3")" 'BEGIN { printf "  %s: %s / %s: ratio %.3f\n", what, a, b, a / b }' |
        tee -a "$work/verdicts"
}

# A repository that is held by two commands that do nothing; `keep` is one day that is always removed by hand.
repository() { # repository NAME TREE [DATABASE]
    cat >"$work/$1.toml" <<TOML
state_dir = "$work/state"
[repository.$1]
vault = "$work/vault"
[repository.$1.keep]
last = 100
[repository.$1.hold.command]
pause = ["true"]
release = ["true"]
[repository.$1.tree.files]
path = "$2"
TOML
    [ $# -lt 3 ] || cat >>"$work/$1.toml" <<TOML
[repository.$1.database]
host = "$PGHOST"
user = "postgres"
only = ["$3"]
TOML
    mkdir -p "$work/vault" "$work/state"
}

newest() { readlink -f "$work/vault/$1/current"; }

# Into the page cache, before each command that reads it: some machines give back what was not read for a while, and then whoever came
# first would read for all.
warm() { find "$@" -type f -exec cat {} + >/dev/null; }
# The same for names and inodes.
warm_names() { find "$@" -size +0 >/dev/null; }

trees() { # trees LAYOUT
    local tree=$work/tree-$1 repo=trees$1 goal=0.25
    [ "$1" = 256 ] || goal=0.6
    "$examples/make_tree" "$tree" "$files" "$1"
    repository "$repo" "$tree"
    for round in $(seq 0 "$rounds"); do
        mkdir -p "$work/gone" && for old in "$work/vault/$repo" "$work/rsync" "$work/restic" "$work/floor"; do [ ! -e "$old" ] || mv "$old" "$work/gone/$round-$(basename "$old")"; done
        # Not removed before the last round: ext4 makes files slowly where many were removed within the last minutes.
        mkdir "$work/rsync" && sync && warm "$tree"
        clock "first-daykeep-$1" run_daykeep "$repo"
        sync && warm "$tree"
        clock "first-rsync-$1" rsync -a "$tree/" "$work/rsync/1/"
        clock "flush-rsync-$1" sync -f "$work"
        record "first-flushed-$1" "$(awk -v a="$(last "first-rsync-$1")" -v b="$(last "flush-rsync-$1")" 'BEGIN { print a + b }')"
        warm "$tree"
        clock "first-floor-$1" "$examples/tree_floor" copy "$tree" "$work/floor"
        if command -v restic >/dev/null; then
            RESTIC_PASSWORD=x restic -q init -r "$work/restic" >/dev/null
            warm "$tree"
            RESTIC_PASSWORD=x clock "first-restic-$1" restic -q backup --no-cache -r "$work/restic" "$tree"
            sync
        fi
        warm_names "$tree" "$(newest "$repo")/trees/files"
        clock "next-daykeep-$1" run_daykeep "$repo"
        sync && warm_names "$tree" "$work/rsync/1"
        clock "next-rsync-$1" rsync -a --link-dest="$work/rsync/1/" "$tree/" "$work/rsync/2/"
        sync && warm_names "$work/rsync/2"
        clock "next-floor-$1" "$examples/tree_floor" link "$work/rsync/2" "$work/rsync/3"
        sync && warm_names "$work/rsync/2"
        clock "next-careful-$1" "$examples/tree_floor" look-and-link "$work/rsync/2" "$work/rsync/5"
        sync
        # One day has to go: the newest two are the same, and the first is the one that is removed.
        cp -al "$(newest "$repo")/trees/files" "$work/rsync/4"
        sync && warm_names "$work/vault/$repo/days" "$work/rsync/4"
        sed -i 's/^last = .*/last = 1/' "$work/$repo.toml"
        clock "remove-daykeep-$1" "$daykeep" --config "$work/$repo.toml" --quiet prune "$repo"
        sed -i 's/^last = .*/last = 100/' "$work/$repo.toml"
        sync
        clock "remove-rm-$1" rm -rf "$work/rsync/4"
        echo "round $round, $1 directories: first day: daykeep $(last first-daykeep-$1), rsync $(last first-rsync-$1)" \
            "(and its flush $(last flush-rsync-$1)), floor $(last first-floor-$1)," \
            "restic $(last "first-restic-$1" 2>/dev/null || echo -); unchanged day: daykeep $(last next-daykeep-$1)," \
            "rsync $(last next-rsync-$1), floor $(last next-floor-$1), with a look at what is linked $(last next-careful-$1); removal: daykeep $(last remove-daykeep-$1)," \
            "rm $(last remove-rm-$1)"
    done
    judge "unchanged day, $1 directories, against rsync -a --link-dest" "next-daykeep-$1" "next-rsync-$1" "$goal"
    judge "unchanged day, $1 directories, against stat and link" "next-daykeep-$1" "next-floor-$1" 1.5
    tell "the same against stat, a look at what is linked, and link" "next-daykeep-$1" "next-careful-$1"
    judge "first day, $1 directories, against rsync -a" "first-daykeep-$1" "first-rsync-$1" 0.8
    tell "the same against rsync -a and its flush, which a day has in it" "first-daykeep-$1" "first-flushed-$1"
    tell "the same against two threads that copy and flush" "first-daykeep-$1" "first-floor-$1"
    [ ! -e "$work/times-first-restic-$1" ] ||
        judge "first day, $1 directories, against restic backup" "first-daykeep-$1" "first-restic-$1" 0.5
    judge "removing a day, $1 directories, against rm -rf" "remove-daykeep-$1" "remove-rm-$1" 0.7
    rm -rf "$tree" "$work/vault/$repo" "$work/rsync" "$work/restic" "$work/gone" "$work/floor"
}

dump_gzip() { pg_dumpall | gzip >"$work/all.sql.gz"; }
dump_directory() { rm -rf "$work/dir" && pg_dump -Fd -j2 -Z1 -f "$work/dir" bench; }
dump_zstd() { pg_dumpall | zstd -q -3 -f -o "$work/all.sql.zst"; }
bare_copy() {
    psql -At bench -c "select quote_ident(relname) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace
        order by relpages desc" | xargs -P 2 -I{} psql -q bench -c '\copy {} to /dev/null'
}
# What each of the following reads: the rows, and the last day. Who comes first after a VACUUM FULL, or after a command that took long, would
# pay for it.
warm_rows() {
    bare_copy && sync
    [ ! -e "$work/vault/rows" ] || warm "$(newest rows)"
}

database() {
    createdb bench
    "$pgbin/pgbench" -q -i -s "$scale" bench 2>/dev/null
    psql -q bench <<'SQL'
CREATE TABLE docs (id bigint PRIMARY KEY, owner int NOT NULL, title text NOT NULL, body text NOT NULL);
INSERT INTO docs SELECT n, n % 1000, 'document ' || n,
    (SELECT string_agg(md5((n * 100 + i)::text), ' ') FROM generate_series(1, 65) i) FROM generate_series(1, 220000) n;
CREATE INDEX ON docs (owner);
SQL
    psql -q bench -c 'vacuum (freeze, analyze)' -c checkpoint
    mkdir -p "$work/few"
    repository rows "$work/few" bench
    for round in $(seq 0 "$rounds"); do
        rm -rf "$work/vault/rows"
        psql -q bench -c checkpoint
        warm_rows
        clock dump-daykeep run_daykeep rows
        warm_rows
        clock dump-gzip dump_gzip
        warm_rows
        clock dump-directory dump_directory
        warm_rows
        clock again-daykeep run_daykeep rows
        record again-bytes "$(jq .database.new_bytes "$(newest rows)/manifest.json")"
        warm_rows
        clock again-copy bare_copy
        clock dump-zstd dump_zstd
        psql -q bench -c "update pgbench_accounts set abalance = abalance + 1 where random() < 0.01" \
            -c "update docs set title = title || '!' where random() < 0.01"
        clock changed-daykeep run_daykeep rows
        record changed-bytes "$(jq .database.new_bytes "$(newest rows)/manifest.json")"
        record zstd-bytes "$(stat -c %s "$work/all.sql.zst")"
        psql -q bench -c 'vacuum full'
        echo "round $round, database: daykeep $(last dump-daykeep), pg_dumpall | gzip $(last dump-gzip), pg_dump -Fd -j2 -Z1" \
            "$(last dump-directory); nothing changed: daykeep $(last again-daykeep) ($(last again-bytes) new bytes)," \
            "bare COPY $(last again-copy); 1 % changed: $(last changed-daykeep) ($(last changed-bytes) new bytes)"
    done
    judge "dump, full, against pg_dumpall | gzip" dump-daykeep dump-gzip 0.27
    judge "dump, full, against pg_dump -Fd -j2 -Z1" dump-daykeep dump-directory 0.65
    judge "dump, nothing changed, against two COPYs to /dev/null" again-daykeep again-copy 1.3
    judge "bytes a day at 1 % changed, against a full dump with zstd" changed-bytes zstd-bytes 0.02
}

# What the cron script does while everything stands still.
script() {
    pg_dumpall | gzip >"$work/all.sql.gz"
    rsync -a --link-dest="$work/rsync/1/" "$work/tree/" "$work/rsync/2/"
}

hold() {
    psql -lqtA | grep -q '^bench|' || { createdb bench && "$pgbin/pgbench" -q -i -s "$scale" bench 2>/dev/null; }
    "$examples/make_tree" "$work/tree" "$files" 256
    repository whole "$work/tree" bench
    mkdir -p "$work/rsync" && rsync -a "$work/tree/" "$work/rsync/1/"
    run_daykeep whole
    for round in $(seq 0 "$rounds"); do
        psql -q bench -c "update pgbench_accounts set abalance = abalance + 1 where aid <= 500"
        for n in $(seq 20); do echo "$round $n" >"$work/tree/changed-$n"; done
        run_daykeep whole
        record hold-daykeep "$(jq .hold.held_seconds "$(newest whole)/manifest.json")"
        rm -rf "$work/rsync/2" && sync
        clock hold-script script
        echo "round $round: held by daykeep $(last hold-daykeep) s, by the script $(last hold-script) s"
    done
    judge "hold, against the script" hold-daykeep hold-script 0.01
}

start_server
for part in $parts; do
    if [ "$part" = trees ]; then for layout in $layouts; do trees "$layout"; done; else "$part"; fi
done
echo
cat "$work/verdicts"
