#!/bin/bash
# A BPF scheduler fails, and the guest stops on the very store that records it.
. "$(dirname "$0")/lib.sh"
command -v jq >/dev/null || skip_all "no jq"
begin
[ "$LAB" = --lab ] || "$STASIS" doctor --json | jq -e '.[] | select(.name == "watchpoints").ok' >/dev/null ||
	skip_all "this host's KVM tells of no watched store"
scx_kernel

report() { jq -r "$1" "$work/report.json"; }
dump() { jq -r "$1" "$work/dump.json"; }

# fails NAME KIND QMAP-OPTIONS...: a dozen busy loops, and a scheduler that the kernel ejects.
fails() {
	local name=$1 kind=$2
	shift 2
	stasis_run -k "$scx_kernel" -t 1n2l2c1t --timeout 10m --watch-scx --dump "$work/dump.json" \
		--vmcore "$work/core" --report "$work/report.json" --include "$scx/scx_qmap:/bin/scx_qmap" -- \
		sh -c 'for i in $(seq 12); do (while :; do :; done) & done
			scx_qmap '"$*"' >/tmp/out 2>/tmp/err
			sed -n "s/^EXIT: //p" /tmp/err'
	equal "$name: the guest goes on to a clean end" 0 "$status"
	echo "# $name: $out; $(report '.freezes[0] | "rendezvous \(.rendezvous_ns) ns, frozen \(.frozen_ns) ns"')"
	equal "$name: one hit" "1 over" "$(report '.watches[0] | "\(.hits) \(.state)"')"
	equal "$name: one freeze, for it" watch:scx_exit_kind "$(report '[.freezes[].cause] | join(" ")')"
	equal "$name: nothing is lacking" 0 "$(report '.degraded | length')"
	equal "$name: the value is the kind" "$kind" "$(dump .watch.after)"
	equal "$name: and was none before" 0 "$(dump .watch.before)"
	equal "$name: four vCPUs have registers" 4 "$(dump '[.vcpus[].instruction_pointer | select(length > 0)] | length')"
	equal "$name: and whole stacks" 4 "$(dump '[.vcpus[].stack_complete | select(.)] | length')"
	writer=$(dump .watch.vcpu)
	matches "$name: the writer is in sched_ext's exit path" "scx_ops_exit_kind+*" "$(dump ".vcpus[$writer].symbol")"
	matches "$name: ... called from where it failed" "*scx_*" "$(dump "[.vcpus[$writer].stack[1:][].symbol] | join(\" \")")"
	equal "$name: the scheduler's name" qmap "$(dump .scx.ops)"
	equal "$name: and its kind" "$kind" "$(dump .scx.exit_kind)"
	check "$name: a core was written" test "$(head -c 4 "$work/core" | tail -c 3)" = ELF
}
fails error 1025 -e 300
matches "error: the scheduler's own report" "scx_bpf_error*" "$out"
matches "error: the BPF program is on the stack" "*_qmap_enqueue*" "$(dump "[.vcpus[$writer].stack[].symbol] | join(\" \")")"
fails stall 1026 -t 100
matches "stall: the scheduler's own report" "runnable task stall*" "$out"

# A clean end is no hit; the next scheduler is watched as the first was.
stasis_run -k "$scx_kernel" -t 1n1l2c1t --timeout 10m --watch-scx --dump "$work/none.json" \
	--report "$work/report.json" --include "$scx/scx_simple:/bin/scx_simple" --include "$scx/scx_qmap:/bin/scx_qmap" -- \
	sh -c 'state() { cat /sys/kernel/sched_ext/state; }
		until_is() { while [ "$(state)" != $1 ]; do sleep 0.1; done; }
		for s in scx_simple scx_qmap scx_simple; do
			$s >/dev/null 2>&1 & pid=$!
			until_is enabled; sleep 1; kill -INT $pid; wait $pid; until_is disabled
		done; echo through'
equal "clean: three schedulers come and go" "0 through" "$status $out"
equal "clean: no hit" "0 armed" "$(report '.watches[0] | "\(.hits) \(.state)"')"
check "clean: though their ends were seen" test "$(report '.watches[0].stores')" -ge 3
equal "clean: nothing froze" 0 "$(report '.freezes | length')"
check "clean: no dump" test ! -e "$work/none.json"
end
