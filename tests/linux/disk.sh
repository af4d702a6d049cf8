#!/bin/bash
# Disks of a stock kernel: a file system that both sides agree on, reading only, limits, the lock.
# fsync_kill.sh kills a stasis in the middle of writes.
. "$(dirname "$0")/lib.sh"
begin

image() {
	rm -f "$1"
	truncate -s "$2" "$1"
}

# ---- a file system ------------------------------------------------------------------------------

mkfs=$(PATH=$PATH:/sbin:/usr/sbin command -v mkfs.ext4)
fsck=$(PATH=$PATH:/sbin:/usr/sbin command -v e2fsck)
debugfs=$(PATH=$PATH:/sbin:/usr/sbin command -v debugfs)
fill='set -e
	for d in vda vdb; do
		mkfs.ext4 -q -b 4096 /dev/$d
		mount -t ext4 -o discard /dev/$d /mnt
		for i in 1 2 3 4 5 6 7 8; do
			head -c 1500000 /dev/urandom >/mnt/file$i
			sync
			[ $((i % 3)) = 0 ] && rm /mnt/file$i
		done
		sha256sum /mnt/file1 /mnt/file8 | cut -c1-64
		umount /mnt
	done'
if [ -z "$mkfs" ] || [ -z "$fsck" ] || [ -z "$debugfs" ]; then
	skip "ext4 on two disks" "no e2fsprogs on this host"
else
	image "$work/plain.img" 64M
	image "$work/direct.img" 64M
	direct=,direct
	"$STASIS" run --dry-run --disk "$work/direct.img,direct" -- true >/dev/null 2>&1 || direct=
	stasis_run -q -c 2 --include "$mkfs:/sbin/mkfs.ext4" --report "$work/report" \
		--disk "$work/plain.img,id=plain" --disk "$work/direct.img$direct,id=direct" -- \
		sh -c "$fill"
	equal "mkfs.ext4, writes, discards and syncs on two disks${direct:+, one direct}" 0 "$status"
	got=$(for d in plain direct; do
		for f in file1 file8; do
			"$debugfs" -R "cat $f" "$work/$d.img" 2>/dev/null | sha256sum | cut -c1-64
		done
	done)
	equal "the host reads what the guest wrote" "$out" "$got"
	check "e2fsck finds nothing on the first" "$fsck" -fn "$work/plain.img"
	check "... nor on the second" "$fsck" -fn "$work/direct.img"
	for count in errors refused guest_faults; do
		equal "the report counts no $count" "0 0" \
			"$(python3 -c "import json,sys; print(*[d['$count'] for d in json.load(open(sys.argv[1]))['disks']])" "$work/report")"
	done
	check "... but discards and flushes" python3 -c "
import json, sys
sys.exit(not all(d['discards'] and d['flushes'] for d in json.load(open(sys.argv[1]))['disks']))
" "$work/report"
fi

# ---- words --------------------------------------------------------------------------------------

image "$work/small.img" 8M
echo "of the host" | dd of="$work/small.img" conv=notrunc status=none
before=$(sha256sum <"$work/small.img")
stasis_run -q --disk "$work/small.img,ro,id=serial-7" -- sh -c '
	cat /sys/block/vda/serial; echo; head -n 1 /dev/vda; cat /sys/block/vda/ro
	echo x 2>/dev/null >/dev/vda || echo refused'
equal "a disk with ro and id" "serial-7 of the host 1 refused" "$(echo $out)"
equal "... stays as it was" "$before" "$(sha256sum <"$work/small.img")"

stasis_run -q --disk "$work/small.img,bps=2M" -- sh -c '
	start=$(cut -d" " -f1 /proc/uptime)
	dd if=/dev/vda of=/dev/null bs=64k count=96 iflag=direct 2>/dev/null
	echo "$start $(cut -d" " -f1 /proc/uptime)" | awk "{ print (\$2 - \$1 >= 2.7) }"'
equal "6 MiB at bps=2M take three seconds, but for the burst" 1 "$out"

exec 9<>"$work/small.img"
flock -x 9
stasis_run -q --disk "$work/small.img" -- true
equal "a disk in use ends 77" 77 "$status"
matches "... and says so" "*small.img: in use*" "$(cat "$work/err")"
exec 9>&-
end
