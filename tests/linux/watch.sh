#!/bin/bash
# Watches on a stock kernel, with KASLR and without a symbol file.
. "$(dirname "$0")/lib.sh"
command -v jq >/dev/null || skip_all "no jq"
begin
[ "$LAB" = --lab ] || "$STASIS" doctor --json | jq -e '.[] | select(.name == "watchpoints").ok' >/dev/null ||
	skip_all "this host's KVM tells of no watched store"

# report FILTER: of the last run's.
report() { jq -r "$1" "$work/report.json"; }
dump() { jq -r "$1" "$work/dump.json"; }

# ---- a condition that holds now and then --------------------------------------------------------
stasis_run -t 1n1l2c1t --watch 'jiffies_64:8&0x100' --on-hit log --report "$work/report.json" -- sleep 4
equal "log: the guest ends as ever" 0 "$status"
check "log: hits are counted" test "$(report '.watches[0].hits')" -gt 2
check "log: ... fewer than stores" test "$(report '.watches[0].hits')" -lt "$(report '.watches[0].stores')"
matches "log: ... and told" "*watch jiffies_64:8&0x100: *stored by vCPU*" "$(cat "$work/err")"
equal "log: nothing stops" "0" "$(report '.freezes | length')"
equal "log: nothing is lacking" "0" "$(report '.degraded | length')"

stasis_run -t 1n1l2c1t --watch 'jiffies_64:8&0x100' --dump "$work/dump.json" --report "$work/report.json" -- \
	sh -c 'for i in 1 2 3; do (while :; do :; done) & done; sleep 5; echo through'
equal "dump: the guest goes on to its end" "0 through" "$status $out"
equal "dump: it stopped once" "watch:jiffies_64:8&0x100 $work/dump.json" \
	"$(report '.freezes[] | .cause + " " + .dump')"
equal "dump: the watch is over then" "over 1" "$(report '.watches[0] | "\(.state) \(.hits)"')"
equal "dump: the value passes" 256 $(($(dump .watch.after) & 0x100))
check "dump: and is the next of the one before" test "$(dump .watch.before)" -lt "$(dump .watch.after)"
writer=$(dump .watch.vcpu)
equal "dump: both vCPUs are there" 2 "$(dump '.vcpus | length')"
matches "dump: the writer is in the kernel's timekeeping" "*do_timer*" \
	"$(dump ".vcpus[$writer] | [.symbol, .stack[].symbol] | join(\" \")" | sed 's/tick_do_update_jiffies64/do_timer/')"
equal "dump: each vCPU has a task" 2 "$(dump '[.vcpus[].task.name | select(length > 0)] | length')"
equal "dump: kernel and user stacks are whole" 2 "$(dump '[.vcpus[].stack_complete | select(.)] | length')"
equal "dump: the kernel's release" "$(report .kernel.release)" "$(dump .kernel.release)"

# ---- through a pointer: process 1's context switches ----------------------------------------------
stasis_run -t 1n1l2c1t --watch 'init_pid_ns.child_reaper->nvcsw' --watch jiffies_64 --watch 'jiffies_64:4==1' \
	--dump "$work/dump.json" --report "$work/report.json" -- \
	sh -c 'for i in 1 2 3 4 5; do echo line; sleep 0.1; done'
equal "pointer: the guest ends well" 0 "$status"
equal "pointer: it fires" over "$(report '.watches[0].state')"
equal "pointer: so does another" over "$(report '.watches[1].state')"
# One that hits while the other's dump is taken is counted, and has its dump at its next hit.
matches "pointer: a hit each, or one more where both hit at the same time" '[23]' \
	"$(report '[.watches[].hits] | add')"
equal "pointer: a condition that never holds does not" "armed 0" "$(report '.watches[2] | "\(.state) \(.hits)"')"
equal "pointer: one dump for each" \
	"watch:init_pid_ns.child_reaper->nvcsw watch:jiffies_64" "$(report '[.freezes[].cause] | sort | join(" ")')"

# ---- frozen until somebody says so ------------------------------------------------------------------
"$STASIS" run "$LAB" -t 1n1l2c1t --name held --watch 'jiffies_64&0x100' --on-hit freeze --report "$work/report.json" -- \
	sleep 1000 >"$work/out" 2>"$work/err" </dev/null &
pid=$!
until_frozen() {
	for _ in $(seq 1200); do
		! "$STASIS" status held 2>/dev/null | grep -q frozen || return 0
		kill -0 $pid 2>/dev/null || return 1
		sleep 0.1
	done
	return 1
}
check "freeze: it stops at the hit" until_frozen
check "freeze: a dump can be had" "$STASIS" dump held "$work/dump.json"
equal "freeze: of both vCPUs" 2 "$(dump '.vcpus | length')"
check "freeze: and it goes on" "$STASIS" thaw held
check "freeze: to the next hit" until_frozen
kill $pid
wait $pid
equal "freeze: ended at a hit" 120 $?
equal "freeze: the report says so" hit "$(report .outcome)"

# ---- what can't be watched -----------------------------------------------------------------------------
refused() { # refused WHAT PATTERN EXPR...
	local what=$1 pattern=$2
	shift 2
	stasis_run "$@" -- true
	equal "refused: $what" 125 "$status"
	matches "refused: ... with the reason" "$pattern" "$(cat "$work/err")"
}
refused "an unknown symbol" "*did you mean jiffies_64*" --watch jifies_64
refused "an unknown field" "*did you mean nvcsw*" --watch init_task.nvcws
refused "a whole struct" "*1, 2, 4 or 8 can be watched*" --watch init_task
refused "user memory" "*user memory*" --watch 0x400000:4
refused "a misaligned address" "*not aligned*" --watch 0xffffffff81000001:4
refused "nothing is mapped" "*nothing is mapped*" --watch 0xfffffffffffff000:8
refused "three bytes" "*1, 2, 4 or 8 bytes*" --watch jiffies_64:3
refused "a fourth watch" "*3 at most*" --watch jiffies --watch jiffies --watch jiffies --watch jiffies
refused "a scheduler's end without sched_ext" "*no sched_ext*" --watch-scx
end
