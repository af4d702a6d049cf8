#!/bin/bash
# Dumps and cores of small guests on the host's own KVM.
# usage: dump.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1

run() { # NAME OPTIONS...
	local name=$1
	shift
	start 1G "$name" halt "$@"
}
# is_core FILE: whole, and with notes that readelf understands.
is_core() {
	readelf -hln "$1" >"$work/readelf" 2>&1 && grep -q 'CORE (Core file)' "$work/readelf" &&
		grep -q 'NT_PRSTATUS' "$work/readelf" && ! grep -q 'Error\|Warning' "$work/readelf"
}
is_dump() { grep -q '"vcpus": \[' "$1" && grep -q '"instruction_pointer"' "$1"; }
nothing_else() { [ -z "$(ls -A "$1")" ]; }

# ---- what a run leaves behind -----------------------------------------------------------------

run at --freeze-at 300ms --dump d.json --vmcore v --timeout 8s
wait $pid
status=$?
ok "--freeze-at lets the guest go on to its end (saw $status)" is $status 124
ok "... with a dump" is_dump d.json
ok "... and a core" is_core v
ok "... which says why it was made" grep -q '"cause": "freeze-at"' d.json
ok "the report names both" is "$(grep -c '"dump": "d.json"\|"vmcore": "v"' at.json)" 2
ok "a core is as long as the guest's memory ..." [ "$(stat -c %s v)" -gt $((1 << 30)) ]
ok "... and takes what was in use ($(du -k v | cut -f 1) KiB)" [ "$(du -k v | cut -f 1)" -lt 4096 ]
ok "... and is its owner's" is "$(stat -c %a v)" 600

"$STASIS" run --no-lab -m 256M -k "$payloads/payload-smp-stay.elf" -i empty -t 1n1l4c2t --freeze-at 1500ms \
	--dump smp.json --vmcore smp --timeout 6s </dev/null >out 2>err
threads=$(readelf -n smp | grep -c NT_PRSTATUS)
ok "each vCPU that started has its registers ($threads)" is "$threads" 8
if command -v gdb >/dev/null; then
	threads=$(gdb -batch -nx -ex 'info threads' -c smp 2>gdb.err | grep -c 'LWP [1-8] ')
	ok "gdb shows each as a thread ($threads)" is "$threads" 8
else
	skip "gdb shows each as a thread" "gdb is not installed"
fi

# ---- by the control socket --------------------------------------------------------------------

run ask -c 2
ask=$pid
prints() { "$STASIS" dump ask >ask.dump; }
ok "stasis dump prints" prints
ok "... JSON of every vCPU" is_dump ask.dump
ok "... also into a file" "$STASIS" dump ask ask.dump2
ok "... which is the same" is_dump ask.dump2
ok "stasis vmcore writes NAME.vmcore" "$STASIS" vmcore ask
ok "... where it was asked for" is_core ask.vmcore
ok "... also to a path" "$STASIS" vmcore ask other.core
ok "... relative to here" is_core other.core
ok "the guest goes on" grep -q '^state *running$' <("$STASIS" status ask)
"$STASIS" freeze ask
"$STASIS" vmcore ask frozen.core
ok "a frozen guest is dumped" is_core frozen.core
ok "... and stays frozen" grep -q '^state *frozen$' <("$STASIS" status ask)
"$STASIS" thaw ask
"$STASIS" vmcore ask - >out 2>err
status=$?
ok "a core goes to no pipe (saw $status)" is $status 125
mkdir folder
for bad in folder none/file /dev/null; do
	"$STASIS" vmcore ask $bad >out 2>err
	status=$?
	ok "vmcore $bad is refused (saw $status)" is $status 125
	ok "... by name" grep -q "$bad" err
done
ok "... and makes nothing" nothing_else folder

# ---- what goes wrong ---------------------------------------------------------------------------

for what in dump vmcore; do
	for bad in folder none/file; do
		"$STASIS" run --no-lab -m 64M -k "$payloads/payload-halt.elf" -i empty --$what $bad \
			</dev/null >out 2>err
		status=$?
		ok "--$what $bad is refused at once (saw $status)" is $status 125
		ok "... by name" grep -q -- "--$what.*$bad" err
	done
done
if mkdir small && mount -t tmpfs -o size=64k none small 2>/dev/null; then
	"$STASIS" vmcore ask small/core >out 2>err
	status=$?
	ok "a full disk fails a core (saw $status)" is $status 125
	ok "... and is named" grep -q 'No space left' err
	ok "... and keeps no half of it" nothing_else small
	ok "... and does the guest no harm" grep -q '^state *running$' <("$STASIS" status ask)
	run full --freeze-at 100ms --vmcore small/core --timeout 5s
	wait $pid
	ok "--vmcore on a full disk is in degraded" \
		grep -q 'writing the core small/core' <(sed -n '/"degraded"/,$p' full.json)
	umount small
else
	skip "a full disk" "no tmpfs can be mounted here"
fi
kill $ask
wait $ask

# Killed while it writes: nothing that looks whole. Memory of huge zeros takes no time, so a disk
# slow enough is not at hand: many tries instead.
whole=0 half=0
for i in 1 2 3 4 5 6; do
	run k$i
	"$STASIS" vmcore k$i $PWD/folder/core 2>/dev/null &
	client=$!
	sleep 0.0$i
	kill -9 $pid
	wait $pid 2>/dev/null
	wait $client
	if [ -e folder/core ]; then
		is_core folder/core && whole=$((whole + 1)) || half=$((half + 1))
	fi
	rm -f folder/core
done
ok "killed while it writes: whole or absent ($whole whole of 6, $half half)" is $half 0
end
