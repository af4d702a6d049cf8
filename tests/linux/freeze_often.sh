#!/bin/bash
# A stock kernel with 8 vCPUs under load that is frozen and thawed 10,000 times: none is lost, none late,
# and it has nothing to say of it. CYCLES in the environment: another number of times.
. "$(dirname "$0")/lib.sh"
begin
cycles=${CYCLES:-10000}
command -v python3 >/dev/null || skip_all "no python3"

# The load: what never rests, what makes and ends processes, what writes, and what sleeps for 10 ms.
"$STASIS" run "$LAB" -q -c 8 --name often --qmp "$work/often.sock" --report "$work/report" --timeout 7000s \
	-- sh -c '
		mkdir -p /tmp
		for i in 1 2 3 4; do
			(while [ ! -e /tmp/end ]; do :; done) &
		done
		(while [ ! -e /tmp/end ]; do (exit 0); done) &
		(while [ ! -e /tmp/end ]; do head -c 65536 /dev/urandom >/tmp/file; done) &
		(while [ ! -e /tmp/end ]; do sleep 0.01; done) &
		echo ready
		read -r _
		: >/tmp/end
		wait
		echo "ran $(cut -d " " -f 1 /proc/uptime)"
		dmesg | grep -i -E "stall|lockup|unstable|hung|skew|watchdog: BUG" | sed "s,^,barked: ,"
		true' >"$work/out" 2>"$work/err" < <(
			while [ ! -e "$work/enough" ]; do sleep 0.2; done
			echo enough
		) &
pid=$!
while ! grep -q ready "$work/out" && kill -0 $pid 2>/dev/null; do
	sleep 0.1
done
timeout 6900 python3 "$(dirname "$0")/../guest/qmp_cycles.py" "$work/often.sock" "$cycles" --ahead 4 >"$work/cycles" 2>&1
status=$?
sed 's/^\([^#]\)/# \1/' "$work/cycles"
equal "$cycles cycles: none lost, none late" 0 $status
: >"$work/enough"
wait $pid
equal "the guest ends well afterwards" 0 $?
equal "no freeze failed" 0 "$(python3 -c '
import json, sys
print(sum("failed" in f for f in json.load(open(sys.argv[1]))["freezes"]))' "$work/report")"
equal "the kernel has nothing to say" "" "$(grep barked "$work/out")"
echo "# $(grep ran "$work/out") s of its own; load of this host: $(cut -d ' ' -f 1-3 /proc/loadavg)"
end
