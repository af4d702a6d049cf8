#!/bin/bash
# The control socket of machines on the host's own KVM: by stasis's commands, by hand, and by
# go-qemu, a client that the project did not write.
# usage: qmp.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"
here=$(dirname "$0")
# Longer than a socket's name can be.
deep=$(printf '%090d' 1)/$(printf '%090d' 2)
export XDG_RUNTIME_DIR=$work/$deep
mkdir -p "$XDG_RUNTIME_DIR"

run() { # NAME OPTIONS...
	local name=$1
	shift
	start 64M "$name" halt "$@"
}
# A socket's name is short: by way of the folder.
socket() { echo "$work/$1"; }

# ---- the socket and stasis's own commands -----------------------------------------------------

run control -c 2 --qmp "$(socket other)"
folder=$XDG_RUNTIME_DIR/stasis/control
ok "a machine has a socket in its folder, for its owner only" is "$(stat -c '%F %a' "$folder/qmp")" "socket 600"
ok "info.json names it" grep -q "\"$folder/qmp\"" "$folder/info.json"
ok "--qmp has one more, for its owner only" is "$(stat -c '%F %a' "$(socket other)")" "socket 600"
"$STASIS" status control >"$work/status" 2>&1
ok "status tells how it is" grep -q '^state *running$' "$work/status"
"$STASIS" status --json control >"$work/status" 2>&1
ok "status --json tells it to programs" grep -q '"vcpus": 2' "$work/status"
"$STASIS" status contorl >"$work/status" 2>&1
status=$?
ok "an unknown name ends 125 (saw $status)" is $status 125
ok "... and offers the nearest" grep -q 'did you mean control?' "$work/status"
ok "freeze" "$STASIS" freeze control
ok "... holds it" grep -q '^state *frozen$' <("$STASIS" status control)
ok "... as list says, too" grep -q '^control .* frozen ' <("$STASIS" list)
ok "thaw lets it go on" "$STASIS" thaw control
ok "... and status says so" grep -q '^state *running$' <("$STASIS" status control)

# ---- what no good client says -----------------------------------------------------------------

if command -v python3 >/dev/null; then
	ok "garbage, floods and crowds harm nothing" python3 "$here/qmp_client.py" "$(socket other)" abuse
else
	echo "# no python3: the abuse is left out"
fi
ok "the machine still runs" grep -q '^state *running$' <("$STASIS" status control)
"$STASIS" run --no-lab -m 64M -k "$payloads/payload-halt.elf" -i "$work/empty" --qmp "$(socket other)" \
	</dev/null >/dev/null 2>"$work/twin"
status=$?
ok "a second machine can't have the same socket (saw $status)" is $status 125
ok "... and says whose fault it is" grep -q -- '--qmp .*another program listens' "$work/twin"
"$STASIS" run --no-lab -m 64M -k "$payloads/payload-halt.elf" -i "$work/empty" --qmp "$work/empty" \
	</dev/null >/dev/null 2>"$work/twin"
ok "a file in its place is left alone" grep -q 'no socket' "$work/twin"

# ---- go-qemu ----------------------------------------------------------------------------------

go_path=/usr/share/gocode
if command -v go >/dev/null && [ -d $go_path/src/github.com/digitalocean/go-qemu ]; then
	ok "go-qemu's client builds" env GOCACHE="$work/cache" GO111MODULE=off GOPATH=$go_path \
		go build -o "$work/client" "$here/qmp_client.go"
	timeout 30 "$work/client" "$(socket other)" >"$work/client.tap"
	while read -r line; do
		count=$((count + 1))
		case $line in
		"not ok"*) failed=$((failed + 1)) ;;
		esac
		echo "${line%% - *} $count - ${line#* - }"
	done <"$work/client.tap"
	ok "it came to its end" [ "$(wc -l <"$work/client.tap")" -gt 10 ]
else
	skip "go-qemu" "golang-go or golang-github-digitalocean-go-qemu-dev is not installed"
	python3 "$here/qmp_client.py" "$(socket other)" quit >/dev/null 2>&1 || kill $pid
fi
wait $pid
status=$?
ok "quit ends the run as a signal would (saw $status)" is $status 143
ok "... the report says killed" grep -q '"outcome": "killed"' "$work/control.json"
ok "... and both sockets are gone" is "$(ls -d "$(socket other)" "$folder" 2>/dev/null)" ""

# ---- other ends -------------------------------------------------------------------------------

if command -v python3 >/dev/null; then
	run nmi --qmp "$(socket nmi)"
	python3 "$here/qmp_client.py" "$(socket nmi)" inject-nmi >"$work/nmi.said"
	wait $pid
	status=$?
	# The payload has no interrupt table.
	ok "an NMI reaches the guest (saw $status)" grep -q 'triple fault' "$work/nmi.err"
	ok "... and SHUTDOWN says that the guest did it" grep -q '"guest": true' "$work/nmi.said"
	run again --qmp "$(socket again)"
	python3 "$here/qmp_client.py" "$(socket again)" system_reset >"$work/again.said"
	wait $pid
	status=$?
	ok "system_reset ends the run (saw $status)" is $status 143
	ok "... and says so" grep -q '"host-qmp-system-reset"' "$work/again.said"
fi
run stale --qmp "$(socket stale)"
kill -9 $pid
wait $pid 2>/dev/null
ok "kill -9 leaves a socket" [ -S "$(socket stale)" ]
run stale --qmp "$(socket stale)"
ok "... which the next start replaces" grep -q '^state *running$' <("$STASIS" status stale)
kill $pid
wait $pid

end
