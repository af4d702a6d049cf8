#!/bin/bash
# Where a stock kernel's time goes, seen from outside: tasks that yield are scheduling, ones that spin are not.
. "$(dirname "$0")/lib.sh"
YIELD=${YIELD:?path of the yield program}
command -v jq >/dev/null || skip_all "no jq"
begin

profile() { jq -r ".profile | $1" "$work/record/report.json"; }
# share NAME: of the busy time of the tasks called so, how much is scheduling.
share() { profile "[.tasks[] | select(.name == \"$1\")] | ([.[].scheduling_ns] | add) / ([.[].busy_ns] | add)"; }

stasis_run -t 1n1l2c1t --timeout 5m --profile=500 --record "$work/record" \
	-a schedstats=enable --include "$YIELD:/bin/yield" --include "$YIELD:/bin/spin" -- \
	sh -c 'yield 10 6 yield; spin 2 6 spin'
equal "the guest ends 0" 0 "$status"
sed -n '/^profile:/,$p' "$work/err" | sed 's/^/# /'
equal "nothing is lacking" 0 "$(profile '.degraded | length')"
check "it was sampled" test "$(profile '.samples > 100')" = true
check "classes add up" test "$(profile '([.classes[].ns] | add) as $n | ($n - .kernel_ns | fabs) <= 20')" = true
check "stacks go down to the system call" grep -q \
	'^yield;entry_SYSCALL_64_after_hwframe;do_syscall_64;.*sched_yield;schedule;__schedule' "$work/record/profile.folded"
# The first of each kind is their parent, which waits.
check "each task has a pid of its own" test \
	"$(profile '[.tasks[] | select(.name == "yield").pid] | unique | length >= 10')" = true
check "pick, queues and switches are seen" test \
	"$(profile '.classes | .pick.share > 0 and .queue.share > 0 and .switch.share > 0.01')" = true
echo "# scheduling: yield $(share yield), spin $(share spin)"
check "a third and more of those that yield is scheduling" test "$(jq -n "$(share yield) > 0.33")" = true
# In an emulated machine the tick alone takes a part that a real one's does not.
most=0.05
[ "$LAB" = --lab ] && most="$(share yield) / 2"
check "of those that spin it is next to nothing" test "$(jq -n "$(share spin) < $most")" = true

# A running guest: first many that yield, then many that wait for messages, as in hackbench. Two steady states, without
# how they came about.
name=profile$$
timeout 600 "$STASIS" run "$LAB" -q --name $name -t 1n1l2c1t --include "$YIELD:/bin/yield" --include "$YIELD:/bin/pass" -- \
	sh -c 'yield 200 500 yield; pass 40 500 pass' >"$work/out" 2>"$work/err" </dev/null &
run=$!
# steady TASKS: once so many run: of the kernel time of the guest, how much is scheduling.
steady() {
	for _ in $(seq 600); do
		grep -qx "$1 tasks run" "$work/err" && break
		sleep 0.2
	done
	timeout 120 "$STASIS" profile $name --seconds 6 --hz 397 --json >"$work/steady.json" 2>"$work/steady.err"
	jq '.scheduling_ns / .kernel_ns' "$work/steady.json"
}
yielding=$(steady 200)
timeout 60 "$STASIS" exec $name -- killall -9 yield </dev/null
passing=$(steady 40)
kill $run
wait $run
echo "# scheduling, of kernel time: 200 tasks that yield $yielding, 40 that pass messages $passing"
check "200 tasks that yield: most of the kernel's time is scheduling" test "$(jq -n "$yielding > 0.5")" = true
# 53 to 60 % were seen; in an emulated machine interrupts take more of it, the busier its host is.
check "messages: a large part of it is, too" test "$(jq -n "$passing > 0.4")" = true

for file in report.json profile.speedscope.json profile.folded profile.pb.gz monitor.csv trace.json; do
	check "the record has $file" test -s "$work/record/$file"
done
check "windows have switches and wake-ups" test \
	"$(profile '.windows.list | (map(.switches) | add) > 1000 and (map(.wakeups) | add) > 10')" = true
check "the trace is one that Perfetto draws" python3 "$(dirname "$0")/../unit/vm/check_trace.py" "$work/record/trace.json"
check "... with the tasks that ran, and what waited" test "$(jq '[.traceEvents[] | select(.name == "yield" and .ph == "X")] as $ran |
	[.traceEvents[] | select(.ph == "C" and (.name | startswith("run queue"))) | .args.waiting] as $waited |
	($ran | length) > 10 and ($waited | max) > 1' "$work/record/trace.json")" = true
"$STASIS" compare "$work/record" "$work/record" >"$work/same"
equal "the run does not differ from itself" 0 $?
check "... of all figures" test "$(grep -c 'no difference$' "$work/same")" -ge 8
end
