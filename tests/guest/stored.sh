#!/bin/bash
# Snapshots that were made by earlier builds go on in this one: snapshots/README.md.
# usage: stored.sh STASIS PAYLOAD-DIR; TAP on standard output.
stored=$(realpath "$(dirname "$0")/snapshots")
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1

# What they have of a CPU is as little as can be, but it is some: only these are no fault of ours.
not_here='another vendor\|lacks a CPU feature\|takes no .* for\|be scaled\|host.s KVM takes'
"$payloads/chain-host" 1 100000 >expected
for from in "$stored"/*/; do
	name=$(basename "$from")
	what="the stored snapshot $name goes on to its right end"
	mkdir "$name"
	cp "$from/snapshot.json" "$from/state" "$name"
	gzip -dc "$from/memory.gz" >"$name/memory"
	truncate -s 64M "$name/memory"
	sed -n 's/^  "id": "\(.*\)",$/\1/p' "$name/snapshot.json" | tr -d '\n' >>"$name/memory"
	"$STASIS" restore "$name" --timeout 60s </dev/null >out 2>err
	status=$?
	if [ $status = 125 ] && grep -q "$not_here" err; then
		skip "$what" "$(head -n 1 err)"
	else
		ok "$what (saw $status)" cmp out expected
	fi
done
end
