#!/bin/bash
# A stock kernel that is frozen for ten seconds under load: it goes on as if nothing had happened, its
# clocks don't show it, no watchdog barks, and its disk has all that was written.
. "$(dirname "$0")/lib.sh"
begin

# Uptime begins with the vCPUs, as --freeze-at does. A busy host boots slowly.
freeze_at=30
[ "$guest_arch" = "$(uname -m)" ] || freeze_at=90 # another architecture's emulator is slower
end_at=$((freeze_at + 14))
load='
	uptime() { read -r now rest </proc/uptime; echo "${now%.*}${now#*.}"; }
	for i in 1 2; do
		(while :; do :; done) &
	done
	(
		i=0
		while [ $i -lt 16000 ] && [ "$(uptime)" -lt "$((END - 2))00" ]; do
			head -c 65536 /dev/urandom
			i=$((i + 1))
			[ $((i % 16)) = 0 ] && sync
		done
		echo $i >/blocks
	) | tee /dev/vda | sha256sum | cut -c1-64 >/sum &
	writer=$!
	begin=$(uptime) last=$begin worst=0
	while [ "$last" -lt "${END}00" ]; do
		sleep 0.1
		now=$(uptime)
		[ $((now - last)) -le $worst ] || worst=$((now - last))
		last=$now
	done
	wait $writer
	sync
	echo "blocks $(cat /blocks)"
	echo "sum $(cat /sum)"
	echo "worst $worst"
	echo "ran $(($(uptime) - begin))"
	dmesg | grep -i -E "stall|lockup|unstable|hung|watchdog: BUG" && echo "barked"
	true
'
truncate -s 1G "$work/disk.img"
stasis_run -q -c 2 --disk "$work/disk.img" --freeze-at ${freeze_at}s --freeze-for 10s --report "$work/report" \
	--timeout 300s -- sh -c "END=$end_at; $load"
equal "a guest frozen for 10 s ends well" 0 "$status"
value() { printf '%s\n' "$out" | sed -n "s/^$1 //p"; }
report() { python3 -c "import json, sys; r = json.load(open(sys.argv[1])); print($1)" "$work/report"; }

equal "the report has one freeze" "1 freeze-at False" \
	"$(report "len(r['freezes']), r['freezes'][0]['cause'], 'failed' in r['freezes'][0]")"
check "... of 10 s" [ "$(report "r['freezes'][0]['frozen_ns'] // 10**9")" = 10 ]
echo "# rendezvous: $(report "r['freezes'][0]['rendezvous_ns'] // 1000") us"
equal "nothing is degraded" "[]" "$(report "r['degraded']")"
# Centiseconds. The emulator itself stands still for a second now and then.
check "no two of the guest's looks at its clock are 4 s apart (worst $(value worst)0 ms)" \
	[ "$(value worst)" -lt 400 ]
hidden=$(report "r['timing_ns']['command'] // 10**7 - $(value ran)")
check "the guest's clock shows none of it (${hidden}0 ms are hidden from it)" \
	[ "$hidden" -ge 950 -a "$hidden" -le 1200 ]
equal "no watchdog barked" "" "$(printf '%s\n' "$out" | grep -i -E 'stall|lockup|unstable|hung|barked')"
equal "the disk has what was written ($(value blocks) blocks)" "$(value sum)" \
	"$(head -c $(($(value blocks) * 65536)) "$work/disk.img" | sha256sum | cut -c1-64)"

end
