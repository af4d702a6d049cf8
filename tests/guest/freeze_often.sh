#!/bin/bash
# A whole machine that is frozen and thawed over and over through its control socket: none is lost, none
# late, and its memory and descriptors stay as they are.
# usage: freeze_often.sh STASIS PAYLOAD-DIR [CYCLES]; TAP on standard output.
. "$(dirname "$0")/lib.sh"
here=$(dirname "$0")
cycles=${3:-2000}
command -v python3 >/dev/null || {
	echo "1..0 # SKIP no python3"
	exit 0
}

# A sanitizer that keeps what was freed would seem to grow.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1:thread_local_quarantine_size_kb=16"

for payload in halt spin; do
	"$STASIS" run --no-lab -m 64M -c 8 -k "$payloads/payload-$payload.elf" -i "$work/empty" \
		--name $payload --qmp "$work/$payload.sock" --report "$work/$payload.json" \
		</dev/null >"$work/$payload.out" 2>"$work/$payload.err" &
	pid=$!
	for _ in $(seq 200); do
		[ -S "$work/$payload.sock" ] && break
		sleep 0.05
	done
	python3 "$here/qmp_cycles.py" "$work/$payload.sock" "$cycles" --pid $pid >"$work/out" 2>&1
	status=$?
	grep '^#' "$work/out"
	ok "$payload on 8 vCPUs, $cycles cycles: none lost, none late, nothing grows" is $status 0
	kill -INT $pid
	wait $pid
	status=$?
	ok "... and it ends well afterwards (saw $status)" is $status 130
	ok "... and its report keeps a thousand, none failed" is "1000 0" "$(python3 -c '
import json, sys
freezes = json.load(open(sys.argv[1]))["freezes"]
print(len(freezes), sum("failed" in f for f in freezes))' "$work/$payload.json")"
	echo "# load of this host: $(cut -d ' ' -f 1-3 /proc/loadavg)"
done
end
