#!/bin/bash
# The run-queue monitor on a stock kernel: what it says is what the kernel says of itself.
. "$(dirname "$0")/lib.sh"
command -v jq >/dev/null || skip_all "no jq"
begin

# report FILTER: of the last run's.
report() { jq -r "$1" "$work/report.json"; }
# The lab's emulator stands still now and then, and what it stood still for is to the lab what a vCPU ran: a stall, if it
# is longer than half an interval (src/vm/stall.h); and meanwhile nobody looks, so that one is missed. What may be one
# of these is tried once more, never twice.
# stood_still COUNT: whether the last run was in a lab, and had other than so many stalls.
stood_still() {
	local told='"\(.stall_count) stalls: " + ([.stalls[] | "CPU \(.cpu), \(.stood_ns / 1e6 | floor) ms"] | join("; ")) +
		"; \(.rounds_late) rounds late"'
	[ "$LAB" = --lab ] && [ "$(report .monitor.stall_count)" -ne "$1" ] &&
		echo "# once more: $(report ".monitor | $told"), on a host with load $(cut -d ' ' -f 1 /proc/loadavg)"
}

# ---- values ---------------------------------------------------------------------------------------
# Four that spin and two that hand each other lines. The guest prints what it counted as it ends; what it
# switches after that is what the tolerance is for. A lab's CPUs are taken from it without its knowing: half
# an interval has to be longer than that.
values() {
	stasis_run -t 1n1l2c1t --append schedstats=enable --monitor=500ms --monitor-out "$work/monitor.csv" \
		--report "$work/report.json" -- sh -c '
		for i in 1 2 3 4; do (while :; do :; done) & done
		(while echo; do read -r x </proc/uptime; done) | (while read -r x; do :; done) &
		sleep 3
		cat /proc/schedstat
		cat /proc/stat'
}
values
! stood_still 0 || values
equal "values: the guest ends as ever" 0 "$status"
equal "values: nothing is lacking" "" "$(report '.degraded[]')"
check "values: each CPU is looked at" test "$(report '[.monitor.cpus[] | select(.samples >= 4)] | length')" = 2
equal "values: all of it can be read" 0 "$(report .monitor.unread)"
check "values: few looks are torn" test "$(report '.monitor.samples > 10 * .monitor.torn')" = true
equal "values: no stall" 0 "$(report .monitor.stall_count)"
check "values: tasks queue" test "$(report '[.monitor.cpus[].running_max] | add >= 4')" = true
check "values: ... all the time" test "$(report '[.monitor.cpus[].running_mean] | add >= 2.5')" = true
ctxt=$(sed -n 's/^ctxt //p' <<<"$out")
switches=$(report '[.monitor.cpus[].last.switches] | add')
# The end of a COMMAND and the way down: 2,000 switches, or 10 %.
check "values: switches are those of /proc/stat ($switches, $ctxt)" test "$switches" -ge "$ctxt" -a \
	"$switches" -le $((ctxt + ctxt / 10 + 2000))
# cpuN yld_count 0 sched_count sched_goidle ttwu_count ttwu_local …
woken=$(awk '/^cpu[0-9]/ { n += $6 } END { print n }' <<<"$out")
wakeups=$(report '[.monitor.cpus[].last.wakeups] | add')
check "values: wake-ups are those of /proc/schedstat ($wakeups, $woken)" test "${woken:-0}" -gt 100 -a "$wakeups" -ge "$woken" -a \
	"$wakeups" -le $((woken + woken / 10 + 2000))
equal "values: schedstats are on" true "$(report .monitor.schedstats)"
equal "values: as many domains as the kernel says" "$(awk '/^cpu/ { c = $1 } c == "cpu0" && /^domain/' <<<"$out" | wc -l)" \
	"$(report '.monitor.domains[0].levels | length')"
equal "values: the domain spans both CPUs" 0-1 "$(report '.monitor.domains[0].levels[-1].span')"
matches "values: its flags have names" "*SD_BALANCE_NEWIDLE*" "$(report '.monitor.domains[0].levels[0].flags | join(" ")')"
equal "values: a line of CSV for each look" "$(report .monitor.samples)" $(($(wc -l <"$work/monitor.csv") - 1))
equal "values: ... each as the first says" "" "$(awk -F, 'NR == 1 { n = NF } NF != n' "$work/monitor.csv" | head -n 3)"
check "values: ... of tasks that ran" grep -q ',"sh",0,' "$work/monitor.csv"
echo "# $(report '.monitor | "\(.samples) looks, \(.repeats) repeated, \(.torn) torn; \(.cost_ns.per_sample) ns each, a turn at most \(.cost_ns.turn_max) ns; late \(.rounds_late)"')"

# ---- idle -------------------------------------------------------------------------------------------
stasis_run -t 1n1l2c1t --monitor=50ms --monitor-out "$work/monitor.csv" --report "$work/report.json" -- sleep 2
equal "idle: the guest ends as ever" 0 "$status"
equal "idle: no stall" "0 0" "$(report '.monitor | "\(.stall_count) \(.stalls | length)"')"
check "idle: looks find the idle tasks" test "$(grep -c ',"swapper/[01]",1,' "$work/monitor.csv")" -gt 5

# ---- preempted ------------------------------------------------------------------------------------------
# The host runs sixteen other vCPUs that spin: each gets its turn long after the next look. Then the guest's
# clock stands from look to look, with tasks queued, and nobody is to blame in the guest. A lab does not know what
# its own host takes from it, and has that for what the vCPU ran (src/vm/stall.h): a busy one can't tell.
lab_waited() { # milliseconds that the lab's threads have waited for a CPU of its host
	local pid
	for pid in $(pgrep "^qemu-system-"); do
		grep -qzFx "XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR" /proc/$pid/environ && cat /proc/$pid/task/*/schedstat
	done 2>/dev/null | awk '{ n += $2 } END { print int(n / 1e6) }'
}
preempted() {
	rm -f "$work/others" "$work/out"
	"$STASIS" run "$LAB" -q -c 16 --name others --append cpuhp.parallel=0 -- sh -c '
		echo up
		until [ -e /go ]; do sleep 0.1; done
		for i in $(seq 16); do (while :; do :; done) & done
		sleep 600' >"$work/others" 2>"$work/others.err" </dev/null &
	others=$!
	for _ in $(seq 900); do
		grep -q up "$work/others" && break
		sleep 0.1
	done
	rm -f "$work/begin"
	mkfifo "$work/begin"
	"$STASIS" run "$LAB" -c 1 --monitor=20ms --monitor-out "$work/monitor.csv" --report "$work/report.json" -- sh -c '
		echo up
		read -r go
		for i in 1 2; do (while :; do :; done) & done
		sleep 3' <"$work/begin" >"$work/out" 2>"$work/err" &
	pid=$!
	exec 9>"$work/begin"
	for _ in $(seq 900); do
		grep -q up "$work/out" && break
		sleep 0.1
	done
	timeout 60 "$STASIS" exec others -- touch /go >/dev/null 2>&1
	waited=$(lab_waited) began=$(date +%s%3N)
	echo go >&9
	exec 9>&-
	wait $pid
	status=$?
	waited=$(($(lab_waited) - waited)) took=$(($(date +%s%3N) - began))
	kill $others
	wait $others 2>/dev/null
}
preempted
! stood_still 0 || preempted
equal "preempted: the guest ends as ever" 0 "$status"
# Looks in a row at the same clock, with tasks that wait.
stood=$(awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
	{ same = $column["clock_ns"] == clock && $column["running_tasks"] > 1 ? same + 1 : 0
	  clock = $column["clock_ns"]; if (same > most) most = same } END { print most + 0 }' "$work/monitor.csv")
check "preempted: its clock stood for $stood intervals with tasks that wait" test "$stood" -ge 2
stalls=$(report '.monitor | "\(.stall_count) \(.stalls | length)"')
if [ "$stalls" != "0 0" ] && [ $((waited * 20)) -gt $took ]; then
	skip "preempted: no stall" "the lab waited $waited of $took ms for this host's CPUs: too busy to tell"
else
	equal "preempted: no stall ($waited of $took ms taken from the lab)" "0 0" "$stalls"
fi

# ---- a stall ------------------------------------------------------------------------------------------
# A stock kernel has no way to stop its tick from user space, but this: a CPU that panics waits with
# interrupts off, tasks queued, for its reboot (panic() of kernel/panic.c), and is let do so for two seconds.
panics() {
	local listener
	rm -f "$work/out" "$work/begin"
	: >"$work/said"
	mkfifo "$work/begin"
	"$STASIS" run "$LAB" -c 1 --append panic=30 --monitor=500ms --monitor-out "$work/monitor.csv" --on-stall dump \
		--dump "$work/dump.json" --name stall --qmp "$work/stall.sock" --report "$work/report.json" -- sh -c '
		echo up
		read -r go
		for i in 1 2; do (while :; do :; done) & done
		sleep 2
		echo c >/proc/sysrq-trigger' <"$work/begin" >"$work/out" 2>"$work/err" &
	pid=$!
	exec 9>"$work/begin"
	for _ in $(seq 900); do
		grep -q up "$work/out" && break
		kill -0 $pid 2>/dev/null || break
		sleep 0.1
	done
	# The guest goes on once the client has had its first answer.
	if command -v python3 >/dev/null; then
		timeout 180 python3 -u "$(dirname "$0")/../guest/qmp_client.py" "$work/stall.sock" query-name >"$work/said" &
		listener=$!
		until grep -q return "$work/said" || ! kill -0 $listener 2>/dev/null; do
			sleep 0.1
		done
	fi
	echo go >&9
	exec 9>&-
	wait $pid
	status=$?
	[ -z "${listener:-}" ] || wait "$listener"
}
panics
! stood_still 1 || panics
equal "stall: the kernel panics" 126 "$status"
if command -v python3 >/dev/null; then
	equal "stall: clients hear of it" "STASIS_STALL 0" \
		"$(jq -r 'select(.event == "STASIS_STALL") | "\(.event) \(.data.cpu)"' "$work/said" | head -n 1)"
else
	skip "stall: clients hear of it" "no python3"
fi
check "stall: it is reported" test "$(report .monitor.stall_count)" -gt 0
matches "stall: ... in a line" "*stall: CPU 0: its run queue's clock has stood for *" "$(cat "$work/err")"
check "stall: ... with who waits" test "$(report '.monitor.stalls[-1].running >= 2')" = true
# As many looks at the clock that stands as two intervals have: how long that was is the host's.
looks=$(awk -F, -v clock="$(report '.monitor.stalls[-1].clock_ns')" -v told="$(report '.monitor.stalls[-1].time_ns')" '
	NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
	$column["clock_ns"] == clock && $column["time_ns"] <= told { n++ } END { print n + 0 }' "$work/monitor.csv")
check "stall: ... within two intervals ($looks looks, $(report '.monitor.stalls[-1].stood_ns / 1e6 | floor') ms)" \
	test "$looks" -ge 2 -a "$looks" -le 3
equal "stall: ... and dumped" "stall:0" "$(report '.freezes[0].cause')"
matches "stall: the dump shows the panic" "*panic*" "$(jq -r '.vcpus[0] | [.symbol, .stack[].symbol] | join(" ")' "$work/dump.json")"
end
