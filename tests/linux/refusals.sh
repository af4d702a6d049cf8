#!/bin/bash
# Wrong input: each ends 125 with one line that says what is wrong.
. "$(dirname "$0")/lib.sh"
begin

kernel=$("$STASIS" kernel list --json | python3 -c 'import json,sys; print(next(k["path"] for k in json.load(sys.stdin) if k["source"] != "built"))')

# refused DESCRIPTION PATTERN OPTIONS...
refused() {
	local what=$1 pattern=$2
	shift 2
	stasis_run -q "$@" -- true
	equal "$what ends 125" 125 "$status"
	equal "... with one line" 1 "$(grep -c . "$work/err")"
	matches "... that says it" "stasis: *$pattern*" "$(cat "$work/err")"
}

head -c 1000000 "$kernel" >"$work/short"
head -c 600 "$kernel" >"$work/shorter"
echo "not a kernel, and long enough to be read as one: $(seq 2000)" >"$work/text"
refused "a missing kernel" "$work/none" -k "$work/none"
refused "a truncated bzImage" "short" -k "$work/short"
refused "a bzImage of 600 bytes" "shorter" -k "$work/shorter"
refused "a text file as kernel" "text" -k "$work/text"
refused "1 MiB of memory" "" -m 1M
refused "-t 0n1l1c1t" "0n1l1c1t" -t 0n1l1c1t
refused "-t banana" "banana" -t banana
refused "-m banana" "banana" -m banana
refused "a watch that is none" "is accepted" --watch x+1
refused "a missing disk" "--disk $work/none: no such file" --disk "$work/none"
refused "a folder as disk" "--disk $work: is a folder" --disk "$work"
refused "a disk of 600 bytes" "not a multiple of 512" --disk "$work/shorter"
truncate -s 1M "$work/twice"
refused "one file as two disks" "disk0 is the same file" --disk "$work/twice" --disk "$work/twice,ro"
refused "an unknown word of a disk" "did you mean direct" --disk "$work/shorter,dirct"
refused "a limit of 0" "iops=0" --disk "$work/shorter,iops=0"
refused "a misspelt option" "did you mean --timeout" --timeuot 5s
refused "a shape of 0 CPUs" "accepted" -c 0

truncate -s 300M "$work/initrd"
out=$("$STASIS" run -q "$LAB" -m 256M -i "$work/initrd" 2>"$work/err" </dev/null)
equal "an initrd larger than memory ends 125" 125 $?
equal "... with one line" 1 "$(grep -c . "$work/err")"
end
