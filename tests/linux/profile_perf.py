#!/usr/bin/env python3
"""Holds profiles of stasis against those that perf made in the same guest: the kernel functions of one task.

usage: profile_perf.py TASK KALLSYMS PERF-SCRIPT... -- FOLDED...
PERF-SCRIPT: perf script -F comm,ip. Prints a line for each check, "ok WHAT" or "no WHAT: why", and a table.

perf's cpu-clock is a timer's interrupt, so a sample comes only where interrupts are on; what ran while they were off is
told as the place where they came on again. stasis stops a vCPU wherever it is. So samples within an interrupt are left
out on both sides, and the workload does its work with interrupts on. Names that stand for one address are one function."""
import bisect
import collections
import math
import sys

TOP = 10
INTERRUPTS = ("asm_sysvec_", "asm_common_interrupt", "el1h_64_irq")

task, kallsyms = sys.argv[1:3]
perf_files = sys.argv[3 : sys.argv.index("--")]
stasis_files = sys.argv[sys.argv.index("--") + 1 :]

symbols = []
for line in open(kallsyms, encoding="utf-8"):
    words = line.split()
    if words[1] in "tTwW":
        symbols.append((int(words[0], 16), words[2]))
symbols.sort()
addresses = [at for at, _ in symbols]

first_of = {}  # the name that stands for all that share an address with it
for i, (at, name) in enumerate(symbols):
    before = symbols[i - 1][1] if i and addresses[i - 1] == at else name
    first_of.setdefault(name, first_of.get(before, before))


def function_at(address):
    name = symbols[bisect.bisect_right(addresses, address) - 1][1]
    return first_of.get(name, name)


def stacks_of_perf(path):
    """Of the task, innermost frame first: addresses."""
    stack = None
    for line in open(path, encoding="utf-8", errors="replace"):
        words = line.split()
        if not line.strip():
            if stack:
                yield stack, 1
            stack = None
        elif not line[0].isspace():
            stack = [] if words[0] == task else None
        elif stack is not None:
            stack.append(int(words[0], 16))
    if stack:
        yield stack, 1


def names_of_perf(path):
    for stack, weight in stacks_of_perf(path):
        if stack[0] >> 63:
            yield [function_at(address) for address in stack if address >> 63], weight


def names_of_stasis(path):
    for line in open(path, encoding="utf-8"):
        frames, weight = line.rsplit(" ", 1)
        frames = frames.split(";")
        if frames[0] == task and not frames[-1].startswith("0x"):
            yield [first_of.get(name, name) for name in reversed(frames[1:])], int(weight)


class Profile:
    def __init__(self, stacks):
        self.count = collections.Counter()
        for names, weight in stacks:
            if not any(name.startswith(INTERRUPTS) for name in names):
                self.count[names[0]] += weight
        self.n = sum(self.count.values())

    def __add__(self, other):
        both = Profile([])
        both.count = self.count + other.count
        both.n = self.n + other.n
        return both

    def share(self, name):
        return self.count[name] / self.n if self.n else 0

    def top(self):
        return [name for name, _ in self.count.most_common(TOP)]


perf = [Profile(names_of_perf(path)) for path in perf_files]
stasis = [Profile(names_of_stasis(path)) for path in stasis_files]
all_perf, all_stasis = sum(perf[1:], perf[0]), sum(stasis[1:], stasis[0])
union = sorted({name for p in perf + [all_stasis] for name in p.top()}, key=lambda name: -all_perf.share(name))


def distance(a, b):
    """Of their functions of the top: what share of the time would have to go elsewhere."""
    return sum(abs(a.share(name) - b.share(name)) for name in union) / 2


def chance(a, b):
    """What it is on average of two samplings of the same: each share's error is a binomial's."""
    both = a + b
    return sum(math.sqrt(2 / math.pi * both.share(name) * (1 - both.share(name)) * (1 / a.n + 1 / b.n)) for name in union) / 2


def check(what, wrong):
    print(f"no {what}: {'; '.join(wrong[:3])}" if wrong else f"ok {what}")


print("samples: perf", *(p.n for p in perf), "stasis", *(p.n for p in stasis))
for name in union:
    print(f"{name:<36}", *(f"{100 * p.share(name):5.1f}" for p in perf), "  ", *(f"{100 * p.share(name):5.1f}" for p in stasis))
check("each has samples enough", [] if min(p.n for p in perf + stasis) >= 150 else ["less than 150"])

# Both sides' sums, which chance moves less than single runs, within what single runs of perf differ by; but where those
# happen to be alike, not closer than chance allows.
pairs = [distance(a, b) for i, a in enumerate(perf) for b in perf[:i]]
ours, limit = distance(all_perf, all_stasis), max(pairs)
allowed = max(limit, 2 * chance(all_perf, all_stasis))
print(f"distance: perf from perf {', '.join(f'{100 * d:.1f}' for d in pairs)} %, stasis from perf {100 * ours:.1f} %, "
      f"by chance {100 * chance(all_perf, all_stasis):.1f} %")
check("functions have the size that perf says", [] if ours <= allowed else [f"{100 * ours:.1f} %, allowed are {100 * allowed:.1f}"])

# Of two functions that every run of perf has in one order, and whose difference is more than chance: three standard errors.
wrong, ordered = [], 0
for more in union:
    for less in union:
        difference = all_perf.share(more) - all_perf.share(less)
        sure = 3 * math.sqrt((all_perf.share(more) + all_perf.share(less)) * (1 / all_perf.n + 1 / all_stasis.n))
        if all(p.share(more) > p.share(less) for p in perf) and difference > sure:
            ordered += 1
            if all_stasis.share(more) <= all_stasis.share(less):
                wrong.append(f"{more} is not above {less}")
print(f"{ordered} pairs have a sure order")
check("they have the order that perf says", wrong)
check("at least twenty pairs have one", [] if ordered >= 20 else [str(ordered)])
shared = set(all_perf.top()) & set(all_stasis.top())
check(f"the top tens share {len(shared)} of ten", [] if len(shared) >= 7 else sorted(set(all_perf.top()) ^ shared))
