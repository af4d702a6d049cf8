#!/bin/bash
# Machines that run side by side, and machines that end: by themselves, by a signal, by kill -9.
# usage: lifecycle.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"

run() { # run NAME PAYLOAD OPTIONS...: in the background; its pid is in $pid
	local name=$1 payload=$2
	shift 2
	rm -f "$work/$name.out"
	"$STASIS" run --no-lab -m 64M -k "$payloads/payload-$payload.elf" -i "$work/empty" --name "$name" \
		"$@" </dev/null >"$work/$name.out" 2>"$work/$name.err" &
	pid=$!
}

is_up() { grep -qs 'payload is up' "$work/$1.out"; }
wait_up() {
	for _ in $(seq 200); do
		is_up "$1" && return 0
		sleep 0.05
	done
	return 1
}
left_over() { ls "$XDG_RUNTIME_DIR/stasis" 2>/dev/null; }
nothing_left() { [ -z "$(left_over)" ]; }
listed() { "$STASIS" list --json | grep -c '"name"'; }

# Ends of the guest's own.
for end in poweroff:0 reset:0 triple:126; do
	payload=${end%:*}
	run "own-$payload" "$payload" --timeout 20s
	wait $pid
	status=$?
	ok "$payload ends ${end#*:} (saw $status)" is "$status" "${end#*:}"
	ok "$payload printed its line first" is_up "own-$payload"
done
ok "a triple fault is told by name" grep -qi 'triple fault' "$work/own-triple.err"

# A console that can't be written is said, one whose reader has gone is not.
"$STASIS" run --no-lab -m 64M -k "$payloads/payload-poweroff.elf" -i "$work/empty" </dev/null \
	>/dev/full 2>"$work/full.err"
status=$?
ok "a console on a full disk ends 125 (saw $status)" is "$status" 125
ok "... and says why" grep -q 'No space left' "$work/full.err"
"$STASIS" run --no-lab -m 64M -k "$payloads/payload-poweroff.elf" -i "$work/empty" </dev/null \
	2>"$work/pipe.err" | true
status=${PIPESTATUS[0]}
ok "a console whose reader has gone is no failure (saw $status)" is "$status" 0

# Ends from outside, halted and spinning, with one vCPU and with eight.
for payload in halt spin; do
	for cpus in 1 8; do
		for signal in INT:130 TERM:143; do
			run stopme $payload -c $cpus
			wait_up stopme
			start=$(date +%s%N)
			kill -"${signal%:*}" $pid
			wait $pid
			status=$?
			took=$((($(date +%s%N) - start) / 1000000))
			ok "SIG${signal%:*} on $cpus vCPUs, $payload: ends ${signal#*:} (saw $status)" \
				is "$status" "${signal#*:}"
			ok "... in under a second ($took ms)" [ "$took" -lt 1000 ]
			ok "... and leaves nothing" nothing_left
		done
	done
done
run late halt --timeout 300ms
wait $pid
status=$?
ok "--timeout ends 124 (saw $status)" is "$status" 124

# Frozen, by itself and when it ends.
freezes() { # freezes CONDITION: of the report's list f
	python3 -c "import json, sys; f = json.load(open(sys.argv[1]))['freezes']; sys.exit(not ($1))" \
		"$work/freeze.json"
}
for payload in halt spin; do
	run frozen $payload -c 8 --freeze-at 200ms --freeze-for 100ms --timeout 700ms \
		--report "$work/freeze.json"
	wait $pid
	status=$?
	ok "a freeze of 8 vCPUs, $payload: goes on to the end (saw $status)" is "$status" 124
	ok "... and is in the report" freezes \
		"len(f) == 1 and f[0]['cause'] == 'freeze-at' and 'failed' not in f[0] and
		 10**8 <= f[0]['frozen_ns'] < 5 * 10**8 and 0 < f[0]['rendezvous_ns'] < 5 * 10**9"
	run frozen $payload -c 8 --freeze-at 200ms --freeze-for 60s --timeout 700ms \
		--report "$work/freeze.json"
	start=$(date +%s%N)
	wait $pid
	status=$?
	took=$((($(date +%s%N) - start) / 1000000))
	ok "--timeout ends one that is frozen (saw $status, $took ms)" [ "$status" = 124 -a "$took" -lt 5000 ]
	ok "... whose freeze is in the report as well" freezes "len(f) == 1 and f[0]['frozen_ns'] > 10**8"
	run frozen $payload -c 8 --freeze-at 1ms --freeze-for 60s
	wait_up frozen || sleep 0.2
	kill $pid
	wait $pid
	status=$?
	ok "SIGTERM ends one that is frozen (saw $status)" is "$status" 143
done

# kill -9, and the next start.
run killed halt
wait_up killed
kill -9 $pid
wait $pid 2>/dev/null
ok "after kill -9, list leaves the dead VM out" is "$(listed)" 0
run killed poweroff
wait $pid
status=$?
ok "... its name can be used again (saw $status)" is "$status" 0
ok "... and the next start has cleaned up" nothing_left

# A name is one VM's.
run twin halt
first=$pid
wait_up twin
"$STASIS" run --no-lab -m 64M -k "$payloads/payload-halt.elf" -i "$work/empty" --name twin </dev/null \
	>"$work/twin2.out" 2>"$work/twin2.err"
status=$?
ok "a second VM of the same name ends 125 (saw $status)" is "$status" 125
kill $first
wait $first

# Twenty at once.
pids=
for i in $(seq 20); do
	run "many$i" halt
	pids="$pids $pid"
done
up=0
for i in $(seq 20); do wait_up "many$i" && up=$((up + 1)); done
ok "twenty VMs run at once (saw $up)" is "$up" 20
ok "list shows twenty" is "$(listed)" 20
kill $pids
wait
ok "and all of them leave nothing" nothing_left

end
