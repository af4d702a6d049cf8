#!/bin/bash
# Each store to a watched counter is told once, whatever instruction does it: a guest of our own counts,
# one up by each store, and says how far it came.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/arm64_counts.sh"
begin
counts "str and stp" 0xffffff8042800008 1
counts "exclusive stores, of two vCPUs in the end" 0xffffff8042800040 2
counts "exclusive pairs of 16 bytes" 0xffffff80428000c0 4
counts "atomics" 0xffffff8042800080 3
end
