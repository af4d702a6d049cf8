#!/bin/bash
# stasis bench linux: a stock kernel's boot beside QEMU's, on this host's KVM or in a lab of its own.
# Its figures are nobody's business here.
. "$(dirname "$0")/lib.sh"
choose_lab
command -v qemu-system-x86_64 >/dev/null || skip_all "no QEMU to be measured beside stasis"
export TMPDIR=$work
suffix=
[ "$LAB" = --no-lab ] || suffix=.lab

# bench ARGUMENTS...: in a session of its own, whose id is in $work/session; output in $work/out,
# standard error in $work/err, status in $status.
bench() {
	# shellcheck disable=SC2016
	setsid --wait sh -c 'echo $$ >"$0"; exec "$@"' "$work/session" "$STASIS" bench "$@" \
		>"$work/out" 2>"$work/err"
	status=$?
}
# members [NAME]: the processes of that session whose names begin so; see proc_pid_stat(5).
members() {
	cat /proc/[0-9]*/stat 2>/dev/null |
		sed -n "s/^\([0-9]*\) (${1:-}.*) [^Z] [0-9]* [0-9]* $(cat "$work/session") .*/\1/p"
}
# alone: whether none is left within five seconds.
alone() {
	for _ in $(seq 50); do
		[ -z "$(members)" ] && return
		sleep 0.1
	done
	members
	return 1
}

bench linux --rounds 2 --json "$work/linux.json"
equal "two rounds end well" 0 "$status"
sed 's/^/# /' "$work/out"
sed '1,/^stasis \/ floor/d' "$work/out" >"$work/ratios"
for row in boot kernel; do
	check "linux.$row has a ratio" grep -Eq "^linux\.$row$suffix +[0-9]+\.[0-9]{3} " "$work/ratios"
done
check "all samples are there, and the whole is longer than its part" python3 -c "
import json, sys
boot, kernel = json.load(open(sys.argv[1]))['rows']
for side in 'floor', 'product':
    assert len(boot[side]) == len(kernel[side]) == 2
    for whole, part in zip(boot[side], kernel[side]):
        assert len(whole) == len(part) == 1 and whole[0] > part[0] > 1e7, (whole, part)
" "$work/linux.json"
if [ -n "$suffix" ]; then
	check "the rows say that they are of the lab" [ "$(grep -c 'in the lab' "$work/out")" = 2 ]
	check "... and the facts are those of both machines" python3 -c "
import json, sys
host = json.load(open(sys.argv[1]))['host']
assert 'kvm' in host['lab']['kvm_modules'] and host['lab']['cpus'] == 1, host
assert host['memory_bytes'] != host['lab']['memory_bytes'], host
" "$work/linux.json"
fi
check "no process is left" alone
equal "nor a file" "" "$(find "$work" -name 'stasis-bench-*')"
bench console.out --rounds 1 --compare "$work/linux.json"
equal "the results can be read again" "0 1" "$status $(grep -c '^console.out .*was not measured before' "$work/out")"

# Killed while it measures: neither a lab nor a guest stays.
# shellcheck disable=SC2016
setsid sh -c 'echo $$ >"$0"; exec "$@"' "$work/session" "$STASIS" bench linux --rounds 50 2>"$work/err" &
for _ in $(seq 100); do
	grep -q -e 'starts a lab' -e 'rounds$' "$work/err" &&
		members qemu >"$work/qemu" && [ -s "$work/qemu" ] && break
	sleep 0.1
done
check "there is a QEMU to be killed" [ -s "$work/qemu" ]
if [ -n "$suffix" ]; then
	kill -KILL "$(members bench-linux)"
	check "a lab ends with its benchmark" alone
else
	kill -KILL -- "-$(cat "$work/session")"
fi
wait

mkdir "$work/no-programs"
PATH=$work/no-programs "$STASIS" bench linux 2>"$work/err"
equal "without QEMU it is left out" 77 $?
matches "... and says so" "*linux: left out, as there is no qemu-system-x86_64*" "$(cat "$work/err")"
if compgen -G '/boot/vmlinuz-*' >"$work/kernels"; then
	skip "without a kernel, too" "there is one in /boot"
else
	XDG_CACHE_HOME=$work "$STASIS" bench linux 2>"$work/err"
	equal "without a kernel, too" 77 $?
	matches "... with what gets one" "*linux: left out, as there is no kernel*stasis kernel get*" "$(cat "$work/err")"
fi
# Five rounds of six passes: the last has none, and needs neither a lab nor a guest.
"$(realpath "$(dirname "$STASIS")"/../../bench/*/bench-linux)" --pass 6/6 --json "$work/none.json" >"$work/out" 2>"$work/err"
equal "a pass without rounds ends well, and at once" "0 0" "$? $(wc -c <"$work/err")"
check "... with a result that has no row" grep -q '"rows":\[\]' "$work/none.json"
"$STASIS" bench linux.no-such 2>"$work/err"
equal "an unknown row is a usage error" 125 $?

end
