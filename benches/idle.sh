#!/usr/bin/env bash
# shellcheck source=benches/lib.sh
# The daemon with a schedule and nothing to do: its memory, and how often its threads wake up, over IDLE_SECONDS (default 60), without a
# watchdog and with one of the unit's length (60 s, of which the daemon gives a sign every third).
source "$(dirname "$0")/lib.sh"

seconds=${IDLE_SECONDS:-60}

cat >"$work/idle.toml" <<TOML
state_dir = "$work/state"
[daemon]
socket = "$work/s"
[repository.idle]
vault = "$work/vault"
schedule = "0 1 * * *"
[repository.idle.hold.command]
pause = ["true"]
release = ["true"]
[repository.idle.tree.files]
path = "$work/tree"
[repository.idle.drill]
schedule = "0 3 * * 0"
TOML
mkdir "$work/vault" "$work/tree"
echo one >"$work/tree/one"

wakes() { awk '/^voluntary_ctxt_switches/ { sum += $2 } END { print sum }' /proc/"$1"/task/*/status; }
kb() { awk -v key="$2:" '$1 == key { print $2 }' "/proc/$1/$3"; }

idle() { # idle WATCHDOG_USEC WHAT
    env -u NOTIFY_SOCKET ${1:+WATCHDOG_USEC=$1} "$top/target/release/daykeepd" --config "$work/idle.toml" 2>"$work/log" &
    local daemon=$!
    for _ in $(seq 100); do [ -S "$work/s" ] && break; sleep 0.1; done
    curl -fs --unix-socket "$work/s" http://localhost/v1/status >/dev/null
    # The connection ends, and threads that answered.
    sleep 15
    local before after
    before=$(wakes "$daemon")
    sleep "$seconds"
    after=$(wakes "$daemon")
    echo "idle: $2: $((after - before)) wake-ups of its threads in $seconds s; resident $(($(kb "$daemon" VmRSS status) / 1024)) MB," \
        "of which its own $(($(kb "$daemon" RssAnon status) / 1024)) MB"
    kill "$daemon"
    wait "$daemon" || true
}

idle "" "no watchdog"
idle 60000000 "a watchdog of 60 s"
