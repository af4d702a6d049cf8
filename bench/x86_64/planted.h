/* How a benchmark tells the measured program, by its environment, to run a guest whose memory from
 * GUEST_SET_GPA on holds so many MiB. */
#ifndef STASIS_BENCH_PLANTED_H
#define STASIS_BENCH_PLANTED_H

#define PLANTED_MIB "STASIS_BENCH_PLANT"

#endif
