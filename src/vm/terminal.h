/* The terminal that stasis was started from: raw while the guest's console has it. */
#ifndef STASIS_VM_TERMINAL_H
#define STASIS_VM_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

struct terminal {
	struct termios saved;
	int fd;
	bool raw;
};

/* Makes fd raw if it is a terminal. terminal_restore undoes it; also on a zeroed one. */
void terminal_make_raw(struct terminal *t, int fd);
void terminal_restore(struct terminal *t);
/* Columns and rows; false if fd is no terminal. */
bool terminal_size(int fd, uint16_t *ret_cols, uint16_t *ret_rows);

#endif
