#!/usr/bin/env bash
# shellcheck source=benches/lib.sh
# Does the hold grow with the data? The same changes on a repository of 10,000 files and on one with ten times the rows and FILES
# (1,000,000) files, in turn; prints every hold and the ratio of the medians.
source "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-5} many=${FILES:-1000000}
start_server
for size in small large; do
    scale=2 files=10000
    [ "$size" = small ] || scale=20 files=$many
    createdb "$size"
    "$pgbin/pgbench" -q -i -s "$scale" "$size" 2>/dev/null
    "$examples/make_tree" "$work/tree-$size" "$files" 256
    configure "$size" "$size" "$work/tree-$size"
    run_daykeep "$size"
done
for round in $(seq "$rounds"); do
    for size in small large; do
        psql -q -d "$size" -c "update pgbench_accounts set abalance = abalance + 1 where aid <= 500"
        for n in $(seq 20); do echo "$round $n" >"$work/tree-$size/changed-$n"; done
        run_daykeep "$size"
        held_ms "$size" >>"$work/held-$size"
    done
    echo "round $round: hold $(tail -n1 "$work/held-small") ms with 200,000 rows and 10,000 files," \
        "$(tail -n1 "$work/held-large") ms with 2,000,000 rows and $many files"
done
small=$(median <"$work/held-small") large=$(median <"$work/held-large")
echo "hold: median $small ms and $large ms, ratio large/small $(ratio "$large" "$small"), to reach 1.5" \
    "(trees fenced by $(jq -r '.trees.files.fence' "$work/vault/large/current/manifest.json"))"
