#!/bin/bash
# A guest that drives each virtio device by itself, on whatever KVM there is; and one that does to them
# what no driver may, after each of which its spared disk has to work and stasis to go on.
# usage: virtio.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"

for name in a b; do
	truncate -s 1M "$work/$name.img"
done
printf L | dd of="$work/b.img" bs=1 seek=$((1048576 - 512)) conv=notrunc status=none

# A tap in a network of its own, whose other end answers ARP by itself.
stasis=("$STASIS")
net=() why=
netns=stasis-v$$
if [ "$(id -u)" != 0 ] || ! ip netns add $netns 2>/dev/null; then
	why="only root may make a tap, in a network namespace"
else
	trap 'ip netns del $netns; rm -rf "$work"' EXIT
	if ip netns exec $netns ip tuntap add vmtap mode tap 2>"$work/err"; then
		ip -n $netns addr add 10.77.0.1/24 dev vmtap
		ip -n $netns link set vmtap up
		stasis=(ip netns exec $netns "$STASIS") net=(--net tap=vmtap)
	else
		why=$(cat "$work/err")
	fi
fi

# ---- driven -------------------------------------------------------------------------------------

folder=$XDG_RUNTIME_DIR/stasis/virtio
mkfifo "$work/go"
"${stasis[@]}" run --no-lab -q -m 256M -k "$payloads/payload-virtio.elf" -i "$work/empty" --name virtio \
	--timeout 60s --disk "$work/a.img" "${net[@]}" --report "$work/report" </dev/null >"$work/out" 2>"$work/err" &
pid=$!
python3 -c '
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    path = sys.argv[1]
    while True:
        try:
            s.bind(path)
            break
        except FileNotFoundError:
            pass
    s.listen()
    c = s.accept()[0]
    while data := c.recv(65536):
        c.sendall(data)
' "$folder/vsock_5" &
peer=$!
wait $pid
status=$?
kill $peer 2>/dev/null
wait $peer 2>/dev/null
ok "a guest drives its devices by itself (saw $status)" is $status 0
for line in "entropy 64" "disk 64" "socket 64"; do
	ok "... $line" grep -qx "$line" "$work/out"
done
if [ ${#net[@]} = 0 ]; then
	skip "... network 64" "$why"
else
	ok "... network 64" grep -qx "network 64" "$work/out"
fi

# ---- against the rules --------------------------------------------------------------------------

"${stasis[@]}" run --no-lab -q -m 256M -k "$payloads/payload-hostile.elf" -i "$work/empty" --timeout 240s \
	--disk "$work/a.img" --disk "$work/b.img" "${net[@]}" --report "$work/report" \
	</dev/null >"$work/out" 2>"$work/err"
status=$?
tr -d '\0' <"$work/out" | grep -a "^things\|^device\|^lost" | paste -sd ' ' | sed 's/^/# /'
ok "one that keeps no rule comes to its end (saw $status)" is $status 0
ok "... and nothing was lost by it" is "$(grep -ac ^lost "$work/out")" 0
for kind in 2 3 4 19 ${net[0]:+1}; do
	ok "... of device $kind" grep -aqx "device $kind" "$work/out"
done
ok "... whose faults are counted" python3 -c '
import json, sys
report = json.load(open(sys.argv[1]))
sys.exit(not report["disks"][0]["guest_faults"] or report["disks"][1]["guest_faults"])' "$work/report"
ok "... nothing of the host's broke" is "$(grep -c 'Sanitizer\|ssertion' "$work/err")" 0
end
