#!/bin/bash
# What exits cost, of machines on the host's own KVM: stasis stats, stasis top, the report.
# usage: stats.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"

run() { start 64M "$@"; } # NAME PAYLOAD OPTIONS...

command -v jq >/dev/null || {
	echo "1..0 # SKIP jq is not installed"
	exit 0
}
# Each vCPU's times, their sum within 1 % of its wall time.
sums='.exits.vcpus | all(.time_ns | ([.guest, .hand_off, .waiting, .served, .sampled, .parked, .idle] | add) as $sum
	| .wall > 0 and ($sum - .wall | fabs) <= 0.01 * .wall)'
# … and the sum of all vCPUs is theirs, time by time.
total='.exits | .time_ns as $all | [.vcpus[].time_ns] | all(("guest", "idle") as $t | (map(.[$t]) | add) - $all[$t];
	fabs <= 1000)'
ask='.exits.accounts[] | select(.reason == "io" and .access == "read" and .address == "0x3fd")'

# ---- a guest that does nothing but exit -------------------------------------------------------

before=$(date +%s%N)
run ask ask -c 2
sleep 1
asked=$(date +%s%N)
"$STASIS" stats --json ask >"$work/a.json" 2>"$work/err"
sleep 2
"$STASIS" stats --json ask >"$work/b.json" 2>"$work/err"
asked=$(($(date +%s%N) - asked))
ok "stats --json has a row for what the guest reads" holds "$work/b.json" "$ask | .count > 100"
ok "... whose count grows" [ "$(jq "$ask | .count" "$work/b.json")" -gt "$(jq "$ask | .count" "$work/a.json")" ]
ok "... with the four distributions" holds "$work/b.json" \
	"$ask | [.guest, .hand_off, .waiting, .served] | all(.count > 0 and .p50_ns > 0 and .p50_ns <= .p99_ns and .p99_ns <= .max_ns * 1.01)"
ok "... whose buckets hold every value" holds "$work/b.json" \
	"$ask | .served | (.buckets | split(\" \") | map(split(\":\")[1] | tonumber) | add) == .count"
ok "... whose sum lies between its buckets' ends" holds "$work/b.json" \
	"$ask | .served | (.buckets | split(\" \") | map(split(\":\") | map(tonumber) | .[0] * .[1]) | add) as \$least
	| .sum_ns >= \$least * 0.95 and .sum_ns <= (\$least + .count * 20) * 1.05"
ok "the line that it wrote took no waiting" holds "$work/b.json" \
	'.exits.accounts[] | select(.address == "0x3f8") | .count == 14 and .time_ns == .hand_off.sum_ns'
ok "each vCPU's times add up" holds "$work/b.json" "$sums"
ok "the vCPU that was not started is idle" holds "$work/b.json" \
	'.exits.vcpus[1].time_ns | .idle >= 0.99 * .wall'
# The sleep lies between them, and both between our looks at the clock: whatever the host is late with.
ok "two readings are as far apart as the clock says" holds "$work/b.json" \
	"[.exits.vcpus[0].time_ns.wall - $(jq '.exits.vcpus[0].time_ns.wall' "$work/a.json"),
		.uptime_ns - $(jq .uptime_ns "$work/a.json")] | all(. >= 1.98e9 and . <= 1.01 * $asked)"
ok "the host's part is told of each thread" holds "$work/b.json" \
	'.exits.host.run_ns > 0 and (.exits.vcpus | all(.host.voluntary_switches >= 0 and .host.run_delay_ns >= 0))'
"$STASIS" freeze ask
sleep 1
"$STASIS" thaw ask
"$STASIS" stats --json ask >"$work/c.json" 2>"$work/err"
ok "time in a freeze is parked" holds "$work/c.json" \
	'.exits.vcpus | all(.time_ns.parked >= 1e9 and .time_ns.parked < 0.9 * .time_ns.wall)'
ok "... and the times still add up" holds "$work/c.json" "$sums"
ok "... in the sum of all, too" holds "$work/c.json" "$total"
"$STASIS" stats ask >"$work/table" 2>"$work/err"
ok "stats has a table" grep -Eq '^io read 0x3fd +[0-9]+ +[0-9.]+ +[0-9.]+%  +[0-9.]+[num]?s/[0-9.]+[num]?s  +[0-9.]+[num]?s/' "$work/table"
ok "... with the shares of time" grep -Eq '^vCPU time  guest [0-9.]+% idle [0-9.]+% hand_off ' "$work/table"
ok "... what the host did to the threads" grep -Eq '^host +run delay [0-9.]+% voluntary switches [0-9]+ ' "$work/table"
ok "... dearest first" is "$(sed -n 5p "$work/table" | cut -d' ' -f1-3)" "io read 0x3fd"

# ---- top --------------------------------------------------------------------------------------

"$STASIS" top -n 3 -d 200ms ask >"$work/top" 2>"$work/err"
status=$?
ok "top prints blocks where standard output is no terminal (saw $status)" [ $status = 0 ] 
ok "... as many as were asked for" is "$(grep -c '^EXIT ' "$work/top")" 3
ok "... without escapes" is "$(grep -c $'\033' "$work/top")" 0
ok "... and the exits of the last interval only" [ "$(grep '^io read 0x3fd' "$work/top" | sed -n 3p | awk '{print $4}')" -lt \
	"$(grep '^io read 0x3fd' "$work/top" | sed -n 1p | awk '{print $4}')" ]
"$STASIS" top -n 0 ask >"$work/out" 2>&1
status=$?
ok "a wrong count ends 125 (saw $status)" is $status 125
"$STASIS" top -d 1 ask >"$work/out" 2>&1
ok "a wrong delay says what is accepted" grep -q 'a duration from 100ms' "$work/out"
if command -v script >/dev/null; then
	(sleep 1.5; printf q) | timeout 20 script -qec "stty rows 10 cols 60; '$STASIS' top -d 200ms ask" "$work/screen" >/dev/null 2>&1
	status=$?
	ok "on a terminal, q ends it (saw $status)" is $status 0
	ok "... which has its screen back" grep -q $'\033\[?1049l' "$work/screen"
	ok "... and no line was wider" is "$(tr '\r' '\n' <"$work/screen" | sed 's/\x1b\[[?0-9]*[A-Za-z]//g' | sed '/^Script/d' | awk 'length > 60' | wc -l)" 0
else
	skip "top on a terminal" "script is not installed"
fi
"$STASIS" top -d 200ms ask >"$work/top" 2>"$work/err" &
top=$!
sleep 0.6
kill $pid
wait $pid
took=$(($(date +%s%N) - before))
wait $top
status=$?
ok "it ends with the VM (saw $status)" is $status 0
"$STASIS" stats ask >"$work/out" 2>&1
status=$?
ok "stats of no VM ends 125 (saw $status)" is $status 125

# ---- halted -----------------------------------------------------------------------------------

run halted halt
sleep 2
# A halt counts when it is over: this ends it.
"$STASIS" freeze halted
"$STASIS" thaw halted
"$STASIS" stats --json halted >"$work/h.json" 2>"$work/err"
if holds "$work/h.json" '.exits.kvm.unavailable'; then
	skip "time halted in KVM is idle" "$(jq -r .exits.kvm.unavailable "$work/h.json")"
else
	ok "time halted in KVM is idle" holds "$work/h.json" '.exits.vcpus[0].time_ns | .idle >= 0.8 * .wall'
	ok "... and the times still add up" holds "$work/h.json" "$sums"
	ok "KVM's own statistics are there" holds "$work/h.json" '.exits.kvm.vcpus.exits > 0 and .exits.vcpus[0].kvm.exits > 0'
fi
kill $pid
wait $pid

# More than the host's part is read of. Nothing ends the halt.
run many halt -c 65
sleep 2
"$STASIS" stats --json many >"$work/many.json" 2>"$work/err"
if holds "$work/many.json" '.exits.vcpus[0].kvm.blocking == 1'; then
	ok "of many vCPUs, too, a halt under way is idle" holds "$work/many.json" '.exits.vcpus[0].time_ns | .idle >= 0.8 * .wall'
	ok "... in the sum of all" holds "$work/many.json" "$total"
	ok "... though the host's part is not told" holds "$work/many.json" '.exits.host.unavailable and (.exits.vcpus | all(has("host") | not))'
else
	skip "a halt under way is idle" "this host's KVM does not tell it"
fi
kill $pid
wait $pid

# ---- vCPUs that compute ------------------------------------------------------------------------

start 160M busy profile -c 2
began=$(date +%s%N)
"$STASIS" stats --json busy >"$work/busy-a.json" 2>"$work/err"
sleep 2
"$STASIS" stats --json busy >"$work/busy.json" 2>"$work/err"
passed=$(($(date +%s%N) - began))
ok "a vCPU that computes is in the guest" holds "$work/busy.json" '.exits.vcpus[0].time_ns | .guest >= 0.95 * .wall'
ok "... and its times add up" holds "$work/busy.json" "$sums"
ok "... to what passed" holds "$work/busy.json" \
	"(.exits.vcpus[0].time_ns.wall - $(jq '.exits.vcpus[0].time_ns.wall' "$work/busy-a.json")) | . >= 1.9e9 and . <= 1.01 * $passed"
kill $pid
wait $pid
(cd "$work" && "$payloads/chain-make" chain "$payloads/payload-chain.bin" 2 300000000000)
"$STASIS" restore "$work/chain" --name restored --report "$work/restored.end.json" </dev/null >"$work/out" 2>"$work/err" &
pid=$!
until "$STASIS" status restored 2>/dev/null | grep -q '^state *running'; do sleep 0.05; done
sleep 1
"$STASIS" stats --json restored >"$work/restored.json" 2>"$work/err"
ok "so is each that a snapshot had started" holds "$work/restored.json" \
	'.exits.vcpus | length == 2 and all(.time_ns | .wall > 5e8 and .guest >= 0.9 * .wall)'
"$STASIS" freeze restored
sleep 0.5
"$STASIS" thaw restored
"$STASIS" stats --json restored >"$work/restored.json" 2>"$work/err"
ok "... and frozen when it is" holds "$work/restored.json" \
	'.exits.vcpus | all(.time_ns | .parked >= 5e8 and .idle <= 0.05 * .wall)'
ok "... and its times add up" holds "$work/restored.json" "$sums"
ok "... in the sum of all, too" holds "$work/restored.json" "$total"
kill $pid
wait $pid
ok "... and at its end" holds "$work/restored.end.json" "($sums) and ($total)"

# ---- the report -------------------------------------------------------------------------------

ok "the report has what it always had" holds "$work/ask.json" \
	'.exits | .total > 0 and .by_reason.io > 0 and .handed_off > 0 and .posted > 0'
ok "... and the accounts" holds "$work/ask.json" "$ask | .count > 100"
ok "... whose counts add up" holds "$work/ask.json" \
	'.exits | ([.accounts[] | select(.reason != "intr") | .count] | add) == .total'
ok "... and the times" holds "$work/ask.json" "$sums"
ok "... which the person saw pass" holds "$work/ask.json" \
	".exits.vcpus | all(.time_ns.wall <= 1.01 * $took)"

end
