/* Lines on the control port. One thread: init's. */
#include "guest/init/control.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "guest/init/klog.h"

#define NS_PER_MS 1000000u

void control_init(struct control *c, int fd)
{
	c->fd = fd;
	c->gone = false;
	c->out_len = 0;
	c->line_len = 0;
	c->overlong = false;
}

void control_flush(struct control *c)
{
	while (!c->gone && c->out_len > 0) {
		ssize_t n = write(c->fd, c->out, c->out_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN && errno != ENOMEM)
			c->gone = true;
		if (n <= 0)
			break;
		memmove(c->out, c->out + n, c->out_len - (size_t)n);
		c->out_len -= (size_t)n;
	}
}

void control_send(struct control *c, const char *fmt, ...)
{
	char line[SESSION_LINE_MAX + 1];
	size_t len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, SESSION_LINE_MAX, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	len = MIN((size_t)n, SESSION_LINE_MAX - 1u);
	for (size_t i = 0; i < len; i++)
		if (line[i] == '\n')
			line[i] = '?';
	line[len++] = '\n';
	if (len > sizeof(c->out) - c->out_len) {
		klog("the host takes no lines; one is lost");
		return;
	}
	memcpy(c->out + c->out_len, line, len);
	c->out_len += len;
	control_flush(c);
}

static void take(struct control *c, const char *data, size_t len,
		 void (*heard)(void *arg, char *line), void *arg)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != '\n') {
			if (c->line_len + 1 < sizeof(c->line))
				c->line[c->line_len++] = data[i];
			else
				c->overlong = true;
			continue;
		}
		c->line[c->line_len] = '\0';
		if (!c->overlong)
			heard(arg, c->line);
		c->line_len = 0;
		c->overlong = false;
	}
}

void control_read(struct control *c, void (*heard)(void *arg, char *line), void *arg)
{
	/* A host that talks without end doesn't stop the streams. */
	for (unsigned turns = 8; turns > 0 && !c->gone; turns--) {
		char data[SESSION_LINE_MAX];
		ssize_t n = read(c->fd, data, sizeof(data));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
			c->gone = true;
		else
			take(c, data, (size_t)n, heard, arg);
	}
}

void control_sync(struct control *c, int timeout_ms)
{
	uint64_t end_ns = now_ns() + (uint64_t)timeout_ms * NS_PER_MS;

	for (;;) {
		struct pollfd fd = {.fd = c->fd, .events = POLLOUT};
		uint64_t now = now_ns();

		control_flush(c);
		if (c->out_len == 0 || c->gone || now >= end_ns)
			return;
		if (poll(&fd, 1, (int)((end_ns - now) / NS_PER_MS) + 1) > 0 &&
		    (fd.revents & (POLLHUP | POLLERR | POLLNVAL)))
			c->gone = true;
	}
}
