#!/bin/bash
# The guest sees the shape that was typed: lscpu, sysfs, on AMD-style and Intel-style leaves.
. "$(dirname "$0")/lib.sh"
begin

# What the guest says of itself, one line per CPU, out of sysfs: the truth that lscpu reads too.
cat >"$work/shape.sh" <<'GUEST'
nproc
cd /sys/devices/system/cpu
for c in cpu[0-9]*; do
	l3=$(for i in $c/cache/index*; do [ "$(cat $i/level)" = 3 ] && cat $i/shared_cpu_list; done)
	l2=$(for i in $c/cache/index*; do [ "$(cat $i/level)" = 2 ] && cat $i/shared_cpu_list; done)
	echo "$c core=$(cat $c/topology/core_cpus_list) package=$(cat $c/topology/package_cpus_list) l2=$l2 l3=$l3"
done
dmesg | grep -iE 'firmware bug|\[bug\]|topology|mismatch|apic.*(conflict|error|fail)' | grep -vE 'CPU topo:' >&2
exit 0
GUEST

# The leaves that x86 guests can have, of either vendor; a device tree has no vendor.
vendors="amd intel"
[ "$guest_arch" = x86_64 ] || vendors=$guest_arch

# shape VENDOR SPEC EXPECTED-FILE
shape() {
	local vendor=(--cpu-vendor "$1")
	[ "$guest_arch" = x86_64 ] || vendor=()
	stasis_run "${vendor[@]}" -t "$2" -m 1G --include "$work/shape.sh:/shape.sh" -- sh /shape.sh
	equal "$1 $2: CPUs, cores, packages and caches" "$(cat "$3")" "$out"
	equal "$1 $2: the kernel finds nothing wrong with it" "" "$(cat "$work/err")"
}

# 1n2l2c2t: vCPUs are numbered thread first, then core, then cache.
{
	echo 8
	for c in 0 1 2 3 4 5 6 7; do
		core=$((c / 2 * 2))
		llc=$((c / 4 * 4))
		echo "cpu$c core=$core-$((core + 1)) package=$llc-$((llc + 3)) l2=$core-$((core + 1)) l3=$llc-$((llc + 3))"
	done
} >"$work/want-1n2l2c2t"
{
	echo 6
	for c in 0 1 2 3 4 5; do
		llc=$((c / 3 * 3))
		echo "cpu$c core=$c package=$llc-$((llc + 2)) l2=$c l3=$llc-$((llc + 2))"
	done
} >"$work/want-2n2l3c1t"

for vendor in $vendors; do
	shape $vendor 1n2l2c2t "$work/want-1n2l2c2t"
	shape $vendor 2n2l3c1t "$work/want-2n2l3c1t"
done

# Explicit nodes, one without CPUs, and every tool's opinion of them. A device tree has no latencies.
figures=,latency=250,bandwidth=20000
[ "$guest_arch" = x86_64 ] || figures=
if shape_tools; then
	agrees "three nodes" "0 11" -t 2c2t --numa-node llcs=2,mem=1G --numa-node llcs=1,mem=1G \
		--numa-node "llcs=0,mem=1G$figures" --numa-distance 0,2=40 --
else
	skip "three nodes, by the guest's tools" "package $missing is not installed"
fi

lscpu=$(tool lscpu)
if [ -n "$lscpu" ]; then
	stasis_run -t 1n2l2c2t -- "$lscpu"
	# says LABEL VALUE: the line of that label has exactly that value.
	says() { equal "lscpu: $1 $2" "$2" "$(sed -n "s/^ *$1: *//p" <<<"$out")"; }
	says 'CPU(s)' 8
	says 'Thread(s) per core' 2
	# Without DMI it calls them clusters: sockets would be the firmware's word.
	group=socket groups='Socket(s)'
	[ "$guest_arch" = x86_64 ] || group=cluster groups='Cluster(s)'
	says "Core(s) per $group" 2
	says "$groups" 2
	says 'NUMA node(s)' 1
	matches "lscpu: 2 L3 instances" '*L3*: *(2 instances)*' "$out"
	matches "lscpu: 4 L2 instances" '*L2*: *(4 instances)*' "$out"
else
	skip "lscpu" "util-linux is not installed"
fi
end
