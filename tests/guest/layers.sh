#!/bin/bash
# Snapshots that differ from another, and packed ones: each has the memory that a whole one of the same
# instant has, whoever wrote to it; they restore, and what they need is known by its id.
# usage: layers.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
cpus=4 rounds=120000000
same="$payloads/layers-same"

"$payloads/chain-make" first "$payloads/payload-chain.bin" $cpus $rounds
status=$?
ok "a first snapshot is made" is $status 0
"$payloads/chain-host" $cpus $rounds >expected

# pair VM BASE OPTIONS...: frozen, VM is saved whole (full) and as what differs from BASE (diff); both have
# the same memory. How many pages the latter has is added to $pages. False if not, or if VM has ended.
pages=0
pair() {
	local vm=$1 base=$2 out
	shift 2
	"$STASIS" freeze "$vm" 2>err || return 1
	rm -rf full
	"$STASIS" snapshot "$vm" full --keep-running 2>err &&
		"$STASIS" snapshot --keep-running "$vm" --diff-of "$base" diff "$@" 2>err || return 1
	# Frozen until then: a guest that computes shall not come to its end meanwhile.
	out=$("$same" diff full 2>>err) || return 1
	"$STASIS" thaw "$vm" 2>>err
	pages=$((pages + ${out% *}))
}
# until_up VM, until_said WORD FILE: while the process is there.
until_up() { until "$STASIS" status "$1" 2>/dev/null | grep -q running || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done; }
until_said() { until grep -qs "$1" "$2" || ! kill -0 $pid 2>/dev/null; do sleep 0.05; done; }
# pairs VM BASE COUNT: again and again, each from the one before; by turns packed. Leaves last.
turn=0
pairs() {
	local vm=$1 base=$2 i options
	pages=0
	turn=$((turn + 1))
	for i in $(seq "$3"); do
		sleep 0.0$((RANDOM % 10))
		options=()
		[ $((i % 3)) = 0 ] && options=(--lz4)
		pair "$vm" "$base" "${options[@]}" || return 1
		base=$vm$turn.$i
		mv diff "$base"
	done
	last=$base
	echo "# $vm: $pages pages in $3 snapshots"
}
# ---- a guest that computes ------------------------------------------------------------------------

goes_on() { # goes_on DIR [OPTIONS...]: to the right end, whose first lines may have been said before
	"$STASIS" restore "$@" --timeout 100s </dev/null >printed 2>err && [ -s printed ] &&
		tail -n "$(wc -l <printed)" expected | cmp -s printed -
}
"$STASIS" restore first --name chain --timeout 100s </dev/null >out 2>err &
pid=$!
until_up chain
ok "a guest that computes is saved as what differs, again and again" pairs chain first 6
ok "... which is little ($pages pages of $((6 * 16384)))" [ $pages -gt 0 -a $pages -lt 1000 ]
ok "... and names its base beside it" grep -q '"path": "../chain1.5"' chain1.6/snapshot.json
ok "... in a description of version 3" grep -q '"snapshot": 3' chain1.6/snapshot.json
ok "... where one that is whole has 2" grep -q '"snapshot": 2' full/snapshot.json
ok "... and takes no room for the rest" [ "$(du -k chain1.5/memory | cut -f 1)" -lt 2048 ]
cp -r --sparse=always full whole
"$STASIS" snapshot chain whole.lz4 --lz4 --keep-running 2>err
ok "it is saved packed, as a whole" [ -s whole.lz4/memory ]
kill $pid
wait $pid
ok "one goes on to its right end, through all that are below" goes_on chain1.6
ok "... one of them does" goes_on chain1.2
ok "... also with --prefault" goes_on chain1.3 --prefault
ok "a packed one does" goes_on whole.lz4
ok "... of a size that says so" [ "$(stat -c %s whole.lz4/memory)" -lt 1048576 ]
if command -v lz4 >/dev/null; then
	ok "... which lz4(1) can read" lz4 -tq whole.lz4/memory
else
	skip "... which lz4(1) can read" "no lz4 here"
fi

# From its own restore: what is below is another's, the machine's own pages are few.
from=first wrong=0
for i in 1 2 3 4 5 6 7 8; do
	"$STASIS" restore $from --name again --timeout 100s </dev/null >out 2>err &
	pid=$!
	until_up again
	options=()
	[ $((i % 4)) = 0 ] && options=(--lz4)
	pair again $from "${options[@]}" || wrong=$((wrong + 1))
	"$STASIS" snapshot again --diff-of $from own.$i "${options[@]}" 2>err || {
		wrong=$((wrong + 1))
		kill $pid
	}
	wait $pid
	from=own.$i
done
ok "a guest is saved from its own restore, eight over one another ($wrong went wrong)" is $wrong 0
ok "... and goes on to its right end" goes_on $from
"$STASIS" restore $from --count 3 --timeout 100s </dev/null >printed 2>err
status=$?
ok "... as three clones do (saw $status)" is "$status $(cut -d ' ' -f 2 printed | sort | uniq -c | awk '{ print $1 }' | sort -u)" "0 3"

# ---- devices that write ------------------------------------------------------------------------------

head -c 8M /dev/urandom >disk.img
start 256M disk disk-stay --disk disk.img
until_said begin disk.out
"$STASIS" snapshot disk disk.first --keep-running 2>err
ok "a guest whose disk reads into its memory is saved as what differs" pairs disk disk.first 9
ok "... which is what was read ($pages pages)" [ $pages -gt 100 ]
"$STASIS" snapshot disk disk.end --diff-of disk2.9 2>err || kill $pid
wait $pid
"$STASIS" restore disk.end --name disk </dev/null >disk.out 2>err &
pid=$!
until_up disk
ok "... also once it is restored" pairs disk disk.end 9
ok "... which is what was read ($pages pages)" [ $pages -gt 100 ]
kill $pid
wait $pid

truncate -s 1M a.img
start 256M virtio virtio-stay --disk a.img
python3 -c '
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.bind(sys.argv[1])
    s.listen()
    while True:
        with s.accept()[0] as c:
            while data := c.recv(65536):
                c.sendall(data)
' "$XDG_RUNTIME_DIR/stasis/virtio/vsock_5" 2>/dev/null &
peer=$!
until grep -qs 'socket 64' virtio.out; do
	kill -0 $pid || break
	sleep 0.05
done
"$STASIS" snapshot virtio virtio.first --keep-running 2>err
ok "a guest that drives random numbers, a disk and vsock is, too" pairs virtio virtio.first 12
ok "... and differs ($pages pages)" [ $pages -gt 12 ]
kill $pid $peer
wait $pid $peer 2>/dev/null

mkfifo nothing
exec 3<>nothing
"$STASIS" run --no-lab -q -m 256M -k "$payloads/payload-session.elf" --name session -- true <&3 >counts 2>err &
pid=$!
until [ "$(wc -l <counts)" -gt 3 ]; do sleep 0.02; done
"$STASIS" snapshot session session.first --keep-running 2>err
ok "... and one that speaks by its console" pairs session session.first 6
"$STASIS" snapshot session session.end --diff-of session5.6 --lz4 2>err || kill $pid
wait $pid
printf 'word\n' | "$STASIS" restore session.end -q --timeout 60s >>counts 2>err
status=$?
ok "... whose COMMAND goes on (saw $status)" is "$status $(tail -n 1 counts)" "7 read word"
ok "... and has counted without a gap" awk '/^count/ { if ($2 != ++n) wrong = 1 } END { exit wrong || n < 10 }' counts

# ---- as many as can be ----------------------------------------------------------------------------

"$STASIS" restore first --name deep --timeout 100s </dev/null >out 2>err &
pid=$!
until_up deep
"$STASIS" freeze deep
from=first
for i in $(seq 40); do
	"$STASIS" snapshot deep deep.$i --diff-of $from --keep-running 2>err || break
	from=deep.$i
done
ok "32 stand over one another, and no more (saw $from)" is $from deep.31
ok "... for which there is a reason" grep -q '32 snapshots differ from one another already' err
kill $pid
wait $pid
ok "... and the last goes on to its right end" goes_on deep.31

# ---- what is refused --------------------------------------------------------------------------------

begin() {
	"$STASIS" restore "$1" --name chain --timeout 100s </dev/null >out 2>begin.err &
	pid=$!
	until_up chain
}
denied() { # denied WHAT WORD OPTIONS...: saving chain
	local what=$1 word=$2
	shift 2
	"$STASIS" snapshot chain --keep-running "$@" 2>err
	status=$?
	ok "$what is refused (saw $status)" is $status 125
	ok "... by name" grep -q -- "$word" err
}
begin chain1.2
denied "to differ from what is no snapshot" "diff-of .*/none: No such file" new --diff-of none
denied "... from another VM's" "diff-of .*/disk.first: one that this VM was saved to, or began from" new --diff-of disk.first
denied "... from one that is below the one that it began from" "one that this VM was saved to" new --diff-of chain1.1
denied "to replace what it differs from" "chain1.2: what is to be saved there differs from it" chain1.2 --diff-of chain1.2
denied "... or what that does" "chain1.1: what is to be saved there differs from it" chain1.1 --diff-of chain1.2
ok "... and leaves nothing" is "$(ls -d new* ./*tmp 2>/dev/null)" ""
kill $pid
wait $pid

refused() { # refused WHAT WORD: restoring bad
	"$STASIS" restore bad </dev/null >out 2>err
	status=$?
	ok "$1 is refused (saw $status)" is $status 125
	ok "... by name" grep -q "$2" err
}
mv chain1.1 away
rm -rf bad
cp -r --sparse=always chain1.2 bad
refused "a base that is missing" "bad: its base bad/../chain1.1: No such file"
cp -r --sparse=always whole chain1.1
refused "another in its place" "its base bad/../chain1.1: it is another snapshot than"
rm -rf chain1.1
cp -r --sparse=always away chain1.1
sed -i 's/"vcpus": 4/"vcpus": 3/' chain1.1/snapshot.json
refused "one that was edited" "its base bad/../chain1.1: the description is not"
rm -rf chain1.1
cp -r --sparse=always away chain1.1
truncate -s -1 chain1.1/memory
refused "one that was cut off" "its base bad/../chain1.1: memory: "
rm -rf chain1.1
mv away chain1.1
rm -rf bad
cp -r --sparse=always first bad
mv first away
mv bad first
ok "a copy of the lowest is as good" goes_on chain1.2

rm -rf bad
cp -r --sparse=always whole.lz4 bad
printf '\377' | dd of=bad/memory bs=1 seek=$(($(stat -c %s bad/memory) / 2)) conv=notrunc status=none
refused "a frame that was changed" "bad: memory: the frame for 0x[0-9a-f]* is damaged"
rm -rf bad
cp -r --sparse=always chain1.4 bad
python3 - bad <<'END'
# What is hostile has right checksums, but for those of its own: here, no base any more.
import sys
path = sys.argv[1] + "/snapshot.json"
text = open(path).read().replace('"../chain1.3"', '"/tmp/../etc"')
open(path, "w").write(text)
END
refused "a description whose base leads elsewhere" "the description"
end
