/* What the guest of hash chains has to come to: usage: chain-host CPUS ROUNDS */
#include <stdio.h>
#include <stdlib.h>

#include "chain.h"

int main(int argc, char **argv)
{
	unsigned long rounds;

	if (argc != 3)
		return 2;
	rounds = strtoul(argv[2], NULL, 10);
	for (unsigned long cpu = 0; cpu < strtoul(argv[1], NULL, 10); cpu++)
		printf("%016llx\n", chain(cpu, rounds));
	return 0;
}
