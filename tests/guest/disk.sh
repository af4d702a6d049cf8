#!/bin/bash
# A guest that drives virtio-blk by itself: a limit holds within 2 % over ten seconds, its burst
# included; and of a stasis that is killed, every record that was confirmed is in the image.
# usage: disk.sh STASIS PAYLOAD-DIR [KILLS]; TAP on standard output.
. "$(dirname "$0")/lib.sh"
kills=${3:-4}

# ---- limits -------------------------------------------------------------------------------------

# rate OPTION: payload_disk.c's reads under it; says "microseconds reads".
rate() {
	truncate -s 8M "$work/$1.img"
	"$STASIS" run --no-lab -q -m 256M -k "$payloads/payload-disk-reads.elf" -i "$work/empty" \
		--disk "$work/$1.img,$1" --timeout 60s </dev/null 2>"$work/$1.err" |
		while read -r what reads; do
			case $what in
			begin) begin=${EPOCHREALTIME/./} ;;
			end) echo "$((${EPOCHREALTIME/./} - begin)) $reads" ;;
			esac
		done
}

# holds OPTION RATE UNIT: reads of UNIT each take as long as RATE a second and 100 ms' worth at once make
# it. A host whose CPUs are others' may be slow now and then, never fast.
holds() {
	local took reads want
	for _ in 1 2 3; do
		read -r took reads < <(rate "$1") || return
		want=$((reads * $3 * 1000000 / $2 - 100000))
		echo "# $1: $((took / 1000)) ms, where $((want / 1000)) ms make the rate"
		[ $((took * 100)) -ge $((want * 98)) ] || return
		[ $((took * 100)) -gt $((want * 102)) ] || return 0
	done
	return 1
}

# At the same time: both mostly wait.
holds bps=1536K $((1536 << 10)) 16384 &
bytes=$!
ok "100 operations a second" holds iops=100 100 1
ok "1.5 MiB a second" wait $bytes

# ---- killed -------------------------------------------------------------------------------------

# kept SIZE COUNT: records 1 to COUNT, one in each block of SIZE bytes, are all in the image.
kept() {
	python3 -c '
import struct, sys
path, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, "rb") as image:
    image.seek(size)
    lost = [n for n in range(1, count + 1) if image.read(size) != struct.pack("<I", n) * (size // 4)]
print("#", len(lost), "lost:", *lost[:10]) if lost else None
sys.exit(bool(lost))
' "$work/disk.img" "$1" "$2"
}

# killed PAYLOAD OPTION: after some confirmed records and up to half a second more.
killed() {
	local reader
	rm -f "$work/disk.img" "$work/counted"
	truncate -s 32M "$work/disk.img"
	mkfifo "$work/counted"
	cat "$work/counted" >"$work/lines" &
	reader=$!
	"$STASIS" run --no-lab -q -m 256M -k "$payloads/payload-$1.elf" -i "$work/empty" \
		--disk "$work/disk.img$2" </dev/null >"$work/counted" 2>"$work/err" &
	pid=$!
	# How long ten flushes take is the host's disk's affair.
	for _ in $(seq 3000); do
		[ "$(wc -l <"$work/lines")" -ge 10 ] && break
		kill -0 $pid 2>/dev/null || break
		sleep 0.02
	done
	sleep "0.$(printf %03d $((RANDOM % 500)))"
	kill -9 $pid
	wait $pid 2>/dev/null
	wait $reader
	# A line without an end was not yet said.
	last=$(sed -n '/^[0-9]*$/p' "$work/lines" | head -n "$(wc -l <"$work/lines")" | tail -n 1)
	last=${last:-0}
}

direct=
"$STASIS" run --dry-run --disk "$work/disk.img,direct" -- true >/dev/null 2>&1 && direct=,direct
for i in $(seq "$kills"); do
	payload=disk-records what="after its flush"
	[ $((i % 2)) = 0 ] || payload=disk-through what="after its write"
	option=$direct
	[ $((i % 4)) -lt 2 ] || option=
	killed $payload "$option"
	ok "killed: some records were confirmed, each $what (saw $last${option:+, direct})" [ "$last" -ge 10 ]
	ok "... and all are in the image" kept 512 "$last"
done
end
