#!/bin/bash
# Model-checks the rendezvous with spin, and sees to it that each mutation is found wrong.
# usage: rendezvous.sh MODEL COMPILER; TAP on standard output.
set -u
model=$1
cc=$2

command -v spin >/dev/null || {
	echo "1..0 # SKIP spin (Debian: spin) is not installed"
	exit 0
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0 failed=0

report() { # report PASSED DESCRIPTION
	count=$((count + 1))
	if [ "$1" = yes ]; then
		echo "ok $count - $2"
	else
		failed=$((failed + 1))
		echo "not ok $count - $2"
		sed 's/^/# /' "$work/log" | head -n 40
	fi
}

# search FLAGS...: errors is how many the whole search found, empty if it did not come to its end.
search() {
	errors=
	rm -f "$work"/*
	(cd "$work" && spin -a "$@" "$model" && "$cc" -O1 -w -DSAFETY -DCOLLAPSE -o pan pan.c &&
		timeout 100 ./pan -m1000000) >"$work/log" 2>&1
	grep -q 'max search depth too small\|out of memory' "$work/log" && return
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$work/log")
}

holds() { # holds DESCRIPTION FLAGS...
	local what=$1
	shift
	search "$@"
	report "$([ "$errors" = 0 ] && echo yes)" "$what ($(sed -n 's/ *\([0-9]*\) states, stored.*/\1/p' "$work/log") states)"
}

is_wrong() { # is_wrong MUTATION
	search "-D$1" -DN=2 -DROUNDS=2
	report "$([ "${errors:-0}" -gt 0 ] && echo yes)" "$1 is found wrong: $(grep -m1 '^pan:' "$work/log")"
}

holds "one vCPU, four rounds" -DN=1 -DROUNDS=4
holds "two vCPUs, two rounds" -DN=2 -DROUNDS=2
holds "one vCPU, three rounds, with an errand" -DN=1 -DROUNDS=3 -DERRAND
holds "two vCPUs, one round, with an errand" -DN=2 -DROUNDS=1 -DERRAND
for mutation in LOOK_FIRST KICK_FIRST NO_TURN SLEEP_BLIND BELL_LATE NO_KILL_WAKE NO_COMPLETE; do
	is_wrong "$mutation"
done

echo "1..$count"
exit $((failed > 0))
