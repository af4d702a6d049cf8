#!/bin/bash
# stasis kernel build: Debian's source becomes a kernel with sched_ext and the schedulers of its
# tools/sched_ext, unless they are in the cache; they are booted, run, and ejected.
. "$(dirname "$0")/lib.sh"

begin
scx_kernel
pass "a kernel with sched_ext is here: ${scx_kernel##*/}"

before=$(date +%s%N)
again=$("$STASIS" kernel build --schedulers --arch "$debian_arch" 2>/dev/null)
took=$((($(date +%s%N) - before) / 1000000))
equal "asked for again, it is found" "$scx_kernel" "$again"
echo "# found in $took ms"
check "within two seconds" test "$took" -lt 2000
equal "it is listed, with sched_ext" "${scx_kernel##*/} $guest_arch built sched_ext" \
	"$("$STASIS" kernel list | awk -v path="$scx_kernel" '$NF == path { print $1, $2, $3, $4 }')"
check "it is not what a run takes by default" \
	grep -q '"release": "6.12.*cloud' <("$STASIS" run "$LAB" --dry-run -- true)
for section in .debug_info .BTF; do
	check "vmlinux has $section" grep -qw -- "$section" <(readelf -SW "$scx_kernel/vmlinux")
done

stasis_run -k "$scx_kernel" -t 1n2l2c1t -- uname -r
equal "it boots" "0 ${scx_kernel##*/}" "$status $out"

stasis_run -k "$scx_kernel" -t 1n1l2c1t --timeout 5m --include "$scx/scx_simple:/scx_simple" \
	--include "$scx/scx_qmap:/scx_qmap" --include "$(dirname "$0")/scx_guest.sh:/scx_guest.sh" -- \
	sh /scx_guest.sh
equal "the schedulers' guest ends well" 0 "$status"
# said KEY: what the guest said of it.
said() { sed -n "s/^$1 //p" <<<"$out"; }
equal "no scheduler at first" disabled "$(said before)"
equal "scx_simple is taken" enabled "$(said with)"
equal "and stays" enabled "$(said later)"
equal "it ends when it is told to" "unregistered from user space" "$(said simple)"
equal "and is gone" disabled "$(said after)"
matches "scx_qmap -e is ejected for its error" "scx_bpf_error (test triggering error)" "$(said error)"
matches "scx_qmap -t is ejected for tasks that don't run" "runnable task stall (*" "$(said stall)"
equal "the kernel goes on without it" disabled "$(said last)"
end
