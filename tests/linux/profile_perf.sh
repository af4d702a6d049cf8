#!/bin/bash
# stasis profile against perf record in the same guest, by turns: the same functions, in the same order, of the same
# size. What is compared, and how exact that can be, is in profile_perf.py.
. "$(dirname "$0")/lib.sh"
CALLS=${CALLS:?path of the calls program}
command -v python3 >/dev/null || skip_all "no python3"
command -v perf >/dev/null || skip_all "no perf (linux-perf)"
begin
name=perf$$
seconds=8

timeout 900 "$STASIS" run "$LAB" -q --name $name -t 1n1l2c1t -m 1G --include "$(command -v perf):/bin/perf" \
	--include "$CALLS:/bin/calls" -- calls >"$work/out" 2>"$work/err" </dev/null &
run=$!
in_guest() { timeout 200 "$STASIS" exec $name -- "$@"; }
for _ in $(seq 300); do
	in_guest true 2>/dev/null && break
	sleep 0.2
done
in_guest cat /proc/kallsyms >"$work/kallsyms" </dev/null
# perf's samples are ticks of a timer: the guest has no counters. At a rate that has no period with Linux' own tick.
# Of three runs of perf, two can happen to be alike; five have ten pairs that show what they differ by.
for i in 1 2 3 4 5; do
	check "perf records, $i" in_guest perf record -q -B -N -e cpu-clock -F 197 -a -g -o /tmp/perf.data -- sleep $seconds
	in_guest cat /tmp/perf.data >"$work/perf.$i" </dev/null
	perf script -i "$work/perf.$i" -F comm,ip >"$work/perf.$i.txt" 2>"$work/script.err"
	[ $i = 5 ] && break
	check "stasis profiles, $i" timeout 200 "$STASIS" profile $name --seconds $seconds --hz 397 -o "$work/stasis.$i.folded"
done
kill $run
wait $run
while read -r line; do
	case $line in
	ok\ *) pass "${line#ok }" ;;
	no\ *) fail "${line#no }" ;;
	*) echo "# $line" ;;
	esac
done < <("$(dirname "$0")/profile_perf.py" calls "$work/kallsyms" "$work"/perf.?.txt -- "$work"/stasis.?.folded)
end
