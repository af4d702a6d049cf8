#!/bin/bash
# Networks of a stock kernel: a tap with and without offloads, user mode, 64 connections at once, iperf3
# both ways, and MiB of which each byte is checked. Taps are made in a network namespace of this test's own.
# NET_MIB: how much goes each way; IPERF_SECONDS: for how long each way.
. "$(dirname "$0")/lib.sh"
begin

stream=${STREAM:?path of the stream program}
in_netns=()
# A lab moves a few MiB each second, and less where others use the machine.
mib=${NET_MIB:-12}
iperf_seconds=${IPERF_SECONDS:-2}
iperf=$(command -v iperf3)
iperf_tool=()
[ -z "$iperf" ] || iperf_tool=(--include "$iperf:/usr/bin/iperf3")

# In the guest: the host at $1, whose stream program moves $2 MiB; $4 is iperf3's time. "ok NAME",
# "no NAME VALUES" or "say WORDS".
cat >"$work/guest.sh" <<'GUEST'
host=$1 mib=$2 icmp=$3 seconds=$4
ok() { name=$1; shift; if [ "$1" = "$2" ]; then echo "ok $name"; else echo "no $name: want $1 got $2"; fi; }
if [ "$icmp" = ping ]; then
	ping -c 3 -i 0.3 -w 20 "$host" >/tmp/ping && echo "ok ping" || { echo "no ping"; cat /tmp/ping >&2; }
fi
# No end is sent before the host's: passt may lose the host's then, and the connection stays.
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
now() { cut -d. -f1 /proc/uptime; }
# passt ends a connection whose guest doesn't answer for some seconds, as one on a very busy host may not:
# what it has cut short (2) is tried again. A wrong byte is not.
tries=3
[ "$icmp" != ping ] || tries=1
for way in receive send; do
	for try in $(seq $tries); do
		begin=$(now)
		got=$(/stream $way "$host" "$mib" 2>&1)
		[ $? = 2 ] && [ $try -lt $tries ] || break
		echo "say $way: cut short ($got), once more"
	done
	ok "$way $mib MiB" "$((mib << 20)) bytes" "$got"
	echo "say $way: $mib MiB in $(($(now) - begin)) s"
done
for way in "" -R; do
	[ $seconds != 0 ] || break
	if iperf3 -c "$host" -t $seconds -f m $way >/tmp/iperf 2>&1; then
		echo "ok iperf3 ${way:-to the host}"
		echo "say iperf3 ${way:-to the host}: $(grep receiver /tmp/iperf | tr -s ' ')"
	else
		echo "no iperf3 ${way:-to the host}: $(tail -n 3 /tmp/iperf | tr '\n' ' ')"
	fi
done
GUEST

# run_guest NAME HOST ICMP OPTIONS...: with the peer in place already.
run_guest() {
	local name=$1 host=$2 icmp=$3
	shift 3
	stasis_run -q -c 2 -m 1G --report "$work/report" --include "$work/guest.sh:/guest.sh" \
		--include "$stream:/stream" "${iperf_tool[@]}" "$@" -- \
		sh /guest.sh "$host" "$mib" "$icmp" "$([ -n "$iperf" ] && echo "$iperf_seconds" || echo 0)"
	equal "$name: the guest ends 0" 0 "$status"
	while read -r line; do
		case $line in
		ok\ *) pass "$name: ${line#ok }" ;;
		no\ *) fail "$name: ${line#no }" ;;
		say\ *) echo "# $name: ${line#say }" ;;
		esac
	done <<<"$out"
	[ -n "$iperf" ] || skip "$name: iperf3" "iperf3 is not installed"
	check "$name: the report counts frames both ways, and no fault" python3 -c "
import json, sys
net = json.load(open(sys.argv[1]))['nets'][0]
sys.exit(not (net['rx_frames'] > 100 and net['tx_frames'] > 100 and not net['guest_faults']))
" "$work/report"
}

# start_peer ADDRESS
start_peer() {
	mkfifo "$work/hold" 2>/dev/null
	"${in_netns[@]}" "$stream" serve "$1" "$mib" <"$work/hold" >"$work/peer.out" &
	exec 9>"$work/hold"
	for _ in $(seq 600); do
		[ -s "$work/peer.out" ] && break
		sleep 0.1
	done
	iperf_pid=
	[ -z "$iperf" ] || {
		"${in_netns[@]}" "$iperf" -s -B "$1" >"$work/iperf.out" 2>&1 9>&- &
		iperf_pid=$!
	}
}
stop_peer() {
	exec 9>&-
	[ -z "$iperf_pid" ] || kill "$iperf_pid"
}

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
	plain=$STASIS
	trap 'STASIS=$plain; ip netns del "stasis-$$"; finish' EXIT
	ip -n "stasis-$$" link set lo up
	ip -n "stasis-$$" addr add 10.77.0.1/24 dev vmtap
	ip -n "stasis-$$" link set vmtap up
	in_netns=(ip netns exec "stasis-$$")
	cat >"$work/stasis_netns" <<INSIDE
#!/bin/bash
exec ip netns exec stasis-$$ "$plain" "\$@"
INSIDE
	chmod +x "$work/stasis_netns"
	STASIS=$work/stasis_netns
	if command -v passt >/dev/null; then
		out=$("$STASIS" run "$LAB" --net user -- true 2>&1)
		equal "user mode without a default route is refused as a lack" 77 $?
		matches "... which is named" '*no default route*' "$out"
	fi
	# The driver lets anybody join a tap with many queues.
	mkfifo "$work/held"
	"${in_netns[@]}" python3 -c 'import fcntl, os, struct
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", b"vmtap", 0x5102))  # TUNSETIFF, as stasis has it
open(os.sys.argv[1], "w").close()
open(os.sys.argv[1]).close()' "$work/held" &
	held=$!
	: <"$work/held"
	out=$("$STASIS" run "$LAB" --net tap=vmtap -- true 2>&1)
	equal "a tap that another program has is refused as a lack" 77 $?
	matches "... which is named" '*vmtap is in use by another program*' "$out"
	: >"$work/held"
	wait $held
	start_peer 10.77.0.1
	run_guest "a tap with offloads" 10.77.0.1 ping --net tap=vmtap,ip=10.77.0.2/24,gw=10.77.0.1
	run_guest "a tap without" 10.77.0.1 ping --net tap=vmtap,ip=10.77.0.2/24,offloads=off
	stop_peer
	STASIS=$plain
fi
end
