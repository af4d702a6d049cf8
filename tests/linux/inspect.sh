#!/bin/bash
# What src/inspect sees in the memory of a stock kernel: QEMU runs one, without an initramfs, until
# it panics for want of a root; its memory is a file. KASLR is on, and no symbol file is used.
. "$(dirname "$0")/lib.sh"
INSPECT_FILE=${INSPECT_FILE:?path of the inspect_file program}

[ "$(uname -m)" = x86_64 ] || skip_all "only x86_64 kernels can be looked into"
command -v qemu-system-x86_64 >/dev/null || skip_all "there is no qemu-system-x86_64 to run a kernel"
read -r release _ _ _ kernel < <("$STASIS" kernel list 2>/dev/null | grep '^6\.12.*cloud-amd64')
[ -r "${kernel:-}" ] ||
	skip_all "no Debian 6.12 kernel here; stasis kernel get fetches one"

# boot CPU-MODEL: runs the kernel until its panic has been printed; false: it never was.
boot() {
	local qemu i
	rm -f "$work/memory" "$work/console"
	qemu-system-x86_64 -accel tcg -cpu "$1" -smp 2 -display none -monitor none -nodefaults \
		-object "memory-backend-file,id=m,size=192M,mem-path=$work/memory,share=on" \
		-m 192M -machine q35,memory-backend=m -serial "file:$work/console" \
		-kernel "$kernel" -append 'console=ttyS0 panic=0' >"$work/err" 2>&1 &
	qemu=$!
	for ((i = 0; i < 300; i++)); do
		grep -q 'end Kernel panic' "$work/console" 2>/dev/null && break
		kill -0 $qemu 2>/dev/null || break
		sleep 0.2
	done
	kill $qemu 2>/dev/null
	wait $qemu 2>/dev/null
	grep -q 'end Kernel panic' "$work/console"
}

# seen KEY: what inspect_file printed for it.
seen() {
	sed -n "s/^$1 //p" "$work/seen"
}

# look CPU-MODEL VA-BITS
look() {
	local offset jiffies_at_boot
	if ! boot "$1"; then
		fail "$1: the kernel runs until its panic" "$(tail -n 5 "$work/console" "$work/err")"
		return
	fi
	check "$1: the kernel is found" \
		sh -c '"$@" >"$0"' "$work/seen" "$INSPECT_FILE" "$work/memory" init_task.comm \
		init_task.pid jiffies_64 'init_task.tasks.next' runqueues.clock \
		'runqueues.curr->pid' 'pcpu_hot.current_task->comm'
	equal "$1: its release" "$release" "$(seen release)"
	equal "$1: bits of an address" "$2" "$(seen va_bits)"
	# The panic says it, after "Kernel Offset:".
	offset=$(sed -n 's/.*Kernel Offset: \(0x[0-9a-f]*\) from.*/\1/p' "$work/console")
	equal "$1: the offset that the panic printed" "$offset" "$(seen kaslr_offset)"
	equal "$1: the first task" "swapper/0 0" "$(seen init_task.comm) $(seen init_task.pid)"
	matches "$1: where jiffies are" "0xffffffff*" "$(seen at:jiffies_64)"
	# Jiffies begin five minutes before 2^32, at 250 a second here; the kernel ran for seconds.
	jiffies_at_boot=$(((1 << 32) - 300 * 250))
	check "$1: jiffies have passed since boot" [ "$(seen jiffies_64)" -gt $jiffies_at_boot ]
	check "$1: … and not many" [ "$(seen jiffies_64)" -lt $((jiffies_at_boot + 60 * 250)) ]
	check "$1: a per-CPU run queue has a clock" [ "$(seen runqueues.clock)" -gt 100000000 ]
	check "$1: … and a task, through a pointer" [ "$(seen 'runqueues.curr->pid')" -lt 10000 ]
	matches "$1: a misspelt symbol" "*jiffies_64*" "$(seen misspelt)"
	# What panics is the kernel's own thread 1, on either CPU.
	check "$1: the task that panicked is some CPU's" grep -qx 'cpu[01].pid 1' "$work/seen"
	check "$1: each CPU has a run queue" [ "$(grep -c 'cpu[01].running' "$work/seen")" = 2 ]
	check "$1: tasks wait" [ "$(seen sleepers)" -ge 20 ]
	equal "$1: ... and all of their stacks have an end" "$(seen sleepers)" "$(seen complete)"
	equal "$1: ... found by ORC" "$(seen frames)" "$(seen by_orc)"
	matches "$1: kthreadd's stack" \
		"__schedule+0x* schedule+0x* kthreadd+0x* ret_from_fork+0x* ret_from_fork_asm+0x* end" \
		"$(seen stack:kthreadd)"
	matches "$1: a rescuer's stack" "*schedule+0x* rescuer_thread+0x* kthread+0x* ret_from_fork+0x*" \
		"$(seen 'stack:kworker\/R[^ ]*' | head -n 1)"
	equal "$1: the kernel lacks nothing" "" "$(seen lacks)"
	echo "# $1: $(seen sleepers) stacks in $(seen stacks_us) us, opened in $(seen open_us) us"
	echo "# $1: found and read in $(seen time_us) us"
}

look qemu64 48
look max 57
end
