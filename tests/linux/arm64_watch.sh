#!/bin/bash
# Each store to a watched counter is told once, whatever instruction does it: a guest of our own counts,
# one up by each store, and says how far it came.
. "$(dirname "$0")/lib.sh"
[ "$guest_arch" = aarch64 ] || skip_all "guests are $guest_arch here"
command -v jq >/dev/null || skip_all "no jq"
image=${ARM64_BUILD:?build tree for arm64}/tests/guest/payload-watch.img
[ -r "$image" ] || skip_all "no $image"
begin

# counts NAME ADDRESS FIELD: field of "counted" is where it ended, the first line told where it began.
: >"$work/empty"
counts() {
	local name=$1 end first told
	stasis_run -k "$image" -i "$work/empty" -c 2 -m 64M --timeout 150s --report "$work/report" \
		--on-hit log --watch "$2:8" </dev/null
	matches "$name: the guest comes to its end" '*counted *' "$out"
	end=$((16#$(printf '%s\n' "$out" | tr -d '\r' | sed -n 's/^counted //p' | cut -d ' ' -f "$3")))
	first=$(sed -n 's/.*, before \([0-9]*\), stored by.*/\1/p' "$work/err" | head -n 1)
	told=$(jq '.watches[0].stores' "$work/report")
	check "$name: it was watched for a hundred stores and more ($told)" [ "$told" -ge 100 ]
	equal "$name: each is told once" "$((end - ${first:-0}))" "$told"
}
counts "str and stp" 0xffffff8042800008 1
counts "exclusive pairs, of two vCPUs in the end" 0xffffff8042800040 2
counts "atomics" 0xffffff8042800080 3
end
