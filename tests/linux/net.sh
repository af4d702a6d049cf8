#!/bin/bash
# Networks of a stock kernel: a tap with and without offloads, user mode, 64 connections at once, and
# checksums of what went through. Taps are made in a network namespace of this test's own.
. "$(dirname "$0")/lib.sh"
begin

peer=$(dirname "$0")/net_peer.py
mib=${NET_MIB:-100}
# A lab moves a few MiB each second, and less where others use the machine.
[ "$LAB" = --lab ] && mib=${NET_MIB:-16}

# In the guest: the host at $1, on the ports of net_peer.py; $2 is the size. "ok NAME" or "no NAME VALUES".
cat >"$work/guest.sh" <<'GUEST'
host=$1 bytes=$(($2 << 20)) want=$3 icmp=$4
ok() { name=$1; shift; if [ "$1" = "$2" ]; then echo "ok $name"; else echo "no $name: want $1 got $2"; fi; }
if [ "$icmp" = ping ]; then
	ping -c 3 -i 0.3 -w 20 "$host" >/tmp/ping && echo "ok ping" || { echo "no ping"; cat /tmp/ping >&2; }
fi
# No end is sent before the host's: passt may lose the host's then, and the connection stays.
mkfifo /tmp/open
sleep 100000 >/tmp/open &
held=$!
ok "a line comes back" hello "$({ echo hello; sleep 5; } | nc "$host" 7001)"
mkdir /tmp/many
for i in $(seq 64); do
	({ echo "line $i"; sleep 20; } | nc "$host" 7001 >/tmp/many/$i) &
	pids="$pids $!"
done
wait $pids
same=0
for i in $(seq 64); do [ "$(cat /tmp/many/$i)" = "line $i" ] && same=$((same + 1)); done
ok "64 connections at once" 64 $same
nc "$host" 7002 </tmp/open >/tmp/data
ok "the bytes that came" "$want" "$(sha256sum </tmp/data | cut -c1-64)"
ok "... are so many" "$bytes" "$(wc -c </tmp/data)"
ok "the bytes that went" "$want" "$({ cat /tmp/data; sleep 20; } | nc "$host" 7003)"
rm /tmp/data
kill $held
GUEST

# run_guest NAME HOST ICMP OPTIONS...: with the peer in place already.
run_guest() {
	local name=$1 host=$2 icmp=$3
	shift 3
	stasis_run -q -c 2 -m 1G --report "$work/report" --include "$work/guest.sh:/guest.sh" "$@" -- \
		sh /guest.sh "$host" "$mib" "$want" "$icmp"
	equal "$name: the guest ends 0" 0 "$status"
	while read -r line; do
		case $line in
		ok\ *) pass "$name: ${line#ok }" ;;
		no\ *) fail "$name: ${line#no }" ;;
		esac
	done <<<"$out"
	check "$name: the report counts frames both ways, and no fault" python3 -c "
import json, sys
net = json.load(open(sys.argv[1]))['nets'][0]
sys.exit(not (net['rx_frames'] > 100 and net['tx_frames'] > 100 and not net['guest_faults']))
" "$work/report"
}

# start_peer ADDRESS: $want is what it sends.
start_peer() {
	mkfifo "$work/hold" 2>/dev/null
	"$peer" "$1" "$mib" <"$work/hold" >"$work/peer.out" &
	exec 9>"$work/hold"
	for _ in $(seq 100); do
		[ -s "$work/peer.out" ] && break
		sleep 0.1
	done
	want=$(cut -d' ' -f2 "$work/peer.out")
}
stop_peer() { exec 9>&-; }

# ---- words --------------------------------------------------------------------------------------

for word in nothing tap= tap=x,mac=01:02:03:04:05:06 tap=x,ip=1.2.3.4 tap=x,gw=1.2.3.4 user,ip=1.2.3.4/24; do
	out=$("$STASIS" run --dry-run --net "$word" -- true 2>&1)
	equal "--net $word is refused" 125 $?
done
one=$("$STASIS" run --dry-run --net user --name same -- true | python3 -c 'import json,sys; print(json.load(sys.stdin)["nets"][0]["kind"])')
equal "--dry-run shows a network" user "$one"

# ---- user mode ----------------------------------------------------------------------------------

if ! command -v passt >/dev/null; then
	out=$("$STASIS" run "$LAB" --net user -- true 2>&1)
	equal "without passt, --net user is refused as a lack" 77 $?
	matches "... with the command that mends it" '*apt-get install passt*' "$out"
	skip "user mode" "passt is not installed"
elif [ -z "$(ip -4 route show default 2>/dev/null)" ]; then
	skip "user mode" "this host has no IPv4 network that passt could use"
else
	start_peer 127.0.0.1
	# Pings need a right of this host's that few give.
	run_guest "user mode" 10.0.2.2 no --net user
	stop_peer
fi

# ---- a tap --------------------------------------------------------------------------------------

if [ "$(id -u)" != 0 ] || ! ip netns list >/dev/null 2>&1; then
	skip "a tap" "only root may make one"
elif ! ip netns add "stasis-$$" 2>/dev/null; then
	skip "a tap" "no network namespaces here"
elif ! ip netns exec "stasis-$$" ip tuntap add vmtap mode tap multi_queue 2>"$work/err"; then
	ip netns del "stasis-$$"
	skip "a tap" "$(cat "$work/err")"
else
	trap 'ip netns del "stasis-$$"; finish' EXIT
	ip -n "stasis-$$" link set lo up
	ip -n "stasis-$$" addr add 10.77.0.1/24 dev vmtap
	ip -n "stasis-$$" link set vmtap up
	cat >"$work/in_netns" <<INSIDE
#!/bin/bash
exec ip netns exec stasis-$$ "\$@"
INSIDE
	chmod +x "$work/in_netns"
	plain=$STASIS
	cat >"$work/stasis_netns" <<INSIDE
#!/bin/bash
exec ip netns exec stasis-$$ "$plain" "\$@"
INSIDE
	chmod +x "$work/stasis_netns"
	STASIS=$work/stasis_netns
	peer_plain=$peer
	cat >"$work/peer_netns" <<INSIDE
#!/bin/bash
exec ip netns exec stasis-$$ "$peer_plain" "\$@"
INSIDE
	chmod +x "$work/peer_netns"
	peer=$work/peer_netns
	start_peer 10.77.0.1
	run_guest "a tap with offloads" 10.77.0.1 ping --net tap=vmtap,ip=10.77.0.2/24,gw=10.77.0.1
	run_guest "a tap without" 10.77.0.1 ping --net tap=vmtap,ip=10.77.0.2/24,offloads=off
	stop_peer
	STASIS=$plain
fi
end
