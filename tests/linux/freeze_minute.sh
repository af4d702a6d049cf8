#!/bin/bash
# A stock kernel that is frozen for a minute: its clocks go on from where they stood, a timer comes when
# it is due, its connections live, and it has nothing to say of it.
. "$(dirname "$0")/lib.sh"
begin
# The clock of the host's that KVM tells is a module on x86, and part of Debian's arm64 kernels.
clock=()
load=true
if [ "$guest_arch" = x86_64 ]; then
	release=$("$STASIS" kernel list | sed -n 's/^\(6\.12[^ ]*-amd64\) .*/\1/p' | head -n 1)
	kernel=$("$STASIS" kernel list | awk -v release="$release" '$1 == release { print $NF; exit }')
	module=$(ls "${kernel%/boot/*}/lib/modules/$release/kernel/drivers/ptp"/ptp_kvm.ko* 2>/dev/null | head -n 1)
	[ -n "$module" ] || skip_all "the kernel $release has no module ptp_kvm"
	case $module in
	*.xz) xz -dc "$module" >"$work/ptp_kvm.ko" ;;
	*) cp "$module" "$work/ptp_kvm.ko" ;;
	esac
	clock=(--include "$work/ptp_kvm.ko:/ptp_kvm.ko")
	load='insmod /ptp_kvm.ko'
else
	[ "$guest_arch" = "$(uname -m)" ] || WITNESS=${ARM64_BUILD:?build tree for arm64}/tests/linux/witness
	[ -x "$WITNESS" ] || skip_all "no $WITNESS"
fi

# minute NAME OPTIONS...: the guest is frozen as soon as its witness is ready.
minute() {
	local name=$1
	shift
	"$STASIS" run "$LAB" -q --name "$name" -c 2 --report "$work/report" --timeout 400s \
		"${clock[@]}" --include "$WITNESS:/witness" "$@" -- sh -c "
		echo on >/proc/sys/kernel/printk_devkmsg
		$load"' && /witness || exit
		echo "clocksource $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
		dmesg | grep -i -E "stall|lockup|unstable|hung|skew|watchdog: BUG" | sed "s,^,barked: ,"
		true' >"$work/out" 2>"$work/err" </dev/null &
	pid=$!
	while ! grep -q ready "$work/out" && kill -0 $pid 2>/dev/null; do
		sleep 0.1
	done
	check "$name: freeze" "$STASIS" freeze "$name"
	sleep 60
	check "$name: thaw" "$STASIS" thaw "$name"
	wait $pid
	status=$?
}
value() { sed -n "s/^$1 //p" "$work/out"; }
report() { python3 -c "import json, sys; r = json.load(open(sys.argv[1])); print($1)" "$work/report"; }
us() { echo "$(($1 / 1000)) us"; }
less() { [ -n "$1" ] && [ -n "$2" ] && [ "$1" -lt "$2" ]; }
abs() { echo "${1#-}"; }

# By the host's stamps the guest stood still for frozen_ns, and so it ran for all the rest.
shown() { echo $(($(report "r['freezes'][0]['frozen_ns']") - $(value hidden_ns))); }
# Whether the clock shows less than 1 ms of it, its error counted.
within() { less $(($(abs "$(shown)") + $(value hidden_error_ns))) 1000000; }
# Whether the timer that the freeze fell into took no longer than others do and the guest takes to stop.
on_time() {
	local rendezvous
	rendezvous=$(report "r['freezes'][0]['rendezvous_ns']")
	less "$(value nap_ns)" $(($(value nap_worst_ns) + rendezvous + 1000000))
}

bears() { # bears NAME: what its witness says
	local name=$1 frozen rendezvous
	if [ $status = 77 ]; then
		skip "$name: what the guest saw" "$(tail -n 1 "$work/err")"
		return
	fi
	equal "$name: the guest ends well" 0 "$status"
	[ $status = 0 ] || return
	frozen=$(report "r['freezes'][0]['frozen_ns']")
	rendezvous=$(report "r['freezes'][0]['rendezvous_ns']")
	check "$name: it was frozen for a minute ($(us "$frozen"), after $(us "$rendezvous"))" \
		less 60000000000 "$frozen"
	equal "$name: nothing is degraded" "[]" "$(report "r['degraded']")"
	check "$name: CLOCK_MONOTONIC shows less than 1 ms of it ($(shown) ns, give or take $(value hidden_error_ns))" within
	check "$name: sched_clock goes with it (off by $(value sched_ns) ns, give or take $(value sched_error_ns))" \
		less $(($(abs "$(value sched_ns)") + $(value sched_error_ns))) 1000000
	echo "# $name: between two looks at the clock, the longest: $(us "$(value gap_ns)")"
	check "$name: a timer of 100 ms takes $(us "$(value nap_ns)") (others at most $(us "$(value nap_worst_ns)"))" \
		on_time
	check "$name: ... and no timer comes early (shortest $(us "$(value nap_shortest_ns)"))" \
		less 99999999 "$(value nap_shortest_ns)"
	check "$name: a busy connection goes on ($(value bytes_before) bytes before, $(value bytes_after) after)" \
		less 1000 "$(value bytes_after)"
	check "$name: one that waits to send again was waiting ($(value retransmits) times sent again)" \
		less 0 "$(value unacked)"
	check "$name: ... and gets it across (in $(us "$(value lost_arrived_ns)"))" \
		[ -n "$(value lost_arrived_ns)" ]
	equal "$name: the kernel has nothing to say" "" \
		"$(grep -i -E 'barked' "$work/out")"
	echo "# $name: clocksource $(value clocksource), load of this host $(cut -d ' ' -f 1-3 /proc/loadavg)"
}

name=kvm-clock
[ "$guest_arch" = x86_64 ] || name=counter
minute $name
# Where the emulator is put off between a stamp and a clock, or stands still as the guest is thawed, that
# is its time and not the guest's.
if [ "$LAB" = --lab ] && [ $status = 0 ] && ! { within && on_time; }; then
	echo "# once more: the clock was $(shown) ns off and the timer took $(us "$(value nap_ns)"), in an" \
		"emulator on a host with load $(cut -d ' ' -f 1 /proc/loadavg)"
	minute $name
fi
bears $name
end
