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
named() { # named NAME: until the run of that name has begun
	for ((i = 0; i < 1000; i++)); do
		[ -d "$XDG_RUNTIME_DIR/stasis/$1" ] && break
		sleep 0.01
	done
}
listed() { # listed NAME: until it has its locks; what stasis locks says then is in $work/locks.json
	for ((i = 0; i < 100; i++)); do
		"$STASIS" locks --json >"$work/locks.json"
		grep -q "\"name\": \"$1\"" "$work/locks.json" && break
		sleep 0.1
	done
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

"$STASIS" doctor --json >"$work/doctor"
ok "doctor says whose performance it is, where stock kernels go to the lab" holds "$work/doctor" \
	'map({(.name): .}) | add | .performance.ok == false or
		.["stock kernels"].ok == (.performance.found | contains("--no-lab") | not)'

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
	named large
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
run poweroff --cpus-budget $((cpus + 1))
ok "a budget of more CPUs than there are is a usage error" [ $status = 125 ]
ok "… that says how many there are" \
	grep -q -- "--cpus-budget $((cpus + 1)): stasis may use $cpus host CPUs* here, and 1 to $cpus are" "$work/err"
# A lock as a performance run has it, on one of them.
if command -v flock >/dev/null && [ "$cpus" -gt 1 ]; then
	last=$(sed -n 's/^Cpus_allowed_list:.*[^0-9]\([0-9]*\)$/\1/p' /proc/self/status)
	exec 9>"$STASIS_LOCK_DIR/cpu-$last"
	flock -x 9
	run poweroff --cpus-budget "$cpus"
	exec 9>&-
	ok "a budget that performance runs have some of goes on" [ $status = 0 ]
	ok "… and says how many they leave" grep -q \
		"perf: performance runs leave $((cpus - 1)) of the $cpus host CPUs of --cpus-budget" "$work/report"
else
	skip "a budget that performance runs have some of" "one CPU, or no flock"
fi

# Two vCPUs on one host CPU: theirs to try, but not in performance mode.
first=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*\([0-9]*\).*/\1/p' /proc/self/status)
run poweroff -c 2 --pin "$first,$first"
ok "a host CPU for two vCPUs is one that they share" [ $status = 0 ]
run poweroff --perf -c 2 --pin "$first,$first"
ok "… and --perf refuses it" [ $status = 77 ]
ok "… and names it" grep -q -- "--pin gives host CPU $first to more than one vCPU" "$work/err"
run poweroff --perf=relaxed -c 2 --pin "$first,$first"
if [ $status = 77 ]; then
	skip "… --perf=relaxed records it" "$(tail -n 1 "$work/err")"
else
	ok "… --perf=relaxed records it" grep -q "perf: --pin gives host CPU $first to" "$work/report"
fi

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
	# What is locked is more than the guest's memory, and is named before anything is started.
	limited() { # limited KIB OPTIONS...: with that limit for locked memory; the status is in $status
		local kib=$1
		shift
		setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock \
			bash -c 'ulimit -l "$0"; exec "$@"' "$kib" \
			"$STASIS" run --no-lab -k "$payload-poweroff.elf" -i "$work/empty" --report "$work/report" \
			"$@" </dev/null >"$work/out" 2>"$work/err"
		status=$?
	}
	needed() { sed -n 's/.*RLIMIT_MEMLOCK is .*, and \([0-9]*\) KiB are needed.*/\1/p' "$work/err" | head -n 1; }
	limited 6144 --perf -m 4M
	ok "a limit just above the guest's memory is refused with 77" [ $status = 77 ]
	ok "… and names it, and the sum" grep -q "RLIMIT_MEMLOCK is 6 MiB, and [0-9]* KiB are needed" "$work/err"
	for vcpus in 1 16; do
		limited 6144 --perf=relaxed -m 64M -c $vcpus
		sum=$(needed)
		ok "… but relaxed goes on, and lists it" grep -q 'perf: locking memory is refused' "$work/report"
		"$STASIS" run --no-lab --perf=relaxed -m 64M -c $vcpus -k "$payload-halt.elf" -i "$work/empty" \
			</dev/null >"$work/out" 2>"$work/err" &
		pid=$!
		pids+=($pid)
		locked=0
		for ((i = 0; i < 100 && locked == 0; i++)); do
			sleep 0.1
			locked=$(sed -n 's/^VmLck:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
		done
		sleep 0.5 # threads come after it
		locked=$(sed -n 's/^VmLck:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
		kill $pid
		wait $pid
		pids=()
		echo "# $vcpus vCPUs: $locked KiB are locked, $sum are asked for"
		if [ "${locked:-0}" = 0 ] && grep -q '__[at]san_init' "$STASIS"; then
			skip "what is locked for $vcpus vCPUs is within the sum" "a sanitizer locks nothing"
		elif grep -q "memory can't be locked" "$work/err"; then
			skip "what is locked for $vcpus vCPUs is within the sum" "it can't be locked here"
		else
			ok "what is locked for $vcpus vCPUs is within the sum" \
				[ "$locked" -gt 65536 -a "$locked" -le "$sum" ]
		fi
		if (ulimit -l "$sum") 2>/dev/null; then
			limited "$sum" --perf=relaxed -m 64M -c $vcpus
			ok "… and with that limit it is locked" \
				bash -c "[ $status = 0 ] && ! grep -q 'perf: .*lock' '$work/report'"
		else
			skip "… and with that limit it is locked" "the limit can't be raised here"
		fi
	done
	limited 6144 --perf=relaxed -m 4G
	ok "holes between the guest's memory count" [ "$(needed)" -gt $((5 << 20)) ]
else
	skip "without limits and capabilities" "needs root and setpriv"
fi

# A stranger who has the mutex of the locks for ever: it costs time, and the locks are as good.
"$STASIS" locks >"$work/out"
flock -x -o "$STASIS_LOCK_DIR/mutex" sleep 120 &
pids+=($!)
for ((i = 0; i < 100; i++)); do
	flock -n "$STASIS_LOCK_DIR/mutex" true || break
	sleep 0.1
done
run poweroff
ok "an ordinary run goes on without the mutex" [ $status = 0 ]
ok "… and says who has it" \
	grep -q "perf: host CPUs locked without the mutex: .*/mutex is held by .*does not let go" "$work/report"
if [ -z "$lacks" ]; then
	run poweroff --perf
	ok "so does --perf" [ $status = 0 ]
	ok "… with CPUs of its own" grep -q '"own_cpus": true' "$work/report"
else
	skip "--perf without the mutex" "$lacks"
fi
kill "${pids[@]}"
wait "${pids[@]}" 2>/dev/null
pids=()

# Two runs: the second is refused, waits, or gets its turn.
if [ -z "$lacks" ]; then
	"$STASIS" run --no-lab --perf --name first -m 64M -k "$payload-halt.elf" -i "$work/empty" \
		</dev/null >/dev/null 2>"$work/first" &
	pids+=($!)
	listed first
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
	named waiter
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
	listed plain
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
