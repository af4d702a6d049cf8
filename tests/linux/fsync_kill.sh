#!/bin/bash
# A stasis that is killed while a stock kernel writes: every record that fsync or O_DSYNC had confirmed
# is in the image. In the lab its keeper and the emulator, which has the file open, go with it.
# KILLS: how often, at random instants; RECORDS: the program that writes.
. "$(dirname "$0")/lib.sh"
kills=${KILLS:-2}
records=${RECORDS:?path of the program that writes records}
begin

# kept COUNT: records 1 to COUNT are all in the image.
kept() {
	python3 -c '
import struct, sys
with open(sys.argv[1], "rb") as image:
    image.seek(4096)
    lost = [n for n in range(1, int(sys.argv[2]) + 1) if image.read(4096) != struct.pack("<I", n) * 1024]
print(len(lost), "lost:", *lost[:10])
sys.exit(bool(lost))
' "$work/records.img" "$1"
}

# left: who still has the image open; none_left: whether nobody has, within ten seconds.
left() { find /proc/[0-9]*/fd -lname "$work/records.img" 2>/dev/null; }
none_left() {
	for _ in $(seq 100); do
		[ -n "$(left)" ] || return 0
		sleep 0.1
	done
	left
	return 1
}

direct=
truncate -s 64M "$work/records.img"
"$STASIS" run --dry-run --disk "$work/records.img,direct" -- true >/dev/null 2>&1 && direct=,direct
mkfifo "$work/counted"
round=0 tries=0
while [ $round -lt "$kills" ]; do
	how=fsync
	[ $((round % 2)) = 0 ] || how=dsync
	option=$direct
	[ $((round % 4)) -lt 2 ] || option=
	rm -f "$work/records.img"
	truncate -s 64M "$work/records.img"
	"$STASIS" run -q "$LAB" --disk "$work/records.img$option" --include "$records:/records" -- \
		/records /dev/vda $how >"$work/counted" 2>"$work/err" </dev/null &
	victim=$!
	last=0 until=$((5 + RANDOM % 100)) killed=
	while read -r n; do
		last=$n
		if [ "$n" = $until ]; then
			# Within the next records, and not always at the same place of one.
			sleep "0.$(printf %03d $((RANDOM % 300)))"
			kill -9 $victim
			killed=yes
		fi
	done <"$work/counted"
	wait $victim 2>/dev/null
	status=$?
	if [ -z "$killed" ] && [ "$LAB" = --lab ] && [ $((tries++)) -lt 3 ] && fault=$(emulator_fault "$work/err"); then
		echo "# $fault"
		continue
	fi
	round=$((round + 1))
	equal "$how${option:+, direct}: killed after $last confirmed records" "yes 137" "$killed $status"
	check "... nothing holds the image" none_left
	check "... and none of them is missing" kept "$last"
done
end
