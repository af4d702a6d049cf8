#!/bin/bash
# Linux guests that are stopped from outside, and several at once: nothing stays behind.
. "$(dirname "$0")/lib.sh"
begin

# What a run could leave: folders of VMs, and processes, which all carry our runtime directory.
traces() {
	local p
	ls "$XDG_RUNTIME_DIR/stasis" 2>/dev/null
	for p in $(pgrep -x stasis) $(pgrep qemu-system); do
		tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR" &&
			echo "$(cat "/proc/$p/comm") $p"
	done
}

# start OPTIONS...: a run that says "up" and stays; its pid is in $pid.
start() {
	: >"$work/out"
	"$STASIS" run "$@" --name stopme -- sh -c 'echo up; sleep 100' >"$work/out" 2>"$work/err" </dev/null &
	pid=$!
	for _ in $(seq 900); do
		grep -q up "$work/out" && return 0
		sleep 0.1
	done
	return 1
}

# Outside of a lab, a VM is gone in a second. In one, the run waits 0.9 s for an emulator that may stand still, and
# ends then, whether or not it has heard of the VM's end.
limit=1000
[ "$LAB" = --no-lab ] || limit=2000

# traces_but BEFORE SIGNAL: what is there that was not before, once ten seconds are over or there is no more. The
# lab's machine is told by the end of a socket, and a killed one's folder is taken away by the next list.
traces_but() {
	local now
	for _ in $(seq 100); do
		[ "$2" != KILL ] || "$STASIS" list >/dev/null
		now=$(traces)
		[ "$now" = "$1" ] && break
		sleep 0.1
	done
	echo "$now"
}

# stopped HOW SIGNAL STATUS OPTIONS...
stopped() {
	local how=$1 signal=$2 want=$3 before start took status
	shift 3
	before=$(traces)
	check "$how: a guest is up" start "$@"
	start=$(date +%s%N)
	kill -"$signal" "$pid"
	wait "$pid" 2>/dev/null
	status=$?
	took=$((($(date +%s%N) - start) / 1000000))
	equal "$how: SIG$signal ends $want" "$want" "$status"
	check "$how: in under $((limit / 1000)) s ($took ms)" [ "$took" -lt $limit ]
	equal "$how: SIG$signal leaves nothing" "$before" "$(traces_but "$before" "$signal")"
}

for signal in INT:130 TERM:143 KILL:137; do
	stopped "$LAB" "${signal%:*}" "${signal#*:}" "$LAB"
done

# Two at once, each with its own.
"$STASIS" run "$LAB" -- sh -c 'sleep 1; echo first' >"$work/first" 2>"$work/err" </dev/null &
first=$!
stasis_run -- echo second
equal "two VMs at once: the second" second "$out"
wait $first
equal "two VMs at once: the first" first "$(cat "$work/first")"

# A lab that nobody keeps warm comes with the run and goes with it.
if [ "$LAB" = --lab ]; then
	"$STASIS" lab stop >/dev/null 2>&1
	lab_started=
	for signal in INT:130 KILL:137; do
		stopped "cold lab" "${signal%:*}" "${signal#*:}" --lab
	done
fi
end
