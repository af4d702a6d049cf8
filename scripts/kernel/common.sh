# shellcheck shell=bash disable=SC2034
# What fetch-kernel and build-kernel share; sourced by them, by bash.

say() { echo "kernel: $*" >&2; }
die() {
	echo "kernel: $*" >&2
	exit 1
}
# lacks TEXT...: this machine has not what it takes; the exit status for that.
lacks() {
	echo "kernel: $*" >&2
	exit 77
}

stasis_cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/stasis
kernels=$stasis_cache/kernels

# as_root COMMAND...: fails quietly where there is no way to be root.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo -n "$@" 2>/dev/null
	fi
}

# Reads the package lists; waits for another apt that does. Old lists may do, so it never fails.
apt_update() {
	local try
	say "reading the package lists"
	for try in 1 2 3 4 5; do
		[ "$try" = 1 ] || sleep 5
		as_root apt-get -qq update && return
	done
	say "the package lists can't be read anew (no root or no network); going on with what is there"
}

# apt_download FOLDER PACKAGE[:ARCH]: the .deb into the folder, apt's words into FOLDER/log. A private
# folder is no place for apt's own user: root downloads as root.
apt_download() {
	(cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$2" >log 2>&1)
}
