#!/bin/bash
# Cores of real kernels, as the tools see them that people have: gdb, drgn and crash. The stock kernel
# without a symbol file, and the one that stasis kernel build makes, with its vmlinux.
# BUILT_KERNEL: that kernel's folder, if not the newest in the cache that has a vmlinux.
# CRASH: a crash that knows 6.12 (8.0.5 and later); scripts/setup test unpacks one.
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
begin
cache=${REAL_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/stasis}

load='
	for i in 1 2; do
		(while :; do :; done) &
	done
	# Uptime begins with the vCPUs, as --freeze-at does.
	now=0
	while [ "$now" -lt "$1" ]; do
		sleep 1
		read -r now rest </proc/uptime
		now=${now%.*}
	done
	echo went on
'
report() { python3 -c "import json, sys; r = json.load(open(sys.argv[1])); print($1)" "$work/report"; }

# ---- a dump by the control socket, in whatever lab is warm ----------------------------------------

"$STASIS" run "$LAB" -q -c 2 --name asked --timeout 300s -- sh -c "$load" - 600 \
	</dev/null >"$work/asked.out" 2>"$work/err" &
pid=$!
for _ in $(seq 120); do
	"$STASIS" dump asked "$work/asked.json" 2>"$work/err" &&
		grep -q '"symbol"' "$work/asked.json" && break
	sleep 1
done
check "stasis dump asks a running kernel: symbols" grep -q '"symbol": "[a-z_]*+0x' "$work/asked.json"
equal "... of both vCPUs" 2 "$(grep -c '"instruction_pointer"' "$work/asked.json")"
if [ "$LAB" = --lab ]; then
	"$STASIS" vmcore asked "$work/refused" 2>"$work/err"
	equal "a core out of a lab needs --vmcore at the start" 125 $?
	matches "... as it says" "*--vmcore*" "$(cat "$work/err")"
fi
kill $pid
wait $pid
"$STASIS" lab stop >/dev/null 2>&1
lab_started=

# ---- the stock kernel ------------------------------------------------------------------------------

# freeze_run NAME OPTIONS...: a core and a dump of four busy vCPUs, NAME and NAME.json.
freeze_run() {
	local name=$1
	shift
	stasis_run -q -c 4 -m 512M --freeze-at 90s --dump "$work/$name.json" --vmcore "$work/$name" \
		--report "$work/report" --timeout 400s "$@" -- sh -c "$load" - 95
	equal "$name: the guest goes on to its end" "0 went on" "$status $out"
	equal "$name: the report names the files" "$work/$name.json $work/$name" \
		"$(report "r['freezes'][0].get('dump'), r['freezes'][0].get('vmcore')" | tr -d "(',)")"
	echo "# $name: frozen $(report "r['freezes'][0]['frozen_ns'] // 10**6") ms," \
		"$(du -m "$work/$name" | cut -f 1) of 512 MiB"
	check "$name: no larger than what was in use" [ "$(du -m "$work/$name" | cut -f 1)" -lt 400 ]
}
gdb=gdb
[ "$guest_arch" = "$(uname -m)" ] || gdb=gdb-multiarch
threads() {
	if ! command -v $gdb >/dev/null; then
		skip "$1: gdb shows every vCPU as a thread" "$gdb is not installed"
		return
	fi
	equal "$1: gdb shows every vCPU as a thread" "1 2 3 4" \
		"$($gdb -nx -batch -ex 'info threads' -c "$work/$1" 2>/dev/null |
			sed -n 's/.* LWP \([0-9]\) .*/\1/p' | sort | xargs)"
}
# drgn's library is Python's: the tool's own interpreter has it.
# Debian's python3, which its package is for, whatever else comes first on the PATH.
python3=/usr/bin/python3
has_drgn() { $python3 -c 'import drgn' 2>/dev/null; }

freeze_run stock
threads stock
if has_drgn; then
	check "stock: drgn opens it, and its two ways to memory agree" \
		$python3 "$here/vmcore_drgn.py" "$work/stock"
else
	skip "stock: drgn" "python3-drgn is not installed"
fi

# ---- a kernel with its vmlinux ---------------------------------------------------------------------

# For another architecture it is a matter of a quarter of an hour.
if [ "$guest_arch" != "$(uname -m)" ]; then
	skip "a kernel with its vmlinux" "it would have to be built for $guest_arch"
	end
fi
crash=${CRASH:-$(ls "$cache"/tools/crash/crash 2>/dev/null)}
if ! find_scx_kernel; then
	skip "a kernel with its vmlinux" "$missing"
	end
fi
kernel=$scx_kernel
freeze_run built -k "$kernel"
threads built
if command -v gdb >/dev/null; then
	# KERNELOFFSET of VMCOREINFO is where the kernel was moved to.
	offset=$(strings -n 12 "$work/built" | sed -n 's/^KERNELOFFSET=//p;T;q')
	matches "built: gdb reads the kernel's own banner through the core" "*Linux version 6.*" \
		"$(gdb -nx -batch -c "$work/built" -ex "add-symbol-file $kernel/vmlinux -o 0x$offset" \
			-ex 'printf "%s\n", linux_banner' 2>/dev/null)"
fi
if has_drgn; then
	check "built: drgn goes through its tasks" \
		$python3 "$here/vmcore_drgn.py" "$work/built" "$kernel/vmlinux"
	grep '^tasks' "$work/check.log" | sed 's/^/# /'
else
	skip "built: drgn goes through its tasks" "python3-drgn is not installed"
fi
if [ -n "$crash" ]; then
	printf '%s\n' 'bt -a' ps runq quit >"$work/commands"
	timeout 120 "$crash" -s -i "$work/commands" "$kernel/vmlinux" "$work/built" \
		</dev/null >"$work/crash.out" 2>&1
	check "built: crash opens it" grep -q '^PID: ' "$work/crash.out"
	equal "... bt -a has every vCPU" "0 1 2 3" \
		"$(sed -n 's/^PID: .* CPU: \([0-9]*\) .*/\1/p' "$work/crash.out" | xargs)"
	check "... and its stack" [ "$(grep -c '^ #0 ' "$work/crash.out")" = 4 ]
	check "... ps has the load" grep -q 'RU .* sh$\|RU .* busybox$' "$work/crash.out"
	equal "... runq has every CPU" 4 "$(grep -c '^CPU [0-9]* RUNQUEUE' "$work/crash.out")"
else
	skip "built: crash opens it" "no crash that knows such kernels; scripts/setup test unpacks one"
fi
end
