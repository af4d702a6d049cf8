#!/bin/bash
# Four disks of a stock kernel at once, two of them direct: ext4 with random reads and writes that fio
# verifies, holes and discards between them, syncs, depths from 1 to 128. Afterwards both sides agree.
# FIO_SECONDS: how long the guest works; whole rounds of all depths.
. "$(dirname "$0")/lib.sh"
begin

seconds=${FIO_SECONDS:-20}
tools=()
for pair in mkfs.ext4:e2fsprogs fio:fio; do
	path=$(PATH=$PATH:/sbin:/usr/sbin command -v "${pair%:*}") || skip_all "no ${pair%:*} here (package ${pair#*:})"
	tools+=(--include "$path:/usr/bin/${pair%:*}")
done
fsck=$(PATH=$PATH:/sbin:/usr/sbin command -v e2fsck) || skip_all "no e2fsck here (package e2fsprogs)"

disks=(vda vdb vdc vdd)
depths=(1 8 32 128)
# A round: at each depth, on each disk, a file that is written, read and verified at random, while
# another's blocks are punched out and allocated again: ext4 discards what it frees.
job=$work/round.fio
cat >"$job" <<'JOB'
[global]
thread=1
ioengine=libaio
direct=1
rw=randrw
rwmixread=40
size=2m
bssplit=4k/60:16k/25:64k/15
verify=crc32c
verify_fatal=1
verify_backlog=48
fsync=16
JOB
for depth in "${depths[@]}"; do
	wall=stonewall
	for disk in "${disks[@]}"; do
		printf '[%s-%s]\n%s\ndirectory=/mnt/%s\niodepth=%s\n' "$disk" "$depth" "$wall" "$disk" "$depth"
		wall=
		printf '[%s-%s-holes]\ndirectory=/mnt/%s\nioengine=falloc\nrw=randtrimwrite\nverify=0\nbssplit=16k/100\n' \
			"$disk" "$depth" "$disk"
	done
done >>"$job"

# In the guest, for $1 seconds on the disks that follow: rounds; then each disk's checksum, read from it.
cat >"$work/guest.sh" <<'GUEST'
seconds=$1
shift
for d; do
	mkdir -p /mnt/$d
	mkfs.ext4 -q -b 4096 /dev/$d && mount -t ext4 -o discard /dev/$d /mnt/$d || exit 3
done
now() { cut -d. -f1 /proc/uptime; }
begin=$(now)
round=0
while [ $(($(now) - begin)) -lt $seconds ]; do
	round=$((round + 1))
	fio --minimal --randseed=$round /round.fio >/tmp/fio 2>&1 || { cat /tmp/fio >&2; exit 4; }
	for d; do
		# Every other round's files stay until they are written once more.
		[ $((round % 2)) = 0 ] || rm /mnt/$d/*.0
		fstrim /mnt/$d
	done
done
echo "rounds $round $(($(now) - begin))"
for d; do umount /mnt/$d || exit 5; done
echo 3 >/proc/sys/vm/drop_caches
for d; do echo "sum $d $(sha256sum </dev/$d | cut -c1-64)"; done
GUEST

options=()
for disk in "${disks[@]}"; do
	image=$work/$disk.img
	truncate -s 32M "$image"
	direct=
	case $disk in
	vdb | vdd)
		"$STASIS" run --dry-run --disk "$image,direct" -- true >/dev/null 2>&1 && direct=,direct
		;;
	esac
	options+=(--disk "$image$direct")
done
[[ ${options[*]} == *,direct* ]] || echo "# no direct I/O on this file system: all four go through its cache"

stasis_run -q -c 2 -m 1G --report "$work/report" "${options[@]}" "${tools[@]}" \
	--include "$job:/round.fio" --include "$work/guest.sh:/guest.sh" -- sh /guest.sh "$seconds" "${disks[@]}"
equal "fio finds every block as it wrote it" 0 "$status"
read -r _ rounds took <<<"$out"
echo "# ${rounds:-no} rounds at depths ${depths[*]} on ${#disks[@]} disks in ${took:-?} s"
check "... in so many seconds" test "${took:-0}" -ge "$seconds"
for disk in "${disks[@]}"; do
	check "$disk: e2fsck finds nothing" "$fsck" -fn "$work/$disk.img"
	equal "$disk: host and guest read the same" "sum $disk $(sha256sum <"$work/$disk.img" | cut -c1-64)" \
		"$(grep "^sum $disk " <<<"$out")"
done
for count in errors refused guest_faults; do
	equal "the report counts no $count" "0 0 0 0" \
		"$(python3 -c "import json,sys; print(*[d['$count'] for d in json.load(open(sys.argv[1]))['disks']])" "$work/report")"
done
# How many discards a round makes is ext4's affair, by when its journal commits: 14 to 150 in 20 s.
check "... but reads, writes, discards and flushes on each" python3 -c "
import json, sys
least = {'reads': 100, 'writes': 100, 'flushes': 20, 'discards': 1}
disks = json.load(open(sys.argv[1]))['disks']
for d in disks:
    print('#', *['%s %s' % (name, d[name])
                 for name in ('id', 'direct', *least, 'bytes_read', 'bytes_written', 'bounced', 'interrupts')])
sys.exit(any(d[name] < least[name] for d in disks for name in least))
" "$work/report"
cat "$work/check.log"
end
