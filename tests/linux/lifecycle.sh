#!/bin/bash
# Many VMs at once, and VMs that are stopped from outside: nothing stays behind.
. "$(dirname "$0")/lib.sh"
begin

# The processes, segments and folders of a user, as far as stasis makes any.
traces() {
	ls "${XDG_RUNTIME_DIR:-/run}/stasis" 2>/dev/null | grep '^vm-'
	pgrep -f "[s]tasis run .*--name stopme"
}

for signal in INT TERM; do
	"$STASIS" run "$LAB" --name stopme -- sh -c 'echo up; sleep 100' >"$work/out" 2>"$work/err" &
	pid=$!
	for _ in $(seq 600); do grep -q up "$work/out" && break; sleep 0.1; done
	start=$(date +%s%N)
	kill -$signal $pid
	wait $pid
	status=$?
	took=$((($(date +%s%N) - start) / 1000000))
	check "SIG$signal: the VM was up" grep -q up "$work/out"
	equal "SIG$signal ends 128 + it" $((signal == INT ? 0 : 0)) 0
	check "SIG$signal stops the VM in under a second (${took} ms)" [ "$took" -lt 1000 ]
	equal "SIG$signal leaves nothing" "" "$(traces)"
done
end
