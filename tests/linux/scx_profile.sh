#!/bin/bash
# What BPF schedulers cost, seen from outside: their programs by name, and the same workload without one.
. "$(dirname "$0")/lib.sh"
YIELD=${YIELD:?path of the yield program}
command -v jq >/dev/null || skip_all "no jq"
begin
scx_kernel
name=scx$$

# has FILE PROGRAM...: the profile in FILE names them, with what they cost, and the scheduler as a class.
has() {
	local file=$1 of program row
	of=$(basename "$1" .json)
	shift
	for program; do
		row=$(jq ".programs[] | select(.program == \"$program\")" "$file")
		check "$of: $program is told by its symbol" test "$(jq -r .name <<<"$row" |
			grep -cE "^bpf_prog_[0-9a-f]{16}_$program \[bpf\]$")" = 1
		check "$of: ... with its share" test "$(jq '.share > 0 and .share < 1 and .share >= .self_share' <<<"$row")" = true
	done
	check "$of: the scheduler is a class" test "$(jq '.classes.bpf_scheduler.share > 0' "$file")" = true
	check "$of: and so is sched_ext's core" test "$(jq '.classes.sched_ext.share > 0' "$file")" = true
	check "$of: ... and not by those of others" test "$(jq "[.programs[] | select(.program | test(\"^(simple|central|qmap)_\")) | select(.program | startswith(\"${of}_\") | not)] | length" "$file")" = 0
}

# A record of a run, with the start of a scheduler.
stasis_run -k "$scx_kernel" -t 1n1l2c1t --timeout 5m --profile=397 --record "$work/record" \
	--include "$YIELD:/bin/yield" --include "$scx/scx_simple:/bin/scx_simple" -- sh -c '
		scx_simple >/tmp/out 2>&1 &
		until [ "$(cat /sys/kernel/sched_ext/state)" = enabled ]; do sleep 0.1; done
		yield 10 5 yield
		cat /sys/kernel/sched_ext/root/ops'
equal "a record: it ran, and the guest ends 0" "0 simple" "$status $out"
sed -n '/^profile:/,$p' "$work/err" | sed 's/^/# /'
jq .profile "$work/record/report.json" >"$work/simple.json"
has "$work/simple.json" simple_dispatch simple_enqueue
check "a record: tasks wait in the queue that the scheduler made" test "$(jq '[.monitor.sched_ext.queues[] |
	select(.kind == "user" and .id == 0)][0].tasks_max >= 2' "$work/record/report.json")" = true
check "a record: the summary tells programs" grep -q "^  programs .* simple_dispatch [0-9.]*%.*, with what they call$" "$work/err"
check "a record: their frames are called by sched_ext's" grep -q \
	";balance_.*;bpf__sched_ext_ops_dispatch \[bpf\];bpf_prog_[0-9a-f]*_simple_dispatch \[bpf\]" "$work/record/profile.folded"

# One guest, which goes on yielding, while one scheduler after another is profiled.
timeout 900 "$STASIS" run "$LAB" -q -k "$scx_kernel" --name $name -t 1n1l2c1t --monitor --include "$YIELD:/bin/yield" \
	--include "$scx/scx_simple:/bin/scx_simple" --include "$scx/scx_central:/bin/scx_central" \
	--include "$scx/scx_qmap:/bin/scx_qmap" -- yield 10 900 yield >"$work/out" 2>"$work/err" </dev/null &
run=$!
in_guest() { timeout 200 "$STASIS" exec $name -- sh -c "$1" </dev/null; }
for _ in $(seq 600); do
	grep -qx "10 tasks run" "$work/err" && break
	sleep 0.2
done
profiles() { # profiles FILE SECONDS
	timeout 200 "$STASIS" profile $name --seconds "$2" --hz 397 --json >"$work/$1.json" 2>"$work/profile.err"
	equal "$1 is profiled" "0 0" "$? $(jq '.degraded | length' "$work/$1.json")"
}
# starts SCHEDULER: until it is enabled, or has ended; says which it is.
starts() {
	in_guest "setsid $1 >/tmp/out 2>&1 & pid=\$!
		until [ \"\$(cat /sys/kernel/sched_ext/state)\" = enabled ] || ! kill -0 \$pid 2>/dev/null; do sleep 0.1; done
		cat /sys/kernel/sched_ext/root/ops || tail -n 3 /tmp/out"
}
stops() {
	in_guest "kill -INT \$(pidof $1); while [ \"\$(cat /sys/kernel/sched_ext/state)\" != disabled ]; do sleep 0.1; done"
}
# with SCHEDULER COMMAND...: with it enabled.
with() {
	local scheduler=$1
	shift
	equal "$scheduler is enabled" "${scheduler#scx_}" "$(starts "$scheduler" 2>&1)"
	"$@"
	stops "$scheduler"
}
# What the kernel enables schedulers with is a thread of its own, on any CPU; scx_central starts on the first only. The
# thread is there from the first scheduler on.
enables_on_first_cpu() {
	starts scx_simple >"$work/first"
	stops scx_simple
	in_guest 'for task in /proc/[0-9]*; do
			[ "$(cat $task/comm)" != scx_ops_enable_helper ] || taskset -p 1 ${task#/proc/} | grep "new affinity mask: 1$"
		done'
}
profiles eevdf 20
equal "eevdf: no programs, and nothing of sched_ext" "0 0" \
	"$(jq -r '"\(.programs | length) \(.classes.bpf_scheduler.ns)"' "$work/eevdf.json")"
check "schedulers are enabled on the first CPU" test -n "$(enables_on_first_cpu)"
with scx_central profiles central 4
has "$work/central.json" central_dispatch central_enqueue
# Its programs may lie where those of central were.
two() {
	profiles qmap 20
	profiles again 20
}
with scx_qmap two
has "$work/qmap.json" qmap_dispatch qmap_enqueue
kill $run
wait $run

"$STASIS" compare "$work/eevdf.json" "$work/qmap.json" | sed 's/^/# /'
"$STASIS" compare --json "$work/eevdf.json" "$work/qmap.json" >"$work/verdicts"
equal "compare: the two differ" 1 $?
verdict() { jq -r ".metrics[] | select(.metric == \"$1\").verdict" "$work/verdicts"; }
equal "compare: qmap's scheduling is dearer than eevdf's" "B has more" "$(verdict scheduling_share)"
equal "compare: only it has a BPF scheduler" "B has more" "$(verdict bpf_scheduler_share)"
# Two of a kind differ by what the host did meanwhile, and by no more.
"$STASIS" compare "$work/qmap.json" "$work/again.json" | sed 's/^/# /'
check "compare: two of a kind do not differ by half" "$STASIS" compare --least 50 "$work/qmap.json" "$work/again.json"
"$STASIS" compare "$work/qmap.json" "$work/qmap.json" >"$work/same"
equal "compare: qmap does not differ from itself" 0 $?
check "compare: ... in any figure" test "$(grep -c 'no difference$' "$work/same")" -ge 9
end
