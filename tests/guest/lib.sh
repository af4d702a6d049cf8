# What the tests of small guests on the host's own KVM share: TAP, a folder, a runtime directory.
# Sourced by bash, with STASIS and PAYLOAD-DIR as its caller's arguments.
set -u
STASIS=$(realpath "$1")
payloads=$(realpath "$2")
work=$(mktemp -d)
export XDG_RUNTIME_DIR=$work/run
mkdir "$XDG_RUNTIME_DIR"
trap 'rm -rf "$work"' EXIT
count=0 failed=0

[ -w /dev/kvm ] || {
	echo "1..0 # SKIP no /dev/kvm here"
	exit 0
}
: >"$work/empty"

# ok DESCRIPTION CONDITION...; where it fails, with the ends of what was said last.
ok() {
	local what=$1
	shift
	count=$((count + 1))
	if "$@"; then
		echo "ok $count - $what"
	else
		failed=$((failed + 1))
		echo "not ok $count - $what"
		tail -n 5 "$work"/*.err "$work/out" "$work/err" 2>/dev/null | sed 's/^/# /'
	fi
}

# skip DESCRIPTION WHY
skip() {
	count=$((count + 1))
	echo "ok $count - $1 # SKIP $2"
}

is() { [ "$1" = "$2" ]; }

# start MEMORY NAME PAYLOAD OPTIONS...: a VM in the background, up or given up on; its pid is in $pid.
start() {
	local memory=$1 name=$2 payload=$3
	shift 3
	rm -f "$work/$name.out"
	"$STASIS" run --no-lab -m "$memory" -k "$payloads/payload-$payload.elf" -i "$work/empty" --name "$name" \
		--report "$work/$name.json" "$@" </dev/null >"$work/$name.out" 2>"$work/$name.err" &
	pid=$!
	up "$name"
}
# up NAME: waits until its guest says so, in NAME.out, for 10 s at most. There is no such file before: a
# shell in the background may be late to empty it, and the guest before was up, too.
up() {
	for _ in $(seq 200); do
		grep -qs 'payload is up' "$work/$1.out" && return
		sleep 0.05
	done
}

# holds FILE CONDITION: of the JSON in FILE, by jq.
holds() { [ -s "$1" ] && jq -e "$2" "$1" >/dev/null; }

# end: the plan, and the exit status.
end() {
	echo "1..$count"
	exit $((failed > 0))
}
