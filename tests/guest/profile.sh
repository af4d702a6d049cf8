#!/bin/bash
# Profiles of machines on the host's own KVM: stasis run --profile, stasis profile.
# usage: profile.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"

command -v jq >/dev/null || {
	echo "1..0 # SKIP jq is not installed"
	exit 0
}
command -v nm >/dev/null || {
	echo "1..0 # SKIP nm is not installed"
	exit 0
}

run() { start 160M "$@"; } # NAME PAYLOAD OPTIONS...

# shares FILE PAYLOAD: of folded stacks: how many samples lie in each of the payload's two functions, by
# its symbols, and how many elsewhere.
shares() {
	nm -n "$payloads/payload-$2.elf" | awk -v folded="$1" '
		function number(hex,   i, n) {
			for (i = 1; i <= length(hex); i++)
				n = 16 * n + index("0123456789abcdef", substr(hex, i, 1)) - 1
			return n
		}
		{ start[++n] = number($1); name[n] = $3 }
		END {
			while ((getline line < folded) > 0) {
				split(line, part, " ")
				sub(/.*;/, "", part[1])
				at = number(substr(part[1], 3))
				for (i = n; i > 1 && start[i] > at; i--)
					;
				sum[name[i]] += part[2]
			}
			most = sum["three_quarters"] + 0
			few = sum["one_quarter"] + 0
			for (i in sum)
				all += sum[i]
			print most, few, all - most - few
		}'
}

# binomial MOST FEW: whether MOST of both is three quarters, within 4.5 standard deviations (7 in a
# million runs lie outside) and 2 % for what a turn more or less costs at each place.
binomial() {
	awk -v m="$1" -v f="$2" 'BEGIN {
		n = m + f; d = m - 0.75 * n
		exit !(n > 500 && (d < 0 ? -d : d) <= 4.5 * sqrt(n * 0.75 * 0.25) + 0.02 * n)
	}'
}

# ---- a guest of two functions ------------------------------------------------------------------

run two profile -c 2
"$STASIS" profile two --seconds 4 --hz 1000 -o "$work/two.folded" >"$work/two.text" 2>"$work/err"
status=$?
ok "profile ends 0 (saw $status)" is $status 0
ok "... and says what it saw" grep -Eq '^profile: [0-9]+ samples, which stand for [0-9]+ Hz of 1000 asked' "$work/two.text"
ok "... in at most ten lines" [ "$(wc -l <"$work/two.text")" -le 10 ]
read -r most few rest < <(shares "$work/two.folded" profile)
echo "# three_quarters $most, one_quarter $few, elsewhere $rest"
ok "samples lie where the guest spends its time" binomial "$most" "$few"
ok "... and nearly nowhere else" [ $((50 * rest)) -le $((most + few)) ]
"$STASIS" profile --json --seconds 2 --hz 2000 two >"$work/two.p.json" 2>"$work/err"
ok "the CPU that was not started is idle" holds "$work/two.p.json" \
	'.vcpus[1] | .idle_ns > 0 and .user_ns == 0 and .kernel_ns == 0'
ok "... and was not kicked at the full rate" holds "$work/two.p.json" '.vcpus[1].samples < 1600'
ok "... though its time is there" holds "$work/two.p.json" '.vcpus[1].idle_ns | . > 1.4e9 and . < 2.6e9'
ok "nothing of it is scheduling" holds "$work/two.p.json" '.scheduling_share == 0'
ok "samples are not taken for exits, of which there are none" holds "$work/two.p.json" \
	'.sampling_ns > 1e6 and ([.windows.list[].out_ns] | add) < 0.05 * .sampling_ns'
"$STASIS" stats --json two >"$work/two.s.json" 2>"$work/err"
ok "... but for what they are" holds "$work/two.s.json" \
	".exits.time_ns | .sampled >= $(jq .sampling_ns "$work/two.p.json") and .hand_off < 0.05 * .sampled"
ok "caches and nodes add up" holds "$work/two.p.json" \
	'([.caches[].kernel_ns] | add) == .kernel_ns and ([.nodes[].kernel_ns] | add) == .kernel_ns'
ok "what it could not know is said" holds "$work/two.p.json" '.degraded[0] | test("no Linux kernel")'
"$STASIS" profile two --seconds 3600 >"$work/first" 2>&1 &
first=$!
sleep 1
"$STASIS" profile two --seconds 1 >"$work/second" 2>&1
status=$?
ok "a second profile at once is refused (saw $status)" is $status 125
ok "... and says why" grep -q 'is being profiled already' "$work/second"
# Nobody is told "already" for an hour, as whoever asked for that has gone.
kill $first
wait $first 2>/dev/null
for i in $(seq 50); do
	"$STASIS" profile two --json --seconds 1 >"$work/third.json" 2>"$work/err" && break
	sleep 0.1
done
ok "a profile ends with its client" holds "$work/third.json" '.duration_ns < 2e9 and .samples > 0'
"$STASIS" profile two --seconds 5 >"$work/first" 2>&1 &
first=$!
sleep 1
kill $pid
wait $pid
wait $first
status=$?
ok "one that the VM's end cut short is told (saw $status)" grep -q '^profile: ' "$work/first"
"$STASIS" profile two --hz 0 >"$work/out" 2>&1
ok "a wrong rate says what is accepted" grep -q '1 to 10000 samples' "$work/out"
"$STASIS" profile two -o x.svg >"$work/out" 2>&1
ok "a wrong suffix says what is accepted" grep -q 'ends in .folded, .speedscope.json or .pb.gz' "$work/out"
"$STASIS" profile two >"$work/out" 2>&1
status=$?
ok "profile of no VM ends 125 (saw $status)" is $status 125

# restored NAME: the guest of that folder goes on under that name; its pid is in $pid.
restored() {
	rm -f "$work/$1.out"
	"$STASIS" restore "$work/$1" --name "$1" </dev/null >"$work/$1.out" 2>"$work/$1.err" &
	pid=$!
	up "$1"
}

# ---- at CPL 3 -----------------------------------------------------------------------------------

(cd "$work" && "$payloads/chain-make" shares "$payloads/payload-shares.bin" 1 1)
status=$?
ok "a guest at CPL 3 is made (saw $status)" is $status 0
restored shares
"$STASIS" profile shares --json --seconds 4 --hz 1000 -o "$work/shares.folded" >"$work/shares.json" 2>"$work/err"
ok "all of its time is user space's" holds "$work/shares.json" '.user_ns > 0 and .kernel_ns < 0.01 * .user_ns'
read -r most few rest < <(shares "$work/shares.folded" shares)
echo "# three_quarters $most, one_quarter $few, elsewhere $rest"
ok "samples lie where the guest spends its time" binomial "$most" "$few"
ok "... and nearly nowhere else" [ $((50 * rest)) -le $((most + few)) ]
ok "stacks go by frame pointers to the caller's caller" [ \
	"$(awk '{ n = gsub(";", ";", $1) + 1; all += $2; if (n >= 3) deep += $2 } END { print (deep > 0.9 * all) }' "$work/shares.folded")" = 1 ]
kill $pid
wait $pid

# ---- one that lies ------------------------------------------------------------------------------

# A sample's time is less than the mean interval, by far, whatever the guest puts into its memory.
(cd "$work" && "$payloads/chain-make" liar "$payloads/payload-liar.bin" 2 1)
restored liar
"$STASIS" profile liar --json --seconds 4 --hz 1000 -o "$work/liar.folded" >"$work/liar.json" 2>"$work/err" &
profile=$!
sleep 1
before=$(date +%s%N)
"$STASIS" status liar >"$work/out" 2>"$work/err"
took=$((($(date +%s%N) - before) / 1000000))
ok "a guest that lies to its profile slows no client ($took ms)" [ $took -lt 1000 ]
wait $profile
status=$?
echo "# $(jq -c '[.samples, .sampling_ns / .samples, .sampling_longest_ns]' "$work/liar.json") lies, $(jq -c \
	'[.samples, .sampling_ns / .samples, .sampling_longest_ns]' "$work/shares.json") doesn't"
ok "... and ends no profile of it (saw $status)" is $status 0
ok "... whose samples take no longer than they may" holds "$work/liar.json" \
	'.samples > 500 and .sampling_ns > 0 and .sampling_ns / .samples < 5e5'
ok "... and go as deep as they may" [ \
	"$(awk '{ n = gsub(";", ";", $1) + 1; if (n > most) most = n } END { print most }' "$work/liar.folded")" -ge 32 ]
ok "... with nothing taken for a kernel" holds "$work/liar.json" '.degraded[0] | test("no Linux kernel")'
kill $pid
wait $pid
status=$?
ok "... nor the machine (saw $status)" is $status 143

# ---- a run's ------------------------------------------------------------------------------------

run whole profile --profile=1000 --profile-out "$work/whole.speedscope.json"
sleep 2
"$STASIS" freeze whole
sleep 1
"$STASIS" thaw whole
sleep 1
kill $pid
wait $pid
ok "the result has the profile" holds "$work/whole.json" '.profile | .hz == 1000 and .samples > 500 and .kernel_ns > 0'
ok "... without the time in a freeze" holds "$work/whole.json" \
	'.profile | .vcpus[0].kernel_ns < 0.85 * .duration_ns'
ok "... and what it lacks" holds "$work/whole.json" '.degraded | any(test("^profile: no Linux"))'
ok "a summary was printed" grep -q '^profile: ' "$work/whole.err"
ok "the speedscope file adds up" holds "$work/whole.speedscope.json" \
	'.profiles[0] | .type == "sampled" and (.samples | length) == (.weights | length) and (.weights | add) == .endValue'
ok "... whose frames are there" holds "$work/whole.speedscope.json" \
	'(.shared.frames | length) as $n | .profiles[0].samples | all(all(. >= 0 and . < $n))'

# ---- a record -----------------------------------------------------------------------------------

# record NAME PAYLOAD OPTIONS...: a second and a half of it.
record() {
	local name=$1 payload=$2
	shift 2
	"$STASIS" run --no-lab -q -m 160M -c 2 -k "$payloads/payload-$payload.elf" -i "$work/empty" --timeout 1500ms \
		--record "$work/$name" "$@" </dev/null >"$work/out" 2>"$work/err"
}

record busy profile --freeze-at 500ms --freeze-for 100ms
status=$?
ok "a run with a record has its usual status (saw $status)" is $status 124
ok "the record has a report, three kinds of profile and a trace, and nothing half done" is \
	"$(echo "$work/busy/"*)" "$(echo "$work/busy/"{profile.folded,profile.pb.gz,profile.speedscope.json,report.json,trace.json})"
ok "... of which pprof's is compressed" gzip -t "$work/busy/profile.pb.gz"
# A host that is late with the end makes the run longer, and the windows more.
ok "windows cover the run" holds "$work/busy/report.json" \
	'.profile | .duration_ns > 1.2e9 and .windows.length_ns == 100000000 and
		(.windows.list | length) == (.duration_ns / .windows.length_ns | ceil)'
ok "... and add up" holds "$work/busy/report.json" \
	'.profile | ([.windows.list[].kernel_ns] | add) as $n | ($n - .kernel_ns | fabs) <= 20'
ok "... one of them was frozen through" holds "$work/busy/report.json" \
	'[.profile.windows.list[:-1][].kernel_ns] | min < 0.7 * max'
python3 "$(dirname "$0")/../unit/vm/check_trace.py" "$work/busy/trace.json" >"$work/out" 2>"$work/err"
status=$?
ok "the trace is one that Perfetto draws (saw $status)" is $status 0
ok "... with the freeze on each vCPU" holds "$work/busy/trace.json" \
	'[.traceEvents[] | select(.name == "frozen")] | length == 2 and all(.dur > 100000)'
record busy profile
status=$?
ok "a folder that holds a record takes no other (saw $status)" is $status 125
ok "... and says what is accepted" grep -q 'a folder that is empty' "$work/err"
record halted-record halt
"$STASIS" compare "$work/busy" "$work/busy" >"$work/out" 2>"$work/err"
status=$?
ok "a run does not differ from itself (saw $status)" is $status 0
ok "... and that is said of each figure" test "$(grep -c 'no difference$' "$work/out")" -ge 2
"$STASIS" compare "$work/halted-record" "$work/busy" >"$work/out" 2>"$work/err"
status=$?
ok "a halted one differs from a busy one (saw $status)" is $status 1
ok "... as it idles more" grep -Eq '^idle .* A has [0-9]+% more \[' "$work/out"

# ---- a halted guest -----------------------------------------------------------------------------

run halted halt --profile=2000
sleep 2
kill $pid
wait $pid
ok "a halted CPU is idle" holds "$work/halted.json" '.profile | .idle_ns > 1e9 and .kernel_ns < 0.05 * .idle_ns'
ok "... and left alone" holds "$work/halted.json" '.profile | .samples < 0.3 * .hz * .duration_ns / 1e9'

end
