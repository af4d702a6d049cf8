#!/bin/bash
# Snapshots of small guests on the host's own KVM, and what goes on from them.
# usage: snapshot.sh STASIS PAYLOAD-DIR [CYCLES]; TAP on standard output.
. "$(dirname "$0")/lib.sh"
cycles=${3:-50}
cpus=4 rounds=$((cycles * 3000000))
cd "$work" || exit 1

"$payloads/chain-make" first "$payloads/payload-chain.bin" $cpus $rounds
status=$?
ok "a first snapshot is made" is $status 0
"$payloads/chain-host" $cpus $rounds >expected

# begin DIR: goes on from there in the background; its pid is in $pid, its name is g$n.
n=0
begin() {
	n=$((n + 1))
	"$STASIS" restore "$1" --name g$n --timeout $((280 + cycles))s </dev/null >>printed 2>err &
	pid=$!
}
# save DIR: false if the guest came to its end before.
save() {
	until "$STASIS" snapshot g$n "$1" 2>save.err; do
		kill -0 $pid 2>/dev/null || return 1
		grep -q 'does not run\|no VM' save.err || return 1
	done
	wait $pid
	return 0
}
nap() { sleep 0.0$(printf %02d $((RANDOM % 60))); }
ends() { # the guest comes to its end, and has said what it has to
	wait $pid
	cmp -s printed expected
}

# ---- from its own restore, again and again ------------------------------------------------------

restored=0 right=0 wrong=0
from=first
: >printed
while [ $restored -lt "$cycles" ]; do
	begin $from
	restored=$((restored + 1))
	nap
	if save chain; then
		from=chain
		continue
	fi
	if ends; then right=$((right + 1)); else wrong=$((wrong + 1)); fi
	: >printed
	from=first
done
cp -r --sparse=always $from last
cp printed so_far
begin $from
if ends; then right=$((right + 1)); else wrong=$((wrong + 1)); fi
ok "$restored restores at random instants: every chain ends right ($right did, $wrong did not)" \
	is "$wrong $((right > 0))" "0 1"
cp so_far printed
begin last
ok "... also from the same instant once more" ends

# ---- the original goes on -------------------------------------------------------------------------

: >printed
begin first
sleep 0.3
"$STASIS" freeze g$n
ok "--keep-running saves" "$STASIS" snapshot g$n kept --keep-running
cp printed kept.printed
"$STASIS" thaw g$n
ok "... and the guest goes on" kill -0 $pid
ok "... to its right end" ends
cp kept.printed printed
begin kept
ok "... as the saved one does" ends

# ---- a VM that was booted --------------------------------------------------------------------------

"$STASIS" run --no-lab -m 256M -k "$payloads/payload-halt.elf" -i empty --name boot \
	</dev/null >boot.out 2>boot.err &
pid=$!
until grep -qs 'payload is up' boot.out; do sleep 0.05; done
ok "a booted VM is saved" "$STASIS" snapshot --keep-running boot booted
ok "... into a description" grep -q '"topology": "1n1l1c1t"' booted/snapshot.json
ok "... and memory with holes" [ "$(du -k booted/memory | cut -f 1)" -lt 1024 ]
mkdir mine
echo mine >mine/notes
"$STASIS" snapshot boot mine 2>err
status=$?
ok "a folder of other things is left alone (saw $status)" is "$status $(cat mine/notes)" "125 mine"
"$STASIS" snapshot boot none/dir 2>err
status=$?
ok "a folder that can't be made is refused (saw $status)" is $status 125
ok "... and the VM runs" grep -q '^state *running$' <("$STASIS" status boot)
"$STASIS" freeze boot
ok "a frozen VM is saved" "$STASIS" snapshot --keep-running boot booted
ok "... and stays frozen" grep -q '^state *frozen$' <("$STASIS" status boot)
kill $pid
wait $pid
"$STASIS" restore booted --name again --timeout 500ms </dev/null >out 2>err
status=$?
ok "... and goes on (saw $status)" is $status 124

"$STASIS" run --no-lab -m 256M -k "$payloads/payload-smp-stay.elf" -i empty -t 1n1l4c2t --name smp \
	</dev/null >smp.out 2>smp.err &
pid=$!
for _ in $(seq 600); do
	grep -q started smp.out && break
	sleep 0.05
done
ok "eight CPUs, halted in the kernel, are saved" "$STASIS" snapshot smp smp.snap
wait $pid
"$STASIS" restore smp.snap --timeout 500ms </dev/null >out 2>err
status=$?
ok "... and restored (saw $status)" is $status 124

"$STASIS" run --no-lab -m 256M -k "$payloads/payload-smp-stay.elf" -i empty -t 1n1l300c1t --name big \
	</dev/null >big.out 2>big.err &
pid=$!
for _ in $(seq 1200); do
	grep -q started big.out && break
	sleep 0.05
done
ok "300 CPUs, with the IOAPIC in user space, are saved" "$STASIS" snapshot big big.snap
wait $pid
ok "... and that as well" grep -q device.ioapic0 big.snap/state
"$STASIS" restore big.snap --timeout 1s </dev/null >out 2>err
status=$?
ok "... and restored (saw $status)" is $status 124

# ---- a disk ---------------------------------------------------------------------------------------------

# Records, counted out once they are durable, one to eight at once: payload_disk.c. From its own
# restore, again and again, it counts on without a gap, and all are in the image.
records() { # records IMAGE LINES
	python3 -c '
import struct, sys
said = [int(line) for line in open(sys.argv[2]) if line.strip().isdigit() and line.endswith("\n")]
want, n = [], 1
while len(want) < len(said):
    n += 1 + n % 8
    want.append(n - 1)
with open(sys.argv[1], "rb") as image:
    image.seek(512)
    lost = [n for n in range(1, want[-1] + 1) if image.read(512) != struct.pack("<I", n) * 128]
print("#", len(said), "times,", want[-1], "records,", len(lost), "lost", *lost[:5])
sys.exit(bool(lost or said != want or len(said) < 20))
' "$1" "$2"
}
more() { # until COUNT more lines are there
	local want=$(($(wc -l <"$1") + $2))
	for _ in $(seq 400); do
		[ "$(wc -l <"$1")" -ge $want ] && return
		kill -0 $pid 2>/dev/null || return
		sleep 0.02
	done
}
truncate -s 32M disk.img
: >lines
"$STASIS" run --no-lab -q -m 256M -k "$payloads/payload-disk-records.elf" -i empty --name disk \
	--disk disk.img </dev/null >>lines 2>err &
pid=$!
saves=0
for i in 1 2 3 4 5 6 7 8; do
	more lines 5
	nap
	"$STASIS" snapshot disk disk.snap 2>save.err || break
	saves=$((saves + 1))
	wait $pid
	"$STASIS" restore disk.snap --name disk --timeout 60s </dev/null >>lines 2>err &
	pid=$!
done
more lines 5
ok "a guest that writes to its disk is saved and restored ($saves times of 8)" is $saves 8
"$STASIS" freeze disk
"$STASIS" snapshot --keep-running disk disk.snap
status=$?
cp --sparse=always disk.img copy.img
cp lines copy.lines
"$STASIS" thaw disk
more lines 5
kill $pid
wait $pid
ok "... each record once, and in the image" records disk.img lines
ok "... also while it is frozen, and its disk is copied then (saw $status)" is $status 0
"$STASIS" restore disk.snap </dev/null >out 2>err
status=$?
ok "a disk that has changed since is refused (saw $status)" is $status 125
ok "... once it was said that it is opened" grep -q "^stasis: opens disk disk0: $work/disk.img, to read and write" err
"$STASIS" restore -q disk.snap </dev/null >out 2>err
ok "... but with -q" is "$(grep -c 'opens disk' err)" 0
"$STASIS" restore disk.snap </dev/null >out 2>err
ok "... by name" grep -q 'disk disk0, .*it has changed since the snapshot' err
"$STASIS" restore disk.snap --disk other=copy.img </dev/null >out 2>err
status=$?
ok "... as is a name that no disk has (saw $status)" is $status 125
truncate -s 31M shorter.img
"$STASIS" restore disk.snap --disk disk0=shorter.img </dev/null >out 2>err
status=$?
ok "... and a file of another size (saw $status)" is $status 125
ok "... by name" grep -q 'virtio-blk.capacity' err
"$STASIS" restore disk.snap --disk disk0=copy.img --name disk --timeout 60s </dev/null >>copy.lines 2>err &
pid=$!
more copy.lines 10
kill $pid
wait $pid
ok "a copy of then goes on from there" records copy.img copy.lines

truncate -s 1M ro.img
"$STASIS" run --no-lab -q -m 256M -k "$payloads/payload-halt.elf" -i empty --name ro --disk ro.img,ro \
	</dev/null >ro.out 2>err &
pid=$!
until grep -qs 'payload is up' ro.out; do sleep 0.05; done
"$STASIS" snapshot ro ro.snap
wait $pid
"$STASIS" restore ro.snap --timeout 200ms </dev/null >out 2>err
status=$?
ok "a guest with a disk that it can but read goes on (saw $status)" is $status 124
touch ro.img
"$STASIS" restore ro.snap --timeout 200ms </dev/null >out 2>err
status=$?
ok "... not where that has changed (saw $status)" is $status 125
ok "... by name" grep -q 'disk disk0, .*it has changed since the snapshot' err
"$STASIS" restore ro.snap --count 2 --timeout 200ms </dev/null >out 2>err
status=$?
ok "... nor as clones (saw $status)" is "$status $(grep -c 'changed since' err)" "125 1"
"$STASIS" restore ro.snap --disk disk0=ro.img --timeout 200ms </dev/null >out 2>err
status=$?
ok "... but where one says that it has what it had (saw $status)" is $status 124

# ---- COMMAND, and its streams -------------------------------------------------------------------------

# A guest that says by virtio-console what init says: payload_session.c. Its COMMAND counts until it is
# told a word.
mkfifo nothing
exec 3<>nothing
: >counts
"$STASIS" run --no-lab -q -m 256M -k "$payloads/payload-session.elf" --name session -- true <&3 >>counts 2>err &
pid=$!
saves=0
for i in 1 2 3 4 5 6 7 8 9 10; do
	more counts 3
	nap
	"$STASIS" snapshot session session.snap 2>save.err || break
	wait $pid
	status=$?
	saves=$((saves + 1))
	"$STASIS" restore session.snap -q --name session --timeout 60s <&3 >>counts 2>err &
	pid=$!
done
ok "a run of a COMMAND is saved from its own restore ($saves times of 10)" is "$saves $status" "10 143"
ok "... and knows what it runs" grep -q '"true"' session.snap/snapshot.json
more counts 3
"$STASIS" freeze session
"$STASIS" snapshot --keep-running session session.snap
cp counts counts.then
"$STASIS" thaw session
more counts 3
echo word >&3
wait $pid
status=$?
ok "... and ends with COMMAND's status (saw $status)" is $status 7
ok "... which read what the last one was given" is "$(tail -n 1 counts)" "read word"
counted() { # counted FILE: from 1 on without a gap
	awk '/^count/ { if ($2 != ++n) wrong = 1 } END { print "#", n, "counts"; exit wrong || n < 30 }' "$1"
}
ok "... and has counted without a gap" counted counts
printf 'another\n' | "$STASIS" restore session.snap -q --report report --timeout 60s >>counts.then 2>err
status=$?
ok "it goes on from there once more, with another input (saw $status)" is "$status $(tail -n 1 counts.then)" \
	"7 read another"
ok "... without a gap" counted counts.then
ok "... and the report says what it was" grep -q '"outcome": "exited"' report

# ---- what is refused --------------------------------------------------------------------------------

refused() { # refused WHAT WORD: restoring bad
	"$STASIS" restore bad </dev/null >out 2>err
	status=$?
	ok "$1 is refused (saw $status)" is $status 125
	ok "... by name" grep -q "$2" err
}
for file in snapshot.json state memory; do
	rm -rf bad
	cp -r --sparse=always booted bad
	rm bad/$file
	refused "a snapshot without $file" "$file"
	cp --sparse=always booted/$file bad/$file
	truncate -s -1 bad/$file
	refused "... with a byte of it cut off" "state\|description\|memory"
done
rm -rf bad
cp -r --sparse=always booted bad
sed -i 's/"vcpus": 1/"vcpus": 2/' bad/snapshot.json
refused "a description that was edited" "description"

# Another snapshot of the same machine: each file of it is whole, and as long.
rm -rf bad
cp -r --sparse=always booted bad
cp --sparse=always smp.snap/memory bad/memory
refused "another snapshot's memory" "memory: it is another snapshot's"

rm -rf bad
cp -r --sparse=always booted bad
rm bad/snapshot.json
mkfifo bad/snapshot.json
timeout 10 "$STASIS" restore bad </dev/null >out 2>err
status=$?
ok "a pipe in place of the description is refused (saw $status)" is $status 125
ok "... by name" grep -q 'snapshot.json: a file is accepted' err

mkdir lab
echo '{"snapshot": 2, "lab": {"folder": "/run/lab/snapshots/0123"}}' >lab/snapshot.json
"$STASIS" restore lab </dev/null >out 2>err
status=$?
ok "one of a lab that has ended is refused (saw $status)" is $status 125

# ---- killed while it saves ----------------------------------------------------------------------------

whole=0 broken=0
for i in 1 2 3 4 5 6 7 8; do
	begin first
	until "$STASIS" status g$n >out 2>&1 && grep -q running out; do sleep 0.01; done
	"$STASIS" snapshot --keep-running g$n booted 2>save.err &
	client=$!
	sleep 0.0$i
	kill -9 $pid
	wait $pid 2>/dev/null
	wait $client
	"$STASIS" restore booted --timeout 100ms </dev/null >out 2>err
	if [ $? = 124 ]; then whole=$((whole + 1)); else broken=$((broken + 1)); fi
done
ok "killed while it saves: a whole snapshot is there ($whole times, broken $broken)" is $broken 0
begin first
until "$STASIS" snapshot --keep-running g$n booted 2>save.err; do
	kill -0 $pid || break
done
kill $pid
wait $pid
ok "... and nothing is left of those that were not finished" is "$(echo booted*)" booted
end
