#!/bin/bash
# Where a stock kernel's time goes, seen from outside: tasks that yield are scheduling, one that spins is not.
. "$(dirname "$0")/lib.sh"
YIELD=${YIELD:?path of the yield program}
command -v jq >/dev/null || skip_all "no jq"
begin

profile() { jq -r ".profile | $1" "$work/report.json"; }

# runs TASKS SECONDS WHAT
runs() {
	rm -f "$work/stacks.folded"
	stasis_run -t 1n1l2c1t --timeout 5m --profile=500 --profile-out "$work/stacks.folded" \
		--report "$work/report.json" --include "$YIELD:/bin/yield" -- yield "$@"
	equal "$3: the guest ends 0" 0 "$status"
	sed -n '/^profile:/,$p' "$work/err" | sed 's/^/# /'
}

runs 20 8 yield
equal "yield: nothing is lacking" 0 "$(profile '.degraded | length')"
check "yield: a good part is the kernel's" test "$(profile '(.kernel_ns * 2 > .user_ns) and .samples > 100')" = true
check "yield: a third and more is scheduling" test "$(profile '.scheduling_share > 0.33')" = true
check "yield: in picking, queues and switches" test \
	"$(profile '.classes | .pick.share > 0.01 and .queue.share > 0.005 and .switch.share > 0.05')" = true
check "yield: each kind of class adds up" test \
	"$(profile '([.classes[].ns] | add) as $n | ($n - .kernel_ns | fabs) <= 20')" = true
check "yield: stacks go down to the system call" grep -q \
	'^yield;entry_SYSCALL_64_after_hwframe;do_syscall_64;.*sched_yield;schedule;__schedule' "$work/stacks.folded"
equal "yield: the tasks are the ones that yield" yield "$(profile '.tasks[0].name')"
check "yield: each with a pid of its own" test "$(profile '[.tasks[] | select(.name == "yield").pid] | length >= 10')" = true

runs 2 8 spin
check "spin: nearly all is the tasks' own" test "$(profile '.user_ns > 3 * .kernel_ns and .samples > 100')" = true
check "spin: nearly nothing is scheduling" test "$(profile '.scheduling_share < 0.1')" = true
equal "spin: the tasks are the ones that spin" yield "$(profile '.tasks[0].name')"
end
