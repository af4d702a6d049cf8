/* Computes the same chain in vector and floating-point registers again and again, and says if it
 * ever came out otherwise. usage: vectors SECONDS; 1: it did. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VECTORS 8
#define ROUNDS	200000

typedef uint32_t vector __attribute__((vector_size(16)));

static volatile uint32_t seed = 12345; /* so that no compiler knows the end */

static uint64_t chain(void)
{
	vector v[VECTORS];
	double d[4] = {1.25, 2.5, 5.0, 10.0};
	uint64_t sum = 0, bits;

	for (uint32_t i = 0; i < VECTORS; i++)
		v[i] = (vector){seed + i, seed ^ i, seed * (i + 1), i};
	/* Few enough that all stay in registers from one round to the next. */
	for (uint32_t n = 0; n < ROUNDS; n++) {
		for (uint32_t i = 0; i < VECTORS; i++)
			v[i] = (v[i] ^ (v[i] >> 15)) * 0x2c1b3c6du + v[(i + 1) % VECTORS];
		for (unsigned i = 0; i < 4; i++)
			d[i] = d[i] * 0.999 + (double)(n & 7);
	}
	for (unsigned i = 0; i < VECTORS; i++)
		for (unsigned k = 0; k < 4; k++)
			sum = sum * 31 + v[i][k];
	for (unsigned i = 0; i < 4; i++) {
		memcpy(&bits, &d[i], sizeof(bits));
		sum = sum * 31 + bits;
	}
	return sum;
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 1);
	uint64_t right = chain(), is;

	do {
		is = chain();
		if (is != right) {
			printf("vectors: %#llx, not %#llx\n", (unsigned long long)is,
			       (unsigned long long)right);
			return 1;
		}
	} while (time(NULL) < end);
	return 0;
}
