#!/bin/bash
# Machines of hundreds of vCPUs on this host's KVM: each vCPU takes its start-up IPI, says its x2APIC id,
# takes an interrupt that the user-space IOAPIC routes to it, and halts.
# usage: many.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"
payload=$payloads/payload-smp.elf

# Shape, and how many CPUs besides the first. 254 is the last id that needs no split controller.
for shape in 1n1l4c2t:7 1n1l255c1t:254 1n1l256c1t:255 1n1l257c1t:256 1n14l9c2t:251 3n15l10c2t:299 \
	1n1l1024c1t:1023; do
	spec=${shape%:*} others=${shape#*:}
	"$STASIS" run --no-lab -m 256M -k "$payload" -i "$work/empty" -t "$spec" --timeout 100s \
		--report "$work/report" </dev/null >"$work/out" 2>"$work/err"
	if [ $? = 77 ]; then
		skip "$spec" "$(tail -n 1 "$work/err")"
		continue
	fi
	ok "$spec: all start and take their interrupt" \
		grep -qx "$others started, $others interrupted" "$work/out"
	# Ids past 254 are reached by routes of ours, one for each move; others by KVM's own controller.
	installs=$(sed -n 's/.*"route_installs": \([0-9]*\).*/\1/p' "$work/report")
	case $spec in
	1n1l4c2t | 1n1l255c1t) ok "$spec: no route of ours ($installs)" [ "$installs" = 0 ] ;;
	*) ok "$spec: a route for each ($installs)" [ "$installs" -ge "$others" ] ;;
	esac
	ok "$spec: no route failed" grep -q '"route_install_failures": 0' "$work/report"
done
end
