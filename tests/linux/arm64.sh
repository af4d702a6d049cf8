#!/bin/bash
# What arm64 guests have of their own: PMU, stolen time, CPUs that come and go by PSCI, its ways to end.
. "$(dirname "$0")/lib.sh"
[ "$guest_arch" = aarch64 ] || skip_all "guests are $guest_arch here"
begin

# Programs for the guest, out of the build tree of its architecture.
built=${ARM64_BUILD:?build tree for arm64}
[ -r "$built/tests/guest/payload-stolen.img" ] || skip_all "no test guests in $built"

stasis_run -- "$built/tests/linux/cycles" </dev/null
if [ "$status" = 77 ]; then
	skip "cycles are counted" "$(cat "$work/err")"
else
	equal "cycles are counted ($out)" 0 "$status"
fi

# The same from outside, of the guest alone.
stasis_run --counters --report "$work/report.json" -- sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done'
if grep -q "no PMU" "$work/err"; then
	skip "the guest's cycles are counted outside" "$(grep "no PMU" "$work/err")"
else
	check "the guest's cycles are counted outside ($(jq .exits.counters.cycles "$work/report.json"))" \
		test "$(jq '.exits | .counters.cycles > 1000000 and .vcpus[0].counters.cycles > 1000000' "$work/report.json")" = true
fi

# A guest hurts itself alone: the access is aborted, and the machine goes on.
stasis_run -- "$built/tests/linux/pair" </dev/null
equal "a load that no device takes gets an abort ($out)" "0 SIGBUS" "$status $out"

# Twice as many busy vCPUs as the lab's machine has CPUs: half of the time is someone else's. Any is a
# pass, since the host's own load is not ours to know.
: >"$work/empty"
out=$("$STASIS" run "$LAB" -q -k "$built/tests/guest/payload-stolen.img" -i "$work/empty" -c 4 -m 64M \
	--timeout 120s 2>"$work/err" </dev/null)
matches "stolen time moves" '*stolen *' "$out"
stolen=$((16#$(sed -n 's/^stolen \([0-9a-f]*\).*/\1/p' <<<"$out" | tr -d '\r' || true)))
check "... by more than 10 ms of 3 s, and less than all ($((stolen / 1000000)) ms)" \
	[ "$stolen" -gt 10000000 ] && [ "$stolen" -lt 60000000000 ]

stasis_run -c 4 -- sh -c '
	cd /sys/devices/system/cpu
	for c in 1 2 3; do echo 0 >cpu$c/online || exit 1; done
	cat online
	for c in 1 2 3; do echo 1 >cpu$c/online || exit 1; done
	cat online
	dmesg | grep -c "psci: CPU. killed"
	taskset 8 true && echo runs'
equal "CPUs go away and come back" "0
0-3
3
runs" "$out"

# The same while another is busy, and a freeze with two of them gone.
"$STASIS" run "$LAB" -q --name hole -c 4 --report "$work/report" --timeout 400s -- sh -c '
	(while :; do :; done) &
	cd /sys/devices/system/cpu
	turn() { echo $1 >cpu2/online && echo $1 >cpu3/online; }
	turn 0 && cat online && sleep 5 && turn 1 && cat online
	for c in 2 3; do taskset $((1 << c)) true || exit 1; done
	echo whole' >"$work/out" 2>"$work/err" </dev/null &
pid=$!
while ! grep -q '0-1' "$work/out" && kill -0 $pid 2>/dev/null; do
	sleep 0.2
done
check "a dump with two CPUs gone" "$STASIS" dump hole "$work/dump.json"
equal "... has all four" 4 "$(grep -c '"instruction_pointer"' "$work/dump.json")"
equal "... those that are gone, in PSCI" 2 "$(grep -c '"symbol": "psci_[0-9_]*cpu_off' "$work/dump.json")"
wait $pid
equal "... and the two come back" "0-1
0-3
whole" "$(cat "$work/out")"

# Without the watchdog, whose messages cost an emulated machine more than what they are about.
stasis_run -t 1n4l16c1t -m 2G -a nowatchdog --timeout 900s -- sh -c '
	nproc
	cat /sys/devices/system/cpu/cpu63/topology/package_cpus_list
	cat /sys/devices/system/cpu/cpu17/cache/index3/shared_cpu_list'
equal "64 vCPUs with four clusters" "64
48-63
16-31" "$out"

stasis_run -- sh -c 'poweroff -f; sleep 60'
check "a power-off ends the machine" grep -qi 'powered off' "$work/err"
stasis_run -- sh -c 'reboot -f; sleep 60'
check "a reset ends the machine" grep -qi 'reset' "$work/err"
end
