#!/bin/bash
# The least that shows the arm64 side to be whole: a command, a watch and a snapshot in Debian's kernel, and a
# count of watched stores. The suite linux-arm64 has the rest.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/arm64_counts.sh"
begin
stasis_run --watch 'jiffies_64:8&0x100' --dump "$work/dump.json" --report "$work/report" -- \
	sh -c 'uname -m; echo err >&2; sleep 5; exit 7'
equal "a command's output" aarch64 "$out"
equal "... its status" 7 "$status"
check "... and its standard error" grep -qx err "$work/err"
equal "a watch fires once" "over 1" "$(jq -r '.watches[0] | "\(.state) \(.hits)"' "$work/report")"
equal "... with a stack that ends" true "$(jq '.vcpus[0].stack_complete' "$work/dump.json")"
mkfifo "$work/in"
"$STASIS" run "$LAB" -q --name quick -c 2 -- sh -c 'echo up; read -r word; echo "$word"; exit 3' <>"$work/in" \
	>"$work/out" 2>"$work/err" &
pid=$!
until grep -q up "$work/out" || ! kill -0 $pid 2>/dev/null; do sleep 0.2; done
check "two vCPUs are saved" "$STASIS" snapshot quick "$work/dir"
wait $pid
out=$(echo after | "$STASIS" restore "$work/dir" -q 2>"$work/err")
equal "... and go on from there" "3 after" "$? $out"
counts "exclusive stores, of two vCPUs in the end" 0xffffff8042800040 2
end
