#!/bin/bash
# A stock kernel under load that is saved and restored, again and again from its own restore. Its CPUs and
# their vector registers, timers, signals, pipes, a disk and TCP connections are all at work, and check what they
# do (CPUs, a disk and TCP alone where another architecture's tools are not to be had); COMMAND counts on without
# a gap, its clock goes on from the instant of the snapshot, nothing in the kernel minds, and the last one has
# COMMAND's output and status. RESTORES: how often (default 5).
. "$(dirname "$0")/lib.sh"
image=$work/disk.img
truncate -s 64M "$image"
begin --disk "$image"
load=(--include "${STREAM:?program that checks a TCP stream}:/usr/bin/stream"
	--include "${VECTORS:?program that computes in vector registers}:/usr/bin/vectors")
if [ -n "$foreign_tools" ]; then
	loads="stress vectors disk receive send"
else
	loads="stress vectors fio receive send"
	for pair in mkfs.ext4:e2fsprogs fio:fio stress-ng:stress-ng; do
		path=$(PATH=$PATH:/sbin:/usr/sbin command -v "${pair%:*}") || skip_all "no ${pair%:*} here (package ${pair#*:})"
		load+=(--include "$path:/usr/bin/${pair%:*}")
	done
	fsck=$(PATH=$PATH:/sbin:/usr/sbin command -v e2fsck) || skip_all "no e2fsck here (package e2fsprogs)"
fi
restores=${RESTORES:-5}
away=6 # seconds for which it is not there, each time
# What it counts to: some of it for each restore, and what a slow emulator needs for a snapshot.
last=$((200 + restores * 100))

# A load runs turn by turn, and says what was wrong with one.
cat >"$work/load.sh" <<'GUEST'
turns() {
	name=$1
	shift
	n=0
	while [ ! -e /over ]; do
		"$@" >/tmp/$name 2>&1 || {
			echo "wrong $name"
			{ cut -c1-200 /tmp/$name; dmesg | grep -v Buffer | tail -n 8; } | sed "s/^/wrong: /"
		}
		n=$((n + 1))
	done
	echo "turns $name $n"
}
ip link set lo up 2>/dev/null || ifconfig lo 127.0.0.1 up
# What the kernel has of a disk's data is dropped, so that it is read again.
written() {
	head -c 2097152 /dev/urandom >/tmp/new && dd if=/tmp/new of=/dev/vda bs=64k conv=fsync 2>&1 || return
	echo 3 >/proc/sys/vm/drop_caches
	dd if=/dev/vda of=/tmp/read bs=64k count=32 2>&1 && cmp /tmp/new /tmp/read
}
hashed() {
	[ "$(seq 100000 | md5sum)" = "$hash" ]
}
while [ ! -e /over ]; do sleep 1; done | stream serve 127.0.0.1 4 >/tmp/serve 2>&1 &
if command -v fio >/dev/null; then
	mkfs.ext4 -q -b 4096 /dev/vda && mkdir -p /mnt && mount -t ext4 /dev/vda /mnt || echo "wrong disk"
	turns stress stress-ng -q --verify --timeout 3s --cpu 1 --timer 1 --timer-freq 1000 --sigq 1 --pipe 1 &
	pids=$!
	turns fio fio --minimal --name=all --directory=/mnt --thread --ioengine=libaio --direct=1 --rw=randrw --size=4m \
		--bssplit=4k/60:16k/25:64k/15 --iodepth=16 --verify=crc32c --verify_fatal=1 --verify_backlog=48 --fsync=16 &
	pids="$pids $!"
else
	hash=$(seq 100000 | md5sum)
	turns stress hashed &
	pids=$!
	turns disk written &
	pids="$pids $!"
fi
turns vectors vectors 2 &
pids="$pids $!"
turns receive stream receive 127.0.0.1 4 &
pids="$pids $!"
turns send stream send 127.0.0.1 4 &
wait $pids $!
! command -v fio >/dev/null || umount /mnt || echo "wrong umount"
GUEST
guest='
	uptime() { read -r now rest </proc/uptime; echo "${now%.*}${now#*.}"; }
	sh /load.sh &
	i=0
	while [ $i -lt LAST ] && [ ! -e /over ]; do
		i=$((i + 1))
		echo "count $i $(uptime)"
		sleep 0.1
	done
	read -r word
	echo "read $word"
	>/over
	echo "forked $(dmesg | grep -c "reseeded due to virtual machine fork")"
	dmesg | grep -i -E "stall|lockup|unstable|hung|skew|watchdog: BUG|EXT4-fs error|I/O error" | sed "s,^,barked: ,"
	wait
	exit 7
'
mkfifo "$work/nothing"
exec 3<>"$work/nothing" # an input in which nothing comes
counted() { grep -c '^count' "$work/out"; }
more() { # more COUNT: until it has counted so much further
	local want=$(($(counted) + $1))
	while [ "$(counted)" -lt $want ] && kill -0 $pid 2>/dev/null; do
		sleep 0.1
	done
}

: >"$work/out"
"$STASIS" run "$LAB" --name snap -c 4 -m 384M --disk "$image" "${load[@]}" --include "$work/load.sh:/load.sh" \
	--timeout 900s -- sh -c "${guest//LAST/$last}" <&3 >>"$work/out" 2>"$work/err" &
pid=$!
more 1
began=$(date +%s%N)
more 9
check "a command runs beside it, by vsock" "$STASIS" exec snap -- true
saved=0
for i in $(seq "$restores"); do
	if [ "$i" -gt 1 ]; then
		"$STASIS" restore "$work/dir" --name snap --timeout 900s <&3 >>"$work/out" 2>>"$work/err" &
		pid=$!
	fi
	more 5
	sleep "0.$((RANDOM % 10))"
	"$STASIS" snapshot snap "$work/dir" 2>"$work/save.err" || {
		sed 's/^/# /' "$work/save.err" "$work/err"
		break
	}
	wait $pid
	status=$?
	saved=$((saved + 1))
	sleep $away
done
equal "it is saved from its own restore again and again" "$restores" "$saved"
equal "... and ends each time (status)" 143 "$status"
touch "$image"
"$STASIS" restore "$work/dir" -q --name snap </dev/null >/dev/null 2>"$work/refused"
equal "one whose disk was written to since is refused" 125 $?
check "... with the disk's name" grep -q "disk0.*changed since the snapshot" "$work/refused"
"$STASIS" restore "$work/dir" --name snap --disk "disk0=$image" --report "$work/report" --timeout 900s < <(
	sleep 2
	echo word
) >>"$work/out" 2>>"$work/err" &
pid=$!
more 5
check "a command runs beside the restored one" "$STASIS" exec snap -- sh -c ': >/over'
wait $pid
status=$?
equal "the restored run ends with COMMAND's status" 7 "$status"
equal "... which has read what the last one was given" "read word" "$(grep '^read' "$work/out")"
check "it has counted without a gap ($(counted) times)" awk -v least=$((10 + 5 * restores)) \
	'/^count/ { if ($2 != n + 1) bad = 1; n = $2 } END { exit bad || n < least }' "$work/out"
# Centiseconds of the guest's clock, from its first look at it to the last; and of the host's meanwhile.
guest_time=$(awk '/^count/ { if ($3 < last) bad = 1; if (!first) first = $3; last = $3 }
	END { print bad ? "backwards" : last - first }' "$work/out")
host_time=$((($(date +%s%N) - began) / 10000000))
check "its clock stood while it was away (${guest_time}0 of ${host_time}0 ms, $restores times $away s and more)" \
	[ "$guest_time" -le $((host_time - restores * away * 100 + 100)) ]
equal "what its loads check is right" "" "$(grep wrong "$work/out")"
for name in $loads; do
	turns=$(sed -n "s/^turns $name //p" "$work/out")
	check "... $name, ${turns:-no} times" [ "${turns:-0}" -gt 0 ]
done
equal "no transfer of the disk failed" "0 0 0" "$(jq -r '.disks[0] | "\(.errors) \(.refused) \(.guest_faults)"' "$work/report")"
[ -n "$foreign_tools" ] || check "the file system is whole" "$fsck" -fn "$image"
equal "each restore made its random generator reseed" "forked $restores" "$(grep '^forked' "$work/out")"
equal "no watchdog barked" "" "$(grep barked "$work/out")"

# One that is kept, without a disk: it goes on from where it was.
: >"$work/out"
"$STASIS" run "$LAB" -q --name first -m 256M --timeout 300s -- sh -c "${guest//LAST/$last}" \
	<&3 >>"$work/out" 2>"$work/err" &
pid=$!
more 5
check "another is saved, and goes on" "$STASIS" snapshot --keep-running first "$work/kept"
more 5
check "... indeed" kill -0 $pid
kill $pid
wait $pid
first=$(counted)
: >"$work/out"
"$STASIS" restore "$work/kept" -q --name kept --timeout 300s <&3 >>"$work/out" 2>"$work/err" &
pid=$!
more 3
check "the one that was kept is restored" kill -0 $pid
check "... and goes on from its own instant ($(sed -n 's/^count \([0-9]*\) .*/\1/p' "$work/out" |
	head -n 1) of $first)" awk -v first="$first" '/^count/ && !from { from = $2 }
		END { exit !(from > 5 && from < first) }' "$work/out"
kill $pid
wait $pid
rm -rf "$work/kept"
"$STASIS" restore "$work/kept" </dev/null >"$work/out" 2>"$work/err"
equal "one that is gone is refused" 125 $?
end
