# What the tests on real kernels share: TAP output, checks, one warm lab for all of a file's runs.
# Sourced by bash. $STASIS is the program; $LAB is "--lab" or "--no-lab", chosen by begin(). With
# GUEST_ARCH (aarch64) in the environment, guests are of that architecture, in its lab.

set -u
# The lab's emulator has a fault that docs/decisions.md knows ("The lab's KVM"): a vCPU dies of a triple fault, or
# the whole machine locks up or ends. What met it is tried once more, never twice: a run by stasis_run, else the
# file. On a real KVM each of these is a failure like any other.
emulator_fault() { # emulator_fault FILE...: its first line in them; false if there is none
	grep -h -m 1 -e 'triple fault' -e 'machine is locked up' -e "the lab's machine ended" "$@" /dev/null | head -n 1 | grep .
}
if [ -z "${LINUX_TRY:-}" ]; then
	said=$(mktemp)
	for LINUX_TRY in 1 2; do
		export LINUX_TRY
		"$0" "$@" >"$said"
		status=$?
		[ $status != 0 ] && [ $LINUX_TRY = 1 ] && grep -q '^# in the lab$' "$said" && fault=$(emulator_fault "$said") || break
		echo "# try 1: ${fault#\# }"
	done
	cat "$said"
	rm -f "$said"
	exit $status
fi
STASIS=${STASIS:?path of the stasis program}
tap_count=0
tap_failed=0
work=$(mktemp -d)
lab_started=
# Folders, a lab and processes of this file's own: what others run here is none of our business.
export XDG_RUNTIME_DIR=$work/run
mkdir -p "$XDG_RUNTIME_DIR"

# The guests' architecture, by both of its names; and a stasis that asks for it.
guest_arch=${GUEST_ARCH:-$(uname -m)}
case $guest_arch in
aarch64) debian_arch=arm64 ;;
*) debian_arch=amd64 ;;
esac
foreign_tools=
# The program that knows the shapes of the guests' architecture.
shape_stasis=("$STASIS")
if [ "$guest_arch" != "$(uname -m)" ]; then
	shape_stasis=("qemu-$guest_arch-static" "${ARM64_BUILD:?build tree for arm64}/src/cli/stasis")
	foreign_tools=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/stasis/$guest_arch/tools
	cat >"$work/stasis" <<WRAPPER
#!/bin/bash
command=\$1
shift
case \$command in
run) set -- --arch $guest_arch "\$@" ;;
lab) set -- "\$@" --arch $guest_arch ;;
esac
export LD_LIBRARY_PATH=$foreign_tools/usr/lib/$guest_arch-linux-gnu:$foreign_tools/lib/$guest_arch-linux-gnu
exec "$STASIS" "\$command" "\$@"
WRAPPER
	chmod +x "$work/stasis"
	STASIS=$work/stasis
fi

finish() {
	if [ $? != 0 ] && [ "${LAB:-}" = --lab ]; then
		echo "# in the lab"
		find "$work" -type f -size -16M -print0 | LC_ALL=C sort -z | xargs -0 cat | emulator_fault - | sed 's/^/# /'
	fi
	[ -n "$lab_started" ] && "$STASIS" lab stop >/dev/null 2>&1
	rm -rf "$work"
}
trap finish EXIT

# skip_all REASON: nothing here can run on this machine.
skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

# pass DESCRIPTION; fail DESCRIPTION [DIAGNOSTIC...]
pass() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1"
}

fail() {
	tap_count=$((tap_count + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_count - $1"
	shift
	printf '%s\n' "$@" | sed 's/^/# /'
}

# skip DESCRIPTION REASON
skip() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

# tool NAME: the path of a program that guests can run, or nothing: this host's, or the one of the
# guests' architecture that scripts/setup has unpacked.
tool() {
	if [ -z "$foreign_tools" ]; then
		command -v "$1"
	elif [ -x "$foreign_tools/usr/bin/$1" ]; then
		echo "$foreign_tools/usr/bin/$1"
	fi
}

# check DESCRIPTION CONDITION-COMMAND...: passes if the command succeeds.
check() {
	local what=$1
	shift
	if "$@" >"$work/check.log" 2>&1; then
		pass "$what"
	else
		fail "$what" "failed: $*" "$(tail -n 5 "$work/check.log")"
	fi
}

# equal DESCRIPTION WANT GOT
equal() {
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1" "want: $2" "got:  $3" "stderr: $(tail -n 15 "$work/err" 2>/dev/null)"
	fi
}

# matches DESCRIPTION PATTERN GOT: a bash pattern.
matches() {
	# shellcheck disable=SC2053
	if [[ $3 == $2 ]]; then
		pass "$1"
	else
		fail "$1" "want: $2" "got:  $3" "stderr: $(tail -n 15 "$work/err" 2>/dev/null)"
	fi
}

# stasis_run OPTIONS... -- COMMAND...: output in $out, standard error in $work/err, status in $status.
stasis_run() {
	local try fault
	for try in 1 2; do
		out=$("$STASIS" run "$LAB" "$@" 2>"$work/err")
		status=$?
		[ "$LAB" = --lab ] && [ $status -ge 125 ] && fault=$(emulator_fault "$work/err") || return 0
		echo "# try $try: $fault"
	done
}

# shape_tools: the options that bring the tools of shape_guest.sh into the guest, in $tools; false if
# one is not installed, with its package in $missing.
shape_tools() {
	local pair path cpuid=cpuid:cpuid
	[ "$guest_arch" = x86_64 ] || cpuid=
	tools=(--include "$(dirname "$0")/shape_guest.sh:/shape_guest.sh")
	for pair in lscpu:util-linux taskset:util-linux numactl:numactl lstopo-no-graphics:hwloc-nox $cpuid; do
		missing=${pair#*:}
		path=$(tool "${pair%:*}") && [ -n "$path" ] || return 1
		tools+=(--include "$path:/usr/bin/${pair%:*}")
	done
}

# agrees NAME TARGETS SHAPE-OPTIONS... -- MORE-OPTIONS...: boots the shape, and holds what its tools
# say against stasis topology; the virtio devices' interrupts are moved to the CPUs TARGETS.
agrees() {
	local name=$1 targets=$2 shape=() line
	shift 2
	while [ "$1" != -- ]; do
		shape+=("$1")
		shift
	done
	shift
	"${shape_stasis[@]}" topology "${shape[@]}" --json >"$work/topology.json" || return
	# shellcheck disable=SC2086
	stasis_run "${shape[@]}" "$@" "${tools[@]}" -- sh /shape_guest.sh $targets
	equal "$name: the guest ends 0" 0 "$status"
	printf '%s\n' "$out" >"$work/guest.out"
	# shellcheck disable=SC2086
	while read -r line; do
		case $line in
		ok\ *) pass "$name: ${line#ok }" ;;
		*) fail "$name: ${line#no }" ;;
		esac
	done < <("$(dirname "$0")/agree.py" "$work/topology.json" "$work/guest.out" $targets)
	echo "# $name: init reached $(section uptime) s after boot;" \
		"$(section late) CPUs one by one by $(section uptime-after) s"
}

# section NAME: its first line in the guest's output.
section() { sed -n "/^== $1\$/{n;p;q}" "$work/guest.out"; }

# choose_lab: finds out where Linux runs: sets $LAB.
choose_lab() {
	if ! "$STASIS" kernel list 2>/dev/null | grep -q "^6.12.*cloud-$debian_arch "; then
		skip_all "no Debian 6.12 kernel here; stasis kernel get --arch $debian_arch fetches one"
	fi
	if [ "$guest_arch" = "$(uname -m)" ] && "$STASIS" doctor --json | grep -A1 '"stock kernels"' | grep -q '"ok": true'; then
		LAB=--no-lab
		return
	fi
	LAB=--lab
	command -v "qemu-system-$guest_arch" >/dev/null ||
		skip_all "this host's KVM can't run a stock kernel, and there is no QEMU for the lab"
}

# begin [LAB-OPTIONS...]: the same, and warms the lab, with these, if it is there.
begin() {
	choose_lab
	[ "$LAB" = --lab ] || return 0
	"$STASIS" lab start "$@" >"$work/lab.log" 2>&1 || {
		# 77: the programs for that architecture are not built here.
		[ $? != 77 ] || [ "$guest_arch" = "$(uname -m)" ] || skip_all "$(head -n 1 "$work/lab.log")"
		cat "$work/lab.log" >&2
		echo "1..1"
		echo "not ok 1 - the lab starts"
		exit 1
	}
	lab_started=yes
}

# find_scx_kernel: sets $scx_kernel, the folder of a kernel with sched_ext for -k, and $scx, the folder
# of the schedulers of that kernel's own source. Built if need be, which takes minutes. False, with
# the reason in $missing, where this machine can't build it.
find_scx_kernel() {
	scx_kernel=$("$STASIS" kernel build --schedulers --arch "$debian_arch" 2>"$work/build.err") || {
		[ $? = 77 ] || {
			sed 's/^/# /' "$work/build.err"
			echo "1..$((tap_count + 1))"
			echo "not ok $((tap_count + 1)) - a kernel with sched_ext is built"
			exit 1
		}
		missing=$(tail -n 1 "$work/build.err")
		return 1
	}
	scx=$scx_kernel/schedulers
}

# scx_kernel: as find_scx_kernel; skips the file where there is none.
scx_kernel() {
	find_scx_kernel || skip_all "no kernel with sched_ext: $missing"
}

# end: the plan, and the exit status.
end() {
	echo "1..$tap_count"
	exit $((tap_failed > 0))
}
