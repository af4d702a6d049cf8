# For arm64_watch.sh and arm64_quick.sh, after lib.sh: the guest tests/guest/payload_watch.S under a watch.
# Skips the file where it can't run. Sourced by bash.
[ "$guest_arch" = aarch64 ] || skip_all "guests are $guest_arch here"
command -v jq >/dev/null || skip_all "no jq"
image=${ARM64_BUILD:?build tree for arm64}/tests/guest/payload-watch.img
[ -r "$image" ] || skip_all "no $image"
: >"$work/empty"

# counts NAME ADDRESS FIELD: field of "counted" is where it ended, the first line told where it began.
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
