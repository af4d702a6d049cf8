#!/bin/bash
# Clones of one snapshot, of small guests on the host's own KVM.
# usage: clones.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"
here=$(realpath "$(dirname "$0")")
cd "$work" || exit 1

# ---- what they say, and how they end ---------------------------------------------------------------

"$payloads/chain-make" chain "$payloads/payload-chain.bin" 2 3000000
"$payloads/chain-host" 2 3000000 >expected
"$STASIS" restore chain --count 5 --name c --report report <&- >out 2>err
status=$?
ok "five clones run to their end (saw $status)" is $status 0
right=0
for i in 0 1 2 3 4; do
	sed -n "s/^c-$i: //p" out | cmp -s - expected && right=$((right + 1))
done
ok "... each with the right one, by its name" is "$right $(wc -l <out)" "5 $((5 * $(wc -l <expected)))"
ok "... summed up" grep -q '5 clones: 5 ended with 0$' err
ok "... and a report of each" is "$(cat report-? | grep -c '"outcome": "exited"')" 5

"$payloads/chain-make" long "$payloads/payload-chain.bin" 1 300000000000
"$STASIS" restore long --count 3 --name t --timeout 300ms </dev/null >out 2>err
status=$?
ok "--timeout ends them all (saw $status)" is $status 124
ok "... and the line says so" grep -q '3 clones: 3 ended with 124, timed out (t-0, t-1, t-2)' err

"$STASIS" restore long --count 3 --name s </dev/null >out 2>err &
pid=$!
until [ "$("$STASIS" list 2>/dev/null | grep -c '^s-[012] .*running')" = 3 ]; do sleep 0.05; done
ok "each is a VM of its own" "$STASIS" freeze s-1
ok "... which others are not" is "$(for i in 0 1 2; do "$STASIS" status s-$i; done | awk '/^state/ { print $2 }' |
	tr '\n' ' ')" "running frozen running "
kill -9 "$("$STASIS" list | awk '/^s-2/ { print $2 }')"
kill -INT $pid
wait $pid
status=$?
ok "a signal ends them all (saw $status)" is $status 137
ok "... and one that was killed is told of" grep -q '2 ended with 130 (s-0, s-1), 1 with 137 (s-2)' err
"$STASIS" restore long --count 2 --name k </dev/null >out 2>err &
pid=$!
until [ "$("$STASIS" list 2>/dev/null | grep -c '^k-[01] .*running')" = 2 ]; do sleep 0.05; done
kill -9 $pid
wait $pid 2>/dev/null
for _ in $(seq 100); do
	[ "$("$STASIS" list | grep -c '^k-')" = 0 ] && break
	sleep 0.05
done
ok "without the one that began them, they end" is "$("$STASIS" list | grep -c '^k-')" 0

# One whose name is taken fails, and hides nobody.
"$STASIS" restore long --name n-1 </dev/null >taken.out 2>taken.err &
pid=$!
until "$STASIS" status n-1 >out 2>&1; do sleep 0.05; done
"$STASIS" restore chain --count 3 --name n </dev/null >out 2>err
status=$?
ok "one that can't begin fails (saw $status)" is $status 125
ok "... by name" grep -q '^n-1: stasis: .*has this name already' err
ok "... and the others come to their end" is "$(sort out)" \
	"$( (sed 's/^/n-0: /' expected; sed 's/^/n-2: /' expected) | sort)"
ok "... which the line says" grep -q '2 ended with 0, 1 with 125, failed (n-1)' err
kill $pid
wait $pid

# ---- COMMAND -----------------------------------------------------------------------------------------

mkfifo nothing
exec 3<>nothing
: >counts
"$STASIS" run --no-lab -q -m 256M -k "$payloads/payload-session.elf" --name session -- true <&3 >counts 2>err &
pid=$!
until [ "$(wc -l <counts)" -ge 3 ]; do sleep 0.02; done
"$STASIS" snapshot session session 2>err
wait $pid
echo word >words
"$STASIS" restore session --count 3 --name w -q --timeout 60s <words >out 2>err
status=$?
ok "the status is COMMAND's (saw $status)" is $status 7
ok "... each of which has read the file" is "$(grep 'read word' out | sort | tr '\n' ' ')" \
	"w-0: read word w-1: read word w-2: read word "
ok "... and -q leaves the sum, where they failed" grep -q '3 ended with 7 (w-0, w-1, w-2)' err
"$STASIS" restore session --count 2 -q --timeout 60s <words 2>err | head -n 1 >out
ok "a reader that goes away leaves nobody behind" is "${PIPESTATUS[0]} $("$STASIS" list | grep -c '^vm-')" "7 0"

# ---- memory ------------------------------------------------------------------------------------------

if grep -q '__[at]san_init' "$STASIS"; then
	skip "100 clones of 256 MiB run at once" "a sanitizer has memory of its own in each"
elif ! command -v python3 >/dev/null; then
	skip "100 clones of 256 MiB run at once" "no python3"
else
	"$payloads/chain-make" pages "$payloads/payload-pages.bin" 1 8000000 256
	"$payloads/chain-host" 1 8000000 >expected
	python3 "$here/clones_memory.py" "$STASIS" pages 100 1024 "$(cat expected)" >out 2>err
	status=$?
	sed 's/^/# /' out
	ok "100 clones of 256 MiB run at once, in the memory of the pages that they change" is $status 0
	rm -r pages
fi

private() { # of a VM: KiB
	awk '/^Private_Dirty/ { print $2 }' "/proc/$("$STASIS" list | awk -v name="$1" '$1 == name { print $2 }')/smaps_rollup"
}
"$STASIS" restore long --name lazy </dev/null >out 2>err &
lazy=$!
"$STASIS" restore long --name eager --prefault </dev/null >out 2>err &
eager=$!
for name in lazy eager; do
	until "$STASIS" status $name 2>/dev/null | grep -q running; do sleep 0.05; done
done
ok "--prefault copies all 64 MiB, which else are shared ($(private lazy), $(private eager) KiB)" \
	[ "$(private lazy)" -lt 65536 -a "$(private eager)" -ge 65536 ]
kill $lazy $eager
wait $lazy $eager
"$STASIS" restore chain --prefault </dev/null >out 2>err
ok "... and the guest comes to its end" is "$? $(wc -l <out)" "0 2"

# ---- disks ---------------------------------------------------------------------------------------------

# disk_snapshot DIR WORDS: of a guest that writes to DIR/disk.img.
disk_snapshot() {
	truncate -s 32M "$1/disk.img"
	"$STASIS" run --no-lab -q -m 256M -k "$payloads/payload-disk-$2.elf" -i empty --name disk \
		--disk "$1/disk.img$3" </dev/null >lines 2>err &
	pid=$!
	until "$STASIS" status disk >out 2>&1 && [ "$(wc -l <lines)" -ge 2 ]; do
		kill -0 $pid 2>/dev/null || break
		sleep 0.02
	done
	"$STASIS" snapshot disk "$1/snap" 2>err
	wait $pid
}
# clone_disks DIR
clone_disks() {
	disk_snapshot "$1" records ""
	cp "$1/disk.img" "$1/before.img"
	cp lines before
	"$STASIS" restore "$1/snap" --count 4 --name d --timeout 2s </dev/null >out 2>err
	status=$?
}
clone_disks .
if grep -q FICLONE err; then
	ok "where blocks can't be shared, clones that write are refused (saw $status)" is $status 125
	ok "... with what to try" grep -q 'XFS, Btrfs' err
else
	ok "clones write to copies (saw $status)" is $status 124
	ok "... and the file stays" cmp disk.img before.img
fi
file_system=${STASIS_TEST_REFLINK:-}
if [ -d "$file_system" ]; then
	there=$(mktemp -d -p "$file_system")
	trap 'rm -rf "$work" "$there"' EXIT
	clone_disks "$there"
	ok "where they can be, each writes to its own (saw $status)" is $status 124
	ok "... and all count on" is "$(for i in 0 1 2 3; do
		sed -n "s/^d-$i: //p" out | sed 1q
	done | sort -u | wc -l) $(cut -d: -f1 out | sort -u | wc -l)" "1 4"
	ok "... and the file stays" cmp "$there/disk.img" "$there/before.img"
	ok "... and the folder has no more than it had" is "$(ls -A "$there" | tr '\n' ' ')" "before.img disk.img snap "
	"$STASIS" restore "$there/snap" --count 1 --name e </dev/null >out 2>err &
	pid=$!
	until "$STASIS" status e-0 2>/dev/null | grep -q running; do sleep 0.02; done
	"$STASIS" snapshot e-0 again 2>save.err
	status=$?
	kill $pid
	wait $pid
	ok "... and such a clone is not saved (saw $status)" is $status 125
else
	skip "disks that share blocks" "STASIS_TEST_REFLINK names no folder on a file system that can"
fi

# ---- what is refused -----------------------------------------------------------------------------------

refused() { # refused WHAT WORD ARGUMENTS...
	local what=$1 word=$2
	shift 2
	"$STASIS" restore "$@" </dev/null >out 2>err
	status=$?
	ok "$what is refused (saw $status)" is "$status $(grep -c "$word" err)" "125 1"
}
refused "no clone" "from 1 to 1024" chain --count 0
refused "too many" "from 1 to 1024" chain --count 1025
refused "a name that is none" "are accepted" chain --count 2 --name 'a/b'
refused "a name that gets too long" "at most 64" chain --count 11 --name "$(printf 'n%.0s' $(seq 62))"
mkdir lab
echo '{"snapshot": 2, "lab": {"folder": "/run/lab/snapshots/0123"}}' >lab/snapshot.json
refused "one of the lab" "stasis" lab --count 2
end
