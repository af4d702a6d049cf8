#!/bin/bash
# Performance mode on this host's KVM: runs isolated or says exactly what lacks; locks between runs.
# usage: perf.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"
payload=$payloads/payload
export STASIS_LOCK_DIR=$work/locks
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$work"' EXIT
run() { # run PAYLOAD OPTIONS...; the status is in $status
	local what=$1
	shift
	"$STASIS" run --no-lab -m 64M -k "$payload-$what.elf" -i "$work/empty" --timeout 60s \
		--report "$work/report" "$@" </dev/null >"$work/out" 2>"$work/err"
	status=$?
}
cpus=$(nproc)

# A machine that has a CPU for each thread, or the reason why not.
run poweroff --perf -c 1
if [ $status = 77 ]; then
	ok "--perf -c 1 says what lacks" grep -q -- "--perf: " "$work/err"
	lacks=$(tail -n 1 "$work/err")
	skip "--perf -c 1 has CPUs of its own" "$lacks"
else
	ok "--perf -c 1 runs" [ $status = 0 ]
	lacks=
	ok "--perf -c 1 has CPUs of its own" grep -q '"own_cpus": true' "$work/report"
fi
ok "a run shows what the host did to its vCPUs" \
	bash -c "[ '$status' = 77 ] || grep -q involuntary_switches '$work/report'"

run poweroff --perf -c "$cpus"
ok "as many vCPUs as CPUs is refused with 77" [ $status = 77 ]
ok "… with the reason" grep -q "$((cpus + 1)) host CPUs are needed, for $cpus vCPU" "$work/err"

run poweroff --perf=relaxed -c "$cpus"
if [ $status = 77 ]; then
	skip "--perf=relaxed goes on" "$(tail -n 1 "$work/err")"
	skip "… and lists what it gave up" "it did not run"
else
	ok "--perf=relaxed goes on" [ $status = 0 ]
	ok "… and lists what it gave up" \
		grep -q "perf: $((cpus + 1)) host CPUs are needed" "$work/report"
fi

run poweroff --perf=never
ok "--perf takes nothing but relaxed" grep -q "perf never: --perf alone or --perf=relaxed" "$work/err"

# A lab is emulated, whoever asks for it.
foreign=aarch64
[ "$(uname -m)" = aarch64 ] && foreign=x86_64
for option in "--lab" "--arch $foreign"; do
	timeout 20 "$STASIS" run --perf $option -k "$payload-poweroff.elf" -i "$work/empty" \
		</dev/null >"$work/out" 2>"$work/err"
	ok "--perf $option is refused" [ $? = 125 ]
	ok "… with the reason" grep -q -- "--perf and $option exclude each other: .*a lab is emulated" "$work/err"
done

if taskset -p $$ >/dev/null 2>&1 && [ "$cpus" -gt 1 ]; then
	first=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
	taskset -c "$first" timeout 20 "$STASIS" run --no-lab --perf=relaxed --wait --pin $((first + 1)) \
		-m 64M -k "$payload-poweroff.elf" -i "$work/empty" </dev/null >"$work/out" 2>"$work/err"
	status=$?
	ok "a pin outside of our CPUs is refused, and not waited for" [ $status = 77 ]
else
	skip "a pin outside of our CPUs" "one CPU, or no taskset"
fi

# Large pages that there are none of; memory that is not there; and the way out of a long start.
if command -v python3 >/dev/null; then
	python3 -c 'import ctypes, os, sys
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0) # PR_SET_THP_DISABLE
os.execv(sys.argv[1], sys.argv[1:])' "$(command -v "$STASIS")" run --no-lab --perf=relaxed -m 64M \
		-k "$payload-poweroff.elf" -i "$work/empty" --report "$work/report" </dev/null >"$work/out" 2>"$work/err"
	status=$?
	ok "small pages are told of" [ $status = 0 ]
	ok "… and how many" grep -q "perf: 64 MiB of the guest's memory are in small pages" "$work/report"
else
	skip "small pages are told of" "no python3"
fi
available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
run poweroff --perf=relaxed -m $((available / 1024 * 2))M
ok "memory that has no room is not brought in" [ $status = 0 ]
ok "… and said so" grep -q "perf: the guest's memory is neither brought in nor locked" "$work/report"
if [ "$available" -gt 8000000 ]; then
	rm -f "$work/report"
	"$STASIS" run --no-lab --perf=relaxed -m 6G -k "$payload-halt.elf" -i "$work/empty" --name large \
		--report "$work/report" </dev/null >"$work/out" 2>"$work/err" &
	pid=$!
	for ((i = 0; i < 1000; i++)); do
		[ -d "$XDG_RUNTIME_DIR/stasis/large" ] && break
		sleep 0.01
	done
	kill -INT $pid
	wait $pid
	ok "a signal ends it while memory is brought in" [ $? = 130 ]
	# What performance mode made of a guest is there from its start on.
	ok "… before the guest starts" holds "$work/report" \
		'.outcome == "killed" and .exit_status == 130 and has("perf") == false'
else
	skip "a signal ends it while memory is brought in" "less than 8 GB of memory is free"
fi

run poweroff --cpus-budget 1 -c 2
ok "--cpus-budget 1 runs" [ $status = 0 ]

# Without the limits, and without the capabilities that go past them.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	setpriv --bounding-set -sys_nice,-ipc_lock --inh-caps -sys_nice,-ipc_lock \
		bash -c 'ulimit -r 0; ulimit -l 64; exec "$@"' - \
		"$STASIS" run --no-lab --perf -m 64M -k "$payload-poweroff.elf" -i "$work/empty" \
		</dev/null >"$work/out" 2>"$work/err"
	status=$?
	ok "without limits and capabilities it is refused with 77" [ $status = 77 ]
	ok "… names the one for priorities, and what mends it" \
		grep -q "RLIMIT_RTPRIO is 0.*try: ulimit -r 2" "$work/err"
	ok "… names the one for memory, and what mends it" \
		grep -q "RLIMIT_MEMLOCK is 64 KiB.*try: ulimit -l unlimited" "$work/err"
else
	skip "without limits and capabilities" "needs root and setpriv"
fi

# Two runs: the second is refused, waits, or gets its turn.
if [ -z "$lacks" ]; then
	"$STASIS" run --no-lab --perf --name first -m 64M -k "$payload-halt.elf" -i "$work/empty" \
		</dev/null >/dev/null 2>"$work/first" &
	pids+=($!)
	for ((i = 0; i < 100; i++)); do
		"$STASIS" locks --json >"$work/locks.json"
		grep -q '"name": "first"' "$work/locks.json" && break
		sleep 0.1
	done
	ok "stasis locks shows the holder" grep -q '"mode": "exclusive"' "$work/locks.json"
	"$STASIS" locks >"$work/out"
	ok "… as a table, too" grep -q "^first  *${pids[0]} " "$work/out"
	run poweroff --perf
	ok "a second run is refused with 77" [ $status = 77 ]
	ok "… and names who holds the host" grep -q "held by VM first (pid ${pids[0]}," "$work/err"
	begin=$SECONDS
	run poweroff --perf --wait=1s
	ok "--wait=1s gives up after it" [ $status = 77 -a $((SECONDS - begin)) -ge 1 ]
	rm -f "$work/report"
	"$STASIS" run --no-lab --perf --wait --name waiter -m 64M -k "$payload-poweroff.elf" -i "$work/empty" \
		--report "$work/report" </dev/null >"$work/out" 2>"$work/err" &
	waiter=$!
	for ((i = 0; i < 1000; i++)); do
		[ -d "$XDG_RUNTIME_DIR/stasis/waiter" ] && break
		sleep 0.01
	done
	kill -INT $waiter
	wait $waiter
	ok "a signal ends the wait" [ $? = 130 ]
	ok "… and is how the run ended" holds "$work/report" '.outcome == "killed" and .exit_status == 130'
	"$STASIS" run --no-lab --perf --wait -m 64M -k "$payload-poweroff.elf" -i "$work/empty" \
		</dev/null >"$work/out" 2>"$work/err" &
	waiter=$!
	sleep 0.3
	kill -9 "${pids[0]}"
	wait "${pids[0]}" 2>/dev/null
	pids=()
	wait "$waiter"
	ok "--wait runs when the holder is killed" [ $? = 0 ]
	"$STASIS" locks --json >"$work/locks.json"
	ok "nothing is left" [ "$(tr -d '[:space:]' <"$work/locks.json")" = "[]" ]
	# An ordinary run is in the way of a performance run as well.
	"$STASIS" run --no-lab --name plain -m 64M -k "$payload-halt.elf" -i "$work/empty" \
		</dev/null >/dev/null 2>&1 &
	pids+=($!)
	for ((i = 0; i < 100; i++)); do
		"$STASIS" locks --json | grep -q '"name": "plain"' && break
		sleep 0.1
	done
	run poweroff --perf
	ok "an ordinary run keeps a performance run off" grep -q "held by VM plain" "$work/err"
	run poweroff --perf=relaxed -c 1
	ok "… a relaxed one is beside it, without a priority" \
		bash -c "[ $status = 0 ] && grep -q '\"own_cpus\": false' '$work/report' && grep -q 'perf: no real-time priority' '$work/report'"
	run poweroff
	ok "… and no ordinary one" [ $status = 0 ]
else
	skip "two performance runs" "$lacks"
fi
end
