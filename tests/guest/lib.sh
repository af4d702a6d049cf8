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

# end: the plan, and the exit status.
end() {
	echo "1..$count"
	exit $((failed > 0))
}
