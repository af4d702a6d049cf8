#!/bin/bash
# A stock kernel under load that is saved and restored, again and again from its own restore: COMMAND
# counts on without a gap, its clock goes on from the instant of the snapshot, nothing in the kernel
# minds, and the last one has COMMAND's output and status. RESTORES: how often (default 5).
. "$(dirname "$0")/lib.sh"
begin
restores=${RESTORES:-5}
away=6 # seconds for which it is not there, each time
# What it counts to: some of it for each restore, and what a slow emulator needs for a snapshot.
last=$((200 + restores * 100))
guest='
	uptime() { read -r now rest </proc/uptime; echo "${now%.*}${now#*.}"; }
	sum=$(head -c 4194304 /dev/zero | sha256sum)
	(
		while [ ! -e /over ]; do
			[ "$(head -c 4194304 /dev/zero | sha256sum)" = "$sum" ] || echo "wrong sum"
		done
	) &
	i=0
	while [ $i -lt LAST ] && [ ! -e /over ]; do
		i=$((i + 1))
		echo "count $i $(uptime)"
		sleep 0.1
	done
	read -r word
	echo "read $word"
	>/over
	echo "forked $(dmesg | grep -c "reseeded due to virtual machine fork")"
	dmesg | grep -i -E "stall|lockup|unstable|hung|skew|watchdog: BUG" | sed "s,^,barked: ,"
	wait
	exit 7
'
mkfifo "$work/nothing"
exec 3<>"$work/nothing" # an input in which nothing comes
counted() { grep -c '^count' "$work/out"; }
more() { # more COUNT: until it has counted so much further
	local want=$(($(counted) + $1))
	while [ "$(counted)" -lt $want ] && kill -0 $pid 2>/dev/null; do
		sleep 0.1
	done
}

: >"$work/out"
"$STASIS" run "$LAB" -q --name snap -c 2 -m 256M --timeout 600s -- sh -c "${guest//LAST/$last}" \
	<&3 >>"$work/out" 2>"$work/err" &
pid=$!
more 10
check "a command runs beside it, by vsock" "$STASIS" exec snap -- true
check "it is saved, and goes on" "$STASIS" snapshot --keep-running snap "$work/kept"
more 5
check "... indeed" kill -0 $pid
saved=0
for i in $(seq "$restores"); do
	if [ "$i" -gt 1 ]; then
		"$STASIS" restore "$work/dir" -q --name snap --timeout 600s <&3 >>"$work/out" 2>"$work/err" &
		pid=$!
	fi
	more 5
	sleep "0.$((RANDOM % 10))"
	"$STASIS" snapshot snap "$work/dir" 2>"$work/save.err" || {
		sed 's/^/# /' "$work/save.err" "$work/err"
		break
	}
	wait $pid
	status=$?
	saved=$((saved + 1))
	sleep $away
done
equal "it is saved from its own restore again and again" "$restores" "$saved"
equal "... and ends each time (status)" 143 "$status"
"$STASIS" restore "$work/dir" -q --name snap --timeout 600s < <(
	sleep 2
	echo word
) >>"$work/out" 2>"$work/err" &
pid=$!
more 5
check "a command runs beside the restored one" "$STASIS" exec snap -- sh -c ': >/over'
wait $pid
status=$?
equal "the restored run ends with COMMAND's status" 7 "$status"
equal "... which has read what the last one was given" "read word" "$(grep '^read' "$work/out")"
check "it has counted without a gap ($(counted) times)" awk \
	'/^count/ { if ($2 != n + 1) exit 1; n = $2 } END { exit n < 30 }' "$work/out"
# Centiseconds. The emulator itself stands still for a second now and then.
worst=$(awk '/^count/ { if (n && $3 - n > w) w = $3 - n; if ($3 < n) w = 99999; n = $3 } END { print w + 0 }' \
	"$work/out")
check "no two of its looks at the clock are 4 s apart (worst ${worst}0 ms; it was away for $away s and more)" \
	[ "$worst" -lt 400 ]
equal "what it computes meanwhile is right" "" "$(grep wrong "$work/out")"
equal "each restore made its random generator reseed" "forked $restores" "$(grep '^forked' "$work/out")"
equal "no watchdog barked" "" "$(grep barked "$work/out")"

# The first one again: it goes on from where it was kept.
first=$(counted)
: >"$work/out"
"$STASIS" restore "$work/kept" -q --name kept --timeout 300s <&3 >>"$work/out" 2>"$work/err" &
pid=$!
more 3
check "one that was kept goes on from its own instant ($(sed -n 's/^count \([0-9]*\) .*/\1/p' "$work/out" |
	head -n 1) of $first)" awk -v first="$first" '/^count/ { exit $2 <= 10 || $2 >= first }' "$work/out"
kill $pid
wait $pid
rm -rf "$work/kept"
"$STASIS" restore "$work/kept" </dev/null >"$work/out" 2>"$work/err"
equal "one that is gone is refused" 125 $?
end
