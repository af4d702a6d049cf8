#!/usr/bin/env python3
"""Opens a core with drgn: vmcore_drgn.py CORE [VMLINUX]. Exits 0 if what it reads makes sense."""
import sys

import drgn

core = sys.argv[1]
prog = drgn.Program()
prog.set_core_dump(core)
assert prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL, "drgn takes it for no kernel's"


def program_headers(path):
    """(vaddr, paddr, size) of each PT_LOAD."""
    import struct

    with open(path, "rb") as f:
        f.seek(54)
        entry, count = struct.unpack("<HH", f.read(4))
        for i in range(count):
            f.seek(64 + i * entry)
            kind, _, _, vaddr, paddr, size = struct.unpack("<IIQQQQ", f.read(40))
            if kind == 1:
                yield vaddr, paddr, size


loads = list(program_headers(core))
assert len(loads) >= 2 and all(vaddr for vaddr, _, _ in loads), loads
for vaddr, paddr, size in loads:
    # Through the kernel's page tables or a segment's own address, and by physical address.
    for at in (0x100000, size // 2, size - 4096):
        if at < size:
            assert prog.read(vaddr + at, 64) == prog.read(paddr + at, 64, True), hex(vaddr + at)
if len(sys.argv) > 2:
    from drgn.helpers.linux.cpumask import for_each_online_cpu
    from drgn.helpers.linux.pid import for_each_task

    try:
        prog.load_debug_info([sys.argv[2]])
    except drgn.MissingDebugInfoError as e:
        print(e)
    names = [t.comm.string_().decode() for t in for_each_task(prog)]
    print("tasks:", len(names), " ".join(sorted(set(names))[:12]))
    assert len(names) > 10 and "sh" in names, names
    assert list(for_each_online_cpu(prog)) == [0, 1, 2, 3]
