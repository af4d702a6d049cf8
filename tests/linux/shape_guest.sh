# What a guest's own tools say of its shape, in sections; agree.py reads it. Runs in the guest.
# usage: shape_guest.sh TARGET-CPU...: CPUs that the virtio devices' interrupts are moved to.
section() { echo "== $1"; }
cpus=$(ls -d /sys/devices/system/cpu/cpu[0-9]* | sed 's/.*cpu//' | sort -n)
section uptime
cut -d' ' -f1 /proc/uptime
section late
late=0
for c in $cpus; do
	online=/sys/devices/system/cpu/cpu$c/online
	[ -e "$online" ] && [ "$(cat "$online")" = 0 ] || continue
	echo 1 >"$online" && late=$((late + 1))
done
echo "$late"
section uptime-after
cut -d' ' -f1 /proc/uptime
section nproc
nproc
section pinned
for c in $cpus; do
	taskset -c "$c" sh -c 'cut -d" " -f39 /proc/self/stat'
done
section lscpu-caches
lscpu -B -C=NAME,ONE-SIZE,WAYS,TYPE,LEVEL,COHERENCY-SIZE
section lscpu-cpus
lscpu -e=CPU,NODE,SOCKET,CORE,CACHE
section numactl
numactl -H
section lstopo
lstopo-no-graphics --of console --no-io
# The id by which each CPU knows itself: x86's own word; arm64's is what PSCI started it by.
section ids
for c in $cpus; do
	reg=/sys/devices/system/cpu/cpu$c/of_node/reg
	if [ -e "$reg" ]; then
		echo "$c $(od -An -v -tx1 "$reg" | tr -d ' \n')"
	else
		echo "$c $(taskset -c "$c" cpuid -1 -i -r | sed -n 's/^ *0x0000000b 0x00:.*edx=0x//p')"
	fi
done
section initiators
for node in /sys/devices/system/node/node[0-9]*; do
	[ -d "$node/access0/initiators" ] || continue
	echo "${node##*/node}" "$(cat "$node/access0/initiators/read_latency")" \
		"$(cat "$node/access0/initiators/read_bandwidth")"
done
section interrupts
# count IRQ CPU: how many came there.
count() {
	awk -v irq="$1:" -v cpu="CPU$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == cpu) at = i + 1 }
		$1 == irq { print $at }' /proc/interrupts
}
for irq in $(sed -n 's/^ *\([0-9]*\):.*virtio.*/\1/p' /proc/interrupts); do
	name=$(sed -n "s/^ *$irq:.*\(virtio[0-9]*\).*/\1/p" /proc/interrupts)
	# A socket device has nothing to say by itself.
	case $(readlink "/sys/bus/virtio/devices/$name/driver") in *vsock*) continue ;; esac
	for c in "$@"; do
		before=$(count "$irq" "$c")
		echo "$c" >"/proc/irq/$irq/smp_affinity_list"
		# Something for each device to say: the random one, and the console that this goes to.
		dd if=/dev/hwrng of=/dev/null bs=64 count=8 2>/dev/null
		echo "moved $irq"
		sleep 0.3
		dd if=/dev/hwrng of=/dev/null bs=64 count=8 2>/dev/null
		echo "moved $irq"
		sleep 0.3
		# Where the emulator stands still, what was said is served later.
		for _ in $(seq 30); do
			[ "$(count "$irq" "$c")" -gt "${before:-0}" ] && break
			sleep 0.3
		done
		echo "irq $irq cpu $c $before $(count "$irq" "$c")"
	done
done
section dmesg
dmesg | grep -iE 'warn|bug:|firmware|apic|topo|srat|slit|hmat|cache|stall|lockup'
section end
