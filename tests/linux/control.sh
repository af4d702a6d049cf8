#!/bin/bash
# The control socket of Linux guests, on the host or in the lab, warm and cold.
. "$(dirname "$0")/lib.sh"
begin
here=$(dirname "$0")/../guest
command -v python3 >/dev/null || skip_all "no python3"
where=host
[ "$LAB" = --lab ] && where=lab

# start NAME COMMAND: a guest that runs COMMAND after the first NMI; its pid is in $pid.
start() {
	"$STASIS" run "$LAB" --name "$1" --qmp "$work/$1.sock" -t 1n1l2c1t --report "$work/$1.json" -- sh -c '
		echo up
		for i in $(seq 1200); do
			grep -q "^ *NMI: *[1-9]" /proc/interrupts && { echo nmi came; break; }
			sleep 0.1
		done
		'"$2" >"$work/out" 2>"$work/err" </dev/null &
	pid=$!
	for _ in $(seq 900); do
		grep -q up "$work/out" && return 0
		sleep 0.1
	done
	return 1
}

came() { # came TEXT: it is in the output, within half a minute: the emulator may stand still for some of it
	for _ in $(seq 300); do
		grep -q "$1" "$work/out" && return 0
		sleep 0.1
	done
	return 1
}

driven() { # driven HOW NAME
	local how=$1 name=$2 status
	check "$how: a guest is up" start "$name" "sleep 100"
	matches "$how: list says where it runs" "*$where*" "$("$STASIS" list | grep "^$name ")"
	matches "$how: status" "*running*" "$("$STASIS" status "$name" 2>&1)"
	matches "$how: status knows the shape" '*"vcpus": 2*' "$("$STASIS" status --json "$name" 2>&1)"
	check "$how: abuse harms nothing" timeout 120 python3 "$here/qmp_client.py" "$work/$name.sock" abuse
	check "$how: freeze" "$STASIS" freeze "$name"
	matches "$how: ... holds it" "*frozen*" "$("$STASIS" status "$name" 2>&1)"
	check "$how: thaw" "$STASIS" thaw "$name"
	matches "$how: ... lets it go on" "*running*" "$("$STASIS" status "$name" 2>&1)"
	timeout 60 python3 "$here/qmp_client.py" "$work/$name.sock" inject-nmi >"$work/said" &
	listener=$!
	check "$how: an NMI reaches the kernel" came "nmi came"
	timeout 60 python3 "$here/qmp_client.py" "$work/$name.sock" quit >"$work/quit"
	wait $pid
	status=$?
	wait $listener
	equal "$how: quit ends the run" 143 $status
	matches "$how: both clients hear of it" "*host-qmp-quit*host-qmp-quit*" "$(cat "$work/quit" "$work/said")"
	matches "$how: the report says killed" '*"outcome": "killed"*' "$(cat "$work/$name.json")"
	equal "$how: nothing is left" "" "$(ls -d "$XDG_RUNTIME_DIR/stasis/$name" "$work/$name.sock" 2>/dev/null)"
}

# told NAME COMMAND STATUS EVENTS: what clients hear when the guest does COMMAND.
told() {
	check "$1: a guest is up" start "$1" "$2"
	timeout 60 python3 "$here/qmp_client.py" "$work/$1.sock" inject-nmi >"$work/said"
	wait $pid
	equal "$1: the run's status" "$3" $?
	# shellcheck disable=SC2086
	matches "$1: clients are told" "$4" "$(cat "$work/said")"
}

driven "$LAB" one
told panic "echo c >/proc/sysrq-trigger; sleep 100" 126 '*"GUEST_PANICKED"*"SHUTDOWN"*"guest-panic"*'
told reset "echo b >/proc/sysrq-trigger; sleep 100" 126 '*"RESET"*"guest-reset"*"SHUTDOWN"*"guest-reset"*'
told exit "exit 3" 3 '*"SHUTDOWN"*"guest-shutdown"*'
if [ "$LAB" = --lab ]; then
	"$STASIS" lab stop >/dev/null 2>&1
	lab_started=
	driven "cold lab" two
fi
end
