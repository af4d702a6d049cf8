/* The end: leftover processes, file systems, the machine. One thread: init's. */
#ifndef STASIS_GUEST_INIT_POWER_H
#define STASIS_GUEST_INIT_POWER_H

/* Ends all other processes, writes out and unmounts what isn't setup_mounts'. */
void power_settle(void);
/* Turns the machine off. */
void power_off(void) __attribute__((noreturn));

#endif
