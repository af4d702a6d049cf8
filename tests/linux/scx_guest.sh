# The guest's part of kernel_build.sh: /scx_simple runs and ends by itself, /scx_qmap is ejected for an
# error of its own and for tasks that it doesn't run. Prints "KEY VALUE" lines; all that the schedulers
# say goes to standard error.

state() { cat /sys/kernel/sched_ext/state; }
# until_state WANT: waits for it, 20 s at most.
until_state() {
	for _ in $(seq 200); do
		[ "$(state)" != "$1" ] || break
		sleep 0.1
	done
	state
}
# busy N: that many tasks that always want a CPU.
busy() {
	for _ in $(seq "$1"); do
		(while :; do :; done) &
		spinners="$spinners $!"
	done
}
# ejected OPTIONS...: runs /scx_qmap until it ends, 60 s at most, and what it says of the reason.
ejected() {
	timeout -s KILL 60 /scx_qmap "$@" >/tmp/qmap 2>&1
	cat /tmp/qmap >&2
	sed -n 's/^EXIT: //p' /tmp/qmap | head -n 1
}

spinners=
echo "before $(state)"
/scx_simple >/tmp/simple 2>&1 &
simple=$!
echo "with $(until_state enabled)"
sleep 3
echo "later $(state)"
kill -INT $simple
wait $simple
cat /tmp/simple >&2
echo "simple $(sed -n 's/^EXIT: //p' /tmp/simple)"
echo "after $(until_state disabled)"
busy "$(($(nproc) + 2))"
echo "error $(ejected -e 20)"
echo "stall $(ejected -t 20)"
echo "last $(until_state disabled)"
# shellcheck disable=SC2086
kill $spinners
dmesg | grep sched_ext >&2
