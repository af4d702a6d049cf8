#!/bin/bash
# A command in a stock kernel: streams, statuses, big data, and what becomes of a guest that fails.
. "$(dirname "$0")/lib.sh"
begin

stasis_run -- uname -r
matches "uname -r prints the Debian release" "6.12.*+deb12-cloud-$debian_arch" "$out"
equal "... and ends 0" 0 "$status"

stasis_run -- uname -m
equal "uname -m prints the architecture" "$guest_arch" "$out"

stasis_run -- sh -c 'echo out; echo err >&2; exit 7'
equal "standard output is apart" "out" "$out"
equal "... from standard error" "err" "$(cat "$work/err")"
equal "... and the status is COMMAND's" 7 "$status"

equal "standard input arrives" 3 "$(printf abc | "$STASIS" run "$LAB" -- cat 2>"$work/err" | wc -c)"

dd if=/dev/urandom of="$work/big" bs=1M count=100 status=none
want=$(sha256sum <"$work/big")
got=$("$STASIS" run "$LAB" -- cat <"$work/big" 2>"$work/err" | sha256sum)
equal "100 MiB through cat keep their checksum" "$want" "$got"

stasis_run -- sh -c 'kill -TERM $$'
equal "a COMMAND that dies of a signal ends 128 + it" 143 "$status"

stasis_run -- no-such-command-here
equal "a COMMAND that is not there ends 127" 127 "$status"

stasis_run -- sh -c 'yes | head -c 1000000 | wc -c'
equal "busybox's applets are on the PATH" 1000000 "$out"

"$STASIS" run "$LAB" -- yes 2>"$work/err" | head -n 1 >"$work/yes"
equal "a reader that goes away ends COMMAND by SIGPIPE" "y 141" \
	"$(cat "$work/yes") ${PIPESTATUS[0]}"

"$STASIS" run "$LAB" --report "$work/r.json" -- sh -c 'echo lost; exit 0' 2>"$work/err" >/dev/full
equal "output that can't be written ends 125" 125 $?
check "... and says why, once" test "$(grep -c "standard output: No space left" "$work/err")" = 1
check "... and the report says it" grep -q '"outcome": "error"' "$work/r.json"

no_effect=()
[ "$LAB" = --no-lab ] || no_effect=(--perf=relaxed)
stasis_run --report "$work/r.json" "${no_effect[@]}" -- sh -c 'exit 3'
equal "the report has the outcome" '"exited" 3' \
	"$(python3 -c 'import json,sys; r=json.load(open(sys.argv[1])); print("\"%s\" %d" % (r["outcome"], r["exit_status"]))' "$work/r.json")"
[ "$LAB" = --no-lab ] ||
	check "... and that --perf has no effect in the lab" grep -q '"--perf.* no effect in the lab"' "$work/r.json"

stasis_run -- sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60'
equal "a kernel panic ends 126" 126 "$status"
check "... with the panic in the printed tail" grep -q 'Kernel panic - not syncing' "$work/err"

stasis_run --timeout 5s -- sleep 100
equal "--timeout ends 124" 124 "$status"

stasis_run -a 'init=/nowhere rdinit=/nowhere' -- true
equal "a guest that never reaches init ends 126" 126 "$status"

mkdir "$work/in"
echo included >"$work/in/file"
stasis_run --include "$work/in:/data" -- cat /data/file
equal "--include brings a folder" included "$out"

end
