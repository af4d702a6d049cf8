#!/bin/bash
# Shapes of hundreds of CPUs on a stock kernel: CPUs come online one by one, each runs a task, every
# tool sees what was typed, and devices' interrupts reach CPUs with ids past 255. Takes long.
. "$(dirname "$0")/lib.sh"
begin
shape_tools || skip_all "package $missing is not installed"

# In the lab two emulated CPUs carry all of them. A CPU that comes online late makes Linux stop all
# others to write its MTRRs and its PAT, which takes time in proportion to their number: without
# these, 300 CPUs come online in a minute or two instead of half an hour.
late="maxcpus=4 nopat clearcpuid=mtrr"
if [ "$guest_arch" = aarch64 ]; then
	# The watchdog's messages cost an emulated machine more than what they are about.
	late="maxcpus=4 nowatchdog"
	agrees 1n4l16c1t "63 17" -t 1n4l16c1t -m 2G -- -a "$late"
	agrees 2n4l16c2t "127 64" -t 2n4l16c2t -m 2G -- -a "$late"
	agrees 4n16l16c1t "255 128" -t 4n16l16c1t -m 4G -- -a "$late"
	end
	exit
fi

agrees 3n15l10c2t "299 280 171" -t 3n15l10c2t -m 3G -- -a "$late"
agrees 1n14l9c2t "251 140" -t 1n14l9c2t -m 2G -- -a "$late"
for n in 255 256 257; do
	agrees "-c $n" "$((n - 1))" -t "1n1l${n}c1t" -m 2G -- -a "$late"
done
end
