/* Raw mode and window size. Control thread. */
#include "vm/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

void terminal_make_raw(struct terminal *t, int fd)
{
	struct termios raw;

	if (!isatty(fd) || tcgetattr(fd, &t->saved) < 0)
		return;
	raw = t->saved;
	cfmakeraw(&raw);
	t->fd = fd;
	t->raw = tcsetattr(fd, TCSANOW, &raw) == 0;
}

void terminal_restore(struct terminal *t)
{
	if (t->raw)
		tcsetattr(t->fd, TCSANOW, &t->saved);
	t->raw = false;
}

bool terminal_size(int fd, uint16_t *ret_cols, uint16_t *ret_rows)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return false;
	*ret_cols = size.ws_col;
	*ret_rows = size.ws_row;
	return true;
}
