#!/bin/bash
# Snapshots of VMs in the lab, with small guests: the lab is its agent alone, on this host
# (lab_agent.py). The folder stays with it; what is outside says where it is.
# usage: lab_snapshot.sh STASIS PAYLOAD-DIR; TAP on standard output.
agent=$(realpath "$(dirname "$0")/lab_agent.py")
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}
"$STASIS" kernel list 2>/dev/null | grep -q '^6.12' || skip_all "no kernel for a lab here"
mkdir -p /run/lab/snapshots 2>/dev/null || skip_all "/run/lab can't be made here"
before=$(ls /run/lab/snapshots)
kept() { comm -13 <(echo "$before") <(ls /run/lab/snapshots) | grep -c .; }

mkdir inner
python3 "$agent" "$STASIS" "$XDG_RUNTIME_DIR" "$work/inner" 2>agent.err &
agent_pid=$!
until [ -S "$XDG_RUNTIME_DIR/stasis/.lab.sock" ]; do sleep 0.05; done

# boot NAME
boot() {
	rm -f boot.out # of the one before, which says that it is up
	timeout 120 "$STASIS" run --lab -q -m 256M -k "$payloads/payload-halt.elf" -i empty --name "$1" </dev/null \
		>boot.out 2>boot.err &
	pid=$!
	for _ in $(seq 400); do
		grep -qs 'payload is up' boot.out && break
		sleep 0.05
	done
}
boot one
ok "a VM in the lab is saved" "$STASIS" snapshot --keep-running one snap </dev/null
ok "... with a description outside" grep -q '"topology": "1n1l1c1t"' snap/snapshot.json
ok "... and nothing else" is "$(ls snap)" snapshot.json
ok "... and goes on" grep -q '^state *running$' <("$STASIS" status one)
first=$(grep -o '/run/lab/snapshots/[0-9a-f]*' snap/snapshot.json)
ok "... its memory is in there" [ -s "$first/memory" ]
ok "it is saved again, over that one" "$STASIS" snapshot one snap </dev/null
wait $pid
status=$?
ok "... and ends (saw $status)" is $status 143
ok "... of which nothing is left" is "$(kept)$(ls "$first" 2>/dev/null)" 1
"$STASIS" restore snap --timeout 300ms --report report </dev/null >out 2>err
status=$?
ok "it goes on in there (saw $status)" is $status 124
ok "... and the report says so" grep -q '"lab": true' report

"$STASIS" restore snap --name two </dev/null >out 2>err &
pid=$!
for _ in $(seq 400); do
	"$STASIS" status two 2>/dev/null | grep -q running && break
	sleep 0.05
done
ok "a restored one is saved" "$STASIS" snapshot two snap </dev/null
wait $pid

# What differs from another, and what is packed.
boot base
"$STASIS" snapshot --keep-running base base.snap </dev/null 2>err
ok "one is saved as what differs" "$STASIS" snapshot base diff.snap --diff-of base.snap --lz4 --keep-running </dev/null
ok "... which says from what" grep -q "\"path\": \"../$(grep -o 'snapshots/[0-9a-f]*' base.snap/snapshot.json | cut -d / -f 2)\"" \
	diff.snap/snapshot.json
"$STASIS" snapshot base base.snap --diff-of base.snap --keep-running </dev/null 2>err
status=$?
ok "... but not where a snapshot is (saw $status)" is "$status $(grep -c 'where no snapshot is yet' err)" "125 1"
mkdir none
"$STASIS" snapshot base new.snap --diff-of none --keep-running </dev/null 2>err
status=$?
ok "... nor from one outside (saw $status)" is "$status $(grep -c 'it is no snapshot of the lab' err)" "125 1"
"$STASIS" snapshot base new.snap --diff-of snap --keep-running </dev/null 2>err
status=$?
ok "... nor from another VM's (saw $status)" is "$status $(grep -c 'one that this VM was saved to' err)" "125 1"
ok "... and nothing is left of these" is "$(ls -d new* 2>/dev/null)" ""
"$STASIS" snapshot base end.snap --diff-of diff.snap </dev/null 2>err
wait $pid
"$STASIS" restore end.snap --timeout 300ms </dev/null >out 2>err
status=$?
ok "the last of three goes on in there (saw $status)" is $status 124
for folder in base diff end; do
	rm -rf "$(grep -o '/run/lab/snapshots/[0-9a-f]*' $folder.snap/snapshot.json)"
done

# COMMAND's streams and status come through as well: payload_session.c.
mkfifo nothing
exec 3<>nothing
"$STASIS" run --lab -q -m 256M -k "$payloads/payload-session.elf" --name session -- true <&3 >counts 2>err &
pid=$!
for _ in $(seq 400); do
	[ "$(wc -l <counts)" -ge 5 ] && break
	sleep 0.05
done
ok "a run of a COMMAND is saved" "$STASIS" snapshot session session.snap
wait $pid
echo word | "$STASIS" restore session.snap -q >>counts 2>err
status=$?
ok "... and ends with COMMAND's status (saw $status)" is "$status $(tail -n 1 counts)" "7 read word"
counted() { awk '/^count/ { if ($2 != ++n) wrong = 1 } END { exit wrong || n < 5 }' counts; }
ok "... and has counted without a gap" counted
rm -rf "$(grep -o '/run/lab/snapshots/[0-9a-f]*' session.snap/snapshot.json)"

python3 - "$XDG_RUNTIME_DIR/stasis" <<'PY' >said &
import json, os, socket, sys, time
folder = sys.argv[1] + "/three/qmp"
for _ in range(400):
    if os.path.exists(folder):
        break
    time.sleep(0.05)
s = socket.socket(socket.AF_UNIX)
s.connect(folder)
f = s.makefile("rw")
f.readline()
for command, arguments in ("qmp_capabilities", {}), ("x-stasis-snapshot", {"path": "/tmp/elsewhere"}):
    f.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    f.flush()
    print(f.readline())
PY
client=$!
boot three
wait $client
ok "a client's own path is refused" grep -q 'by stasis snapshot alone' said
kill $pid
wait $pid
"$STASIS" restore snap --disk disk0=empty </dev/null >out 2>err
status=$?
ok "... as are disks (saw $status)" is $status 125
rm -rf "$(grep -o '/run/lab/snapshots/[0-9a-f]*' snap/snapshot.json)"
"$STASIS" restore snap </dev/null >out 2>err
status=$?
ok "a snapshot that the lab has no more is refused (saw $status)" is $status 125
ok "... by what became of it" grep -q 'the lab that kept this snapshot has ended' err
kill $agent_pid
wait $agent_pid
"$STASIS" restore snap </dev/null >out 2>err
status=$?
ok "... also where there is no lab (saw $status)" is $status 125
ok "nothing is left in the lab" is "$(kept)" 0
end
