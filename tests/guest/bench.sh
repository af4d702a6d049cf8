#!/bin/bash
# Every benchmark runs for two rounds, and its results can be read again. Their figures are nobody's
# business here.
# usage: bench.sh STASIS PAYLOAD-DIR; TAP on standard output.
. "$(dirname "$0")/lib.sh"
export TMPDIR=$work STASIS_LOCK_DIR=$work/locks

# tests/linux/bench.sh runs the one that boots Linux.
names=$("$STASIS" bench --list | cut -d ' ' -f 1 | grep -v '^linux$')
ok "there are benchmarks" [ -n "$names" ]
for name in $names; do
	"$STASIS" bench "$name" --rounds 2 --passes 1 --json "$work/$name.json" --plot "$work/$name.svg" \
		>"$work/out" 2>"$work/err"
	status=$?
	if [ $status = 77 ]; then
		skip "$name" "$(tail -n 1 "$work/err")"
		continue
	fi
	ok "$name: runs" is $status 0
	# A row stands in the table of values, with its two rounds, and in that of ratios.
	rows=$(sed -n 's/^\([^ :]*\): 2 rounds$/\1/p' "$work/err" | wc -l)
	ok "$name: says what it does ($rows rows)" [ "$rows" -gt 0 ]
	ok "$name: gives a ratio for each" [ "$(sed -n '/^stasis \/ floor/,$p' "$work/out" |
		grep -c "^$name\.")" -ge "$rows" ]
	ok "$name: draws" grep -q '</svg>' "$work/$name.svg"
	command -v python3 >/dev/null && ok "… what can be read, and says of which host" python3 -c '
import sys, xml.etree.ElementTree as tree
texts = [t.text for t in tree.parse(sys.argv[1]).iter("{http://www.w3.org/2000/svg}text")]
assert any("Linux " in t and ", stasis " in t and t.endswith("1 pass × 2 rounds") for t in texts), texts
' "$work/$name.svg"
	row=$(sed -n "s/^\($name\.[^ ]*\) .*/\1/p" "$work/out" | head -n 1)
	"$STASIS" bench "$row" --rounds 2 --passes 1 --compare "$work/$name.json" >"$work/out" 2>"$work/err"
	ok "$name: compares" grep -Eq "^$row  *(faster|slower|smaller|larger|no difference seen) " "$work/out"
done
# Rounds are a row's in all; each pass has a share of them, in a process of its own.
"$STASIS" bench vsock.in.4k console.out --rounds 5 --passes 3 --json "$work/passes.json" >"$work/out" 2>"$work/err"
ok "passes: run" is $? 0
ok "… all rows in each, before any in the next" is "$(cat "$work/err")" \
	"$(for pass in "2 rounds, pass 1" "2 rounds, pass 2" "1 round, pass 3"; do
		printf '%s of 3\n' "vsock.in.4k: $pass" "console.out: $pass"
	done)"
ok "… and each round says of which it is" is "$(grep -o '"pass":\[[^]]*\]' "$work/passes.json" | tr '\n' ' ')" \
	'"pass":[1,1,2,2,3] "pass":[1,1,2,2,3] '
ok "… the table has the sum" is "$(grep -Ec '^(vsock\.in\.4k|console\.out) .*  5  ' "$work/out")" 2
"$STASIS" bench console.out --rounds 2 >"$work/out" 2>"$work/err"
ok "there are no more passes than rounds" is "$(cat "$work/err")" \
	"$(printf 'console.out: 1 round, pass %s of 2\n' 1 2)"
"$STASIS" bench console.out --passes 0 >"$work/out" 2>"$work/err"
ok "no pass at all is a usage error" is $? 125
ok "… that says what is accepted" grep -qx 'stasis: --passes 0: not 1 to 1000' "$work/err"
"$STASIS" bench console.out --rounds 1 --cpus 8190,8191 >"$work/out" 2>"$work/err"
ok "CPUs that are not there are a usage error" is $? 125
ok "… that says which there are" grep -q -- "--cpus 8190,8191: host CPU 8190 is not one that stasis may use here: $(
	sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)$" "$work/err"
# What a benchmark's own process may not do costs its row, and no other: root may lack it, too.
if grep -q '__[at]san_init' "$STASIS"; then
	skip "jitter: without capabilities" "a sanitizer locks nothing, and says that it did"
elif [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	for lack in "sys_nice pin lock no.fifo" "ipc_lock pin fifo no.lock"; do
		read -r cap rows <<<"$lack"
		setpriv --bounding-set "-$cap" --inh-caps "-$cap" bash -c 'ulimit -r 0; ulimit -l 8192; exec "$@"' - \
			"$STASIS" bench jitter --rounds 1 >"$work/out" 2>"$work/err"
		ok "jitter: runs without $cap" is $? 0
		ok "… its rows" is "$(sed -n 's/^jitter\.\([^ :]*\): 1 round.*/\1/p' "$work/err" | tr '\n' ' ')" "none $rows "
		ok "… and each other says what it takes" \
			is "$(grep -c "^jitter\..*: left out, .* is refused: that takes ulimit .* CAP_${cap^^}$" "$work/err")" 4
	done
else
	skip "jitter: without capabilities" "needs root and setpriv"
fi
# The peer's rows are there, or said to be missing.
mkdir "$work/no-programs"
PATH=$work/no-programs "$STASIS" bench block.8.guest --rounds 1 >"$work/out" 2>"$work/err"
ok "without QEMU a guest's reads have nothing beside them" is $? 77
ok "… and it is named" grep -q '^stasis: block\.8\.guest: there is no ' "$work/err"
"$STASIS" bench block.8.guest --rounds 1 >"$work/out" 2>"$work/err"
if grep -Eq ': (left out|there is no )' "$work/err"; then
	skip "with it they have" "$(tail -n 1 "$work/err")"
else
	ok "with it they have" grep -Eq '^block\.8\.guest .* /s  *1  ' "$work/out"
fi
# Ended in the middle, by a signal to it alone.
ln -s "$(realpath "$(dirname "$STASIS")"/../../bench/*/bench-stasis)" "$work/measured"
# await_start: until a machine of bench-start's has begun.
await_start() {
	for _ in $(seq 1200); do
		[ -n "$(find "$work" -path '*stasis-bench-*/said')" ] && break
		sleep 0.1
	done
}
"$STASIS" bench console.out start --rounds 500 --passes 5 --stasis "$work/measured" --json "$work/ended.json" \
	>"$work/out" 2>"$work/err" &
pid=$!
await_start
kill $pid
wait $pid
ended=$?
if grep -q 'left out' "$work/err"; then
	skip "a signal ends it" "$(tail -n 1 "$work/err")"
else
	ok "a signal ends it" is $ended 143
fi
ok "… the samples that there were are shown" grep -Eq '^console\.out .*  [1-9]00  ' "$work/out"
ok "… and what it has started" is "$(pgrep -f "^$work/measured" | wc -l)" 0
"$STASIS" bench console.out --rounds 1 --compare "$work/ended.json" >"$work/out" 2>"$work/err"
ok "… the samples can be read" grep -Eq '^console\.out  *(faster|slower|no difference seen) ' "$work/out"
ok "nothing is left behind" is "$(find "$work" -name 'stasis-bench-*' | wc -l)" 0
# ^\ is such a signal, too; and one that can't be handled ends as much, but not the files.
for name in QUIT KILL; do
	"$STASIS" bench start --rounds 500 --stasis "$work/measured" >"$work/out" 2>"$work/err" &
	pid=$!
	await_start
	kill -$name $pid
	{ wait $pid; } 2>>"$work/err"
	for _ in $(seq 50); do
		[ -z "$(pgrep -f "$work/(measured|stasis-bench-)")" ] && break
		sleep 0.1
	done
	ok "SIG$name ends what it has started" is "$(pgrep -f "$work/(measured|stasis-bench-)" | wc -l)" 0
	rm -rf "$work"/stasis-bench-*
done
# A program that fails ends the run, too; one that can't run any more doesn't.
"$STASIS" bench console.out start --rounds 2 --stasis /bin/false --json "$work/failed.json" >"$work/out" 2>"$work/err"
ok "a failure ends it" is $? 125
ok "… is told last" grep -qx 'stasis: bench-start ended with status 125; why is said above' <(tail -n 1 "$work/err")
ok "… and why it was, above" grep -q '^stasis: /bin/false: it ended ' "$work/err"
ok "… and what was measured before is written" grep -q '"name":"console.out"' "$work/failed.json"
# One that fails in its second pass, in a row's first round there or in the next.
cat >"$work/fails" <<FAILS
#!/bin/sh
echo >>"$work/starts"
[ "\$(wc -l <"$work/starts")" -gt "\$(cat "$work/most")" ] && exit 1
exec "$work/measured" "\$@"
FAILS
chmod +x "$work/fails"
for most in 2 3; do
	rm -f "$work/starts"
	echo $most >"$work/most"
	"$STASIS" bench start.1 --rounds 4 --passes 2 --stasis "$work/fails" --json "$work/part.json" >"$work/out" 2>"$work/err"
	ok "a program that fails after $most rounds ends it, too" is $? 125
	ok "… and what it had measured is shown" grep -Eq "^start\.1 .*  $most  " "$work/out"
	ok "… and written" is "$(jq '.rows[] | select(.name == "start.1") | .product | length' "$work/part.json")" $most
done
programs=$(realpath "$(dirname "$STASIS")/../../bench")
mkdir "$work/late"
cp "$programs/stasis-bench" "$work/late"
cat >"$work/late/bench-late" <<LATE
#!/bin/sh
case \$* in *"--pass 1/"*) exec "$programs/bench-console" "\$@" ;; esac
exit 77
LATE
chmod +x "$work/late/bench-late"
"$work/late/stasis-bench" --rounds 4 --passes 4 >"$work/out" 2>"$work/err"
ok "one that stops in a later pass does not" is $? 0
ok "… and is told of once" is "$(grep "left out" "$work/err")" "late: left out from pass 2 on: its rows are of 1 pass"
ok "nothing is left behind" is "$(find "$work" -name 'stasis-bench-*' | wc -l)" 0

# One that a signal ends is no other thing than that.
printf '#!/bin/sh\nkill -SEGV $$\n' >"$work/late/bench-late"
"$work/late/stasis-bench" >"$work/out" 2>"$work/err"
ok "one that crashes is a failure" is $? 125
ok "… that names the signal" is "$(cat "$work/err")" "stasis: bench-late was ended by signal 11 (Segmentation fault)"

# Beside a performance run: refused, or its turn comes; and none comes beside a benchmark.
"$STASIS" run --no-lab --perf --name first -m 64M -k "$payloads/payload-halt.elf" -i "$work/empty" \
	</dev/null >"$work/out" 2>"$work/first" &
pid=$!
# held NAME: until it is on the list.
held() {
	for _ in $(seq 100); do
		"$STASIS" locks --json | grep -q "\"name\": \"$1\"" && return
		[ -d /proc/$pid ] || return
		sleep 0.1
	done
}
held first
if ! [ -d /proc/$pid ]; then
	skip "a performance run keeps it off" "$(tail -n 1 "$work/first")"
elif [ "$(nproc)" -gt 3 ]; then
	skip "a performance run keeps it off" "this host has CPUs for both"
	kill $pid
else
	"$STASIS" bench console.out --rounds 1 >"$work/out" 2>"$work/err"
	ok "a performance run keeps it off" is $? 77
	ok "… and is named" grep -q "held by VM first (pid $pid," "$work/err"
	begin=$SECONDS
	"$STASIS" bench console.out --rounds 1 --wait=1s >"$work/out" 2>"$work/err"
	ok "… as with --wait=1s, after it" [ $? = 77 -a $((SECONDS - begin)) -ge 1 ]
	"$STASIS" bench console.out --rounds 1 --cpus 1,0 --wait >"$work/out" 2>"$work/err" &
	waiter=$!
	sleep 1
	kill $waiter
	wait $waiter
	ok "a signal ends the wait" is $? 143
	"$STASIS" bench console.out start.1 --rounds 1 --wait --json "$work/waited.json" >"$work/out" 2>"$work/err" &
	waiter=$!
	for _ in $(seq 100); do
		grep -q '^waiting: ' "$work/err" && break
		sleep 0.1
	done
	ok "one that waits says for whom" grep -q '^waiting: .*held by VM first' "$work/err"
	kill $pid
	wait $waiter
	ok "… and runs when that has ended" is $? 0
	ok "… what it measured says so" grep -q '"locks":"shared"' "$work/waited.json"
	"$STASIS" bench console.out --rounds 100000 >"$work/out" 2>"$work/err" &
	pid=$!
	held bench
	"$STASIS" run --no-lab --perf -m 64M -k "$payloads/payload-poweroff.elf" -i "$work/empty" \
		</dev/null >"$work/out2" 2>"$work/second"
	ok "a benchmark keeps performance runs off" is $? 77
	ok "… by name" grep -q "held by VM bench (pid $pid," "$work/second"
	"$STASIS" run --no-lab -m 64M -k "$payloads/payload-poweroff.elf" -i "$work/empty" \
		</dev/null >"$work/out2" 2>"$work/second"
	ok "… and no ordinary ones" is $? 0
	kill $pid
	wait $pid
fi
"$STASIS" bench console.out --wait=soon >"$work/out" 2>"$work/err"
ok "a wait that is none is a usage error" is $? 125
ok "… that says what is accepted" grep -q -- '--wait soon: not a duration such as' "$work/err"
STASIS_LOCK_DIR=/proc/none "$STASIS" bench console.out --rounds 1 --json "$work/none.json" >"$work/out" 2>"$work/err"
ok "without a place for locks it goes on" is $? 0
ok "… and says so" grep -q '"locks":"none: ' "$work/none.json"
ok "… in the first line, too" grep -q '^load .* CPUs without locks, ' "$work/out"

"$STASIS" bench no-such >"$work/out" 2>"$work/err"
ok "an unknown one is a usage error" is $? 125
"$STASIS" bench exit --compare /dev/null --rounds 1 >"$work/out" 2>"$work/err"
ok "a file that is no result is a usage error" is $? 125
end
