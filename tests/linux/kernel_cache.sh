#!/bin/bash
# stasis kernel build over a source tree that takes no time to build: what is refused, what is found
# again, and that half a build never looks whole. kernel_build.sh builds a real one.
. "$(dirname "$0")/lib.sh"

export XDG_CACHE_HOME=$work/cache
kernels=$XDG_CACHE_HOME/stasis/kernels
export BUILDS=$work/builds # a line for each time that the compilers were at work
: >"$BUILDS"

# A source tree that make can configure and build. It knows every option but CONFIG_UNHEARD_OF.
# $BREAK makes its build fail, $SLOW makes it take that many seconds, $DROP is
# more that it doesn't know.
tree=$work/tree
mkdir -p "$tree/kernel/sched"
touch "$tree/Kconfig"
cat >"$tree/Makefile" <<'MAKEFILE'
tinyconfig:
	@echo CONFIG_TINY=y >$(O)/.config
olddefconfig:
	@grep -v 'UNHEARD$(DROP)' $(O)/.config >$(O)/new && mv $(O)/new $(O)/.config
kernelrelease:
	@echo 6.99.0$(LOCALVERSION)
bzImage Image:
	@echo build >>$(BUILDS)
	@echo "  CC      first.o"
	@if [ -n "$(SLOW)" ]; then sleep $(SLOW); fi
	@if [ -n "$(BREAK)" ]; then echo "first.c: it is broken"; exit 1; fi
	@mkdir -p $(O)/arch/$(ARCH)/boot
	@echo image >$(O)/arch/$(ARCH)/boot/$@
vmlinux:
	@echo elf >$(O)/vmlinux && echo map >$(O)/System.map
MAKEFILE

# build OPTIONS...: the kernel's folder in $out, the status in $status, what is said in $work/err.
build() {
	out=$("$STASIS" kernel build --source "$tree" "$@" 2>"$work/err")
	status=$?
}

# refused DESCRIPTION REASON OPTIONS...
refused() {
	local what=$1 reason=$2
	shift 2
	build "$@"
	equal "$what: refused" 1 "$status"
	matches "$what: the reason is said" "*$reason*" "$(cat "$work/err")"
}

# Folders of the cache, whole ones and others.
folders() {
	find "$kernels" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' 2>/dev/null | sort
}

build
[ $status != 77 ] || skip_all "$(tail -n 1 "$work/err")"
equal "a kernel is built" 0 "$status"
first=$out
check "its folder has what -k, crash and drgn want" \
	test -s "$first/vmlinux" -a -s "$first/System.map" -a -s "$first/.config" -a -s "$first/build.json"
equal "the folder is all that is left" "${first##*/}" "$(folders)"
equal "it is listed as built, with its architecture" "${first##*/} $guest_arch built" \
	"$("$STASIS" kernel list | awk '$3 == "built" { print $1, $2, $3 }')"
matches "its release ends in the key" "6.99.0-stasis-????????" "${first##*/}"

before=$(date +%s%N)
build
took=$((($(date +%s%N) - before) / 1000000))
equal "the same again is found" "0 $first" "$status $out"
equal "and not built" 1 "$(wc -l <"$BUILDS")"
echo "# found in $took ms"
check "within two seconds" test "$took" -lt 2000

echo CONFIG_MORE=y >"$work/more.config"
build --fragment "$work/more.config"
equal "a fragment makes another kernel" 0 "$status"
check "with that line" grep -qx CONFIG_MORE=y "$out/.config"
check "in another folder" test "$out" != "$first"
touch -d '2020-01-01' "$tree/Kconfig"
build
equal "a changed source makes another kernel" 3 "$(wc -l <"$BUILDS")"
kept=$(folders)

echo CONFIG_UNHEARD_OF=y >"$work/unheard.config"
refused "an option that the source doesn't know" CONFIG_UNHEARD_OF=y --fragment "$work/unheard.config"
printf '# words\nCONFIG_A=y\nMORE=y\n' >"$work/line.config"
refused "a line that sets nothing" "line 3 is not CONFIG_NAME=value: MORE=y" \
	--fragment "$work/line.config"
refused "a fragment that is not there" "not a file" --fragment "$work/none.config"
refused "a folder that is no source" "not the top of a kernel source tree" --source "$work"
refused "a source that is not there" "no such folder or file" --source "$work/none"
refused "a tar file of something else" "not a tar file of a kernel source" --source "$work/more.config"
refused "an unknown option" "not an option" --speed
refused "an unknown architecture" "amd64 or arm64" --arch vax
refused "no jobs" "a number from 1" --jobs 0
refused "schedulers of a source that has none" "no tools/sched_ext" --schedulers
echo CONFIG_PLAIN=y >"$work/plain.config"
export DROP='\|SCHED_CLASS_EXT'
: >"$BUILDS"
refused "schedulers for a kernel without sched_ext" "has no sched_ext" --schedulers \
	--fragment "$work/plain.config"
equal "which is said before it is built" 0 "$(wc -l <"$BUILDS")"
unset DROP
kept=$(folders)

echo CONFIG_BROKEN=y >"$work/broken.config"
BREAK=1 build --fragment "$work/broken.config"
equal "a build that breaks: the status" 1 "$status"
matches "its last words, and where all of them are" "*it is broken*failed; all of it is in *" \
	"$(cat "$work/err")"
check "the log is there" grep -q "it is broken" "$(sed -n 's/.*all of it is in //p' "$work/err")"
equal "nothing of it is left" "$kept" "$(folders)"

# Two at once.
: >"$BUILDS"
echo CONFIG_TWO=y >"$work/two.config"
SLOW=3 "$STASIS" kernel build --source "$tree" --fragment "$work/two.config" >"$work/other" 2>&1 &
other=$!
for _ in $(seq 100); do
	[ ! -s "$BUILDS" ] || break
	sleep 0.1
done
build --fragment "$work/two.config"
wait $other
equal "two builders at once: both end well" "0 0" "$? $status"
equal "with the same kernel" "$(tail -n 1 "$work/other")" "$out"
equal "that was built once" 1 "$(wc -l <"$BUILDS")"
matches "the second says that it waits" "*waiting for it*" "$(cat "$work/err")"

# A builder that is ended, and one that is killed.
kept=$(folders)
# start: a build that takes long, in $builder; waits until make is at work in it.
start() {
	: >"$BUILDS"
	echo "CONFIG_ENDED=y" >"$work/ended.config"
	# The number tells its sleep from all others.
	SLOW=60.$$ "$STASIS" kernel build --source "$tree" --fragment "$work/ended.config" \
		>/dev/null 2>"$work/err" &
	builder=$!
	for _ in $(seq 100); do
		! pgrep -f "sleep 60.$$" >/dev/null || break
		sleep 0.1
	done
}
start
kill -TERM $builder
wait $builder
equal "ended by SIGTERM: the status" 143 $?
check "its compilers are ended as well" test -z "$(pgrep -f "sleep 60.$$")"
equal "and nothing is left" "$kept" "$(folders)"
start
kill -KILL $builder
wait $builder
matches "killed: what is left doesn't look whole" "*.build-??????*" "$(folders)"
equal "and isn't listed" "$(grep -vc '^\.' <<<"$kept")" "$("$STASIS" kernel list | awk '$3 == "built"' | wc -l)"
# Its make goes on, in a process group of its own, and holds the lock.
kill -- "-$(ps -o pgid= -p "$(pgrep -f "sleep 60.$$" | head -n 1)" | tr -d ' ')"
build
equal "the next builder finds what is whole" 0 "$status"
echo CONFIG_AFTER=y >"$work/after.config"
build --fragment "$work/after.config"
check "and clears what the killed one has left" test -z "$(folders | grep '^\.')"
end
