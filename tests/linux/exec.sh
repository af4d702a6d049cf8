#!/bin/bash
# stasis exec on a stock kernel: streams apart, status, standard input, a terminal, two at once.
. "$(dirname "$0")/lib.sh"
begin

name=exec-$$
"$STASIS" run "$LAB" -q -c 2 --name "$name" -- sleep 600 >"$work/run.out" 2>&1 &
vm=$!
trap 'kill $vm 2>/dev/null; wait $vm 2>/dev/null; finish' EXIT
for _ in $(seq 300); do
	"$STASIS" list 2>/dev/null | grep -q "$name" && break
	sleep 0.1
done

# in_guest ARGS...: output in $out, errors in $work/err, status in $status.
in_guest() {
	out=$(timeout 120 "$STASIS" exec "$@" 2>"$work/err")
	status=$?
}

in_guest "$name" -- sh -c 'echo out; echo err >&2; exit 7'
equal "exec waits for the guest, and ends with COMMAND's status" 7 "$status"
equal "... its output" out "$out"
equal "... and its errors, apart" err "$(cat "$work/err")"
in_guest "$name" -- sh -c 'kill -TERM $$'
equal "a signal that ended it is 128 and its number" 143 "$status"
in_guest "$name" -- no-such-command
equal "a command that is not there is 127" 127 "$status"
in_guest "$name" -- /etc/passwd
equal "... one that can't be run is 126" 126 "$status"
in_guest "$name" cat
equal "without -i standard input is empty" "0:" "$status:$out"
in_guest "$name" -- sh -c 'printf %s "$1|$2"' sh 'a  b' ''
equal "arguments arrive as they are" 'a  b|' "$out"

head -c 1048576 /dev/urandom >"$work/in"
timeout 120 "$STASIS" exec -i "$name" -- cat <"$work/in" >"$work/back"
equal "a MiB each way" 0 $?
check "... is the same" cmp "$work/in" "$work/back"
out=$(head -c 3000000 /dev/zero | timeout 120 "$STASIS" exec -i "$name" -- sh -c 'head -c 10 | wc -c')
equal "input that nobody reads to its end holds nothing up" 0 $?

# The first ends once the second has, and not before.
timeout 120 "$STASIS" exec "$name" -- sh -c 'echo begun; until [ -e /tmp/quick ]; do sleep 0.1; done; echo slow' >"$work/slow" &
slow=$!
until grep -q begun "$work/slow" || ! kill -0 $slow 2>/dev/null; do
	sleep 0.1
done
timeout 60 "$STASIS" exec "$name" -- sh -c 'mkdir -p /tmp; : >/tmp/quick; echo quick' >"$work/quick"
equal "two at once: the second doesn't wait for the first" 0 $?
wait $slow
equal "... nor the first for ever, and both say theirs" "0 quick begun slow" \
	"$? $(cat "$work/quick" "$work/slow" | xargs)"

in_guest -t "$name" -- tty
matches "-t gives a terminal" '/dev/pts/*' "$out"

# sleepers WANT: until so many are in the guest, and a minute at most; how many there are.
sleepers() {
	for _ in $(seq 60); do
		in_guest "$name" -- sh -c 'ps | grep -c "[s]leep 987"'
		[ "$out" = "$1" ] && break
		sleep 1
	done
	echo "$out"
}
"$STASIS" exec "$name" -- sleep 987 >/dev/null 2>&1 &
sleeper=$!
equal "a COMMAND sleeps" 1 "$(sleepers 1)"
kill -TERM $sleeper
wait $sleeper
equal "a signal to exec is COMMAND's" 0 "$(sleepers 0)"

in_guest no-such-vm -- true
equal "a name that no VM has is refused" 125 "$status"
in_guest "$name"
equal "a COMMAND is needed" 125 "$status"

# What is written to the guest's CID 2, a program of the host's finds at vsock_PORT of its folder: told
# by the manual page, tested by the device's own tests.
kill $vm
wait $vm 2>/dev/null
in_guest "$name" -- true
equal "after its end the name is gone" 125 "$status"
end
