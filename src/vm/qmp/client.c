/* One command, one answer. */
#include "vm/qmp/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "vm/qmp/socket.h"

/* Takes more bytes, or says why there are none. */
static int receive(struct qmp_client *c, uint64_t end_ns)
{
	struct pollfd fd = {.fd = c->fd, .events = POLLIN};
	uint64_t now = now_ns();
	ssize_t n;

	if (now >= end_ns)
		return -ETIMEDOUT;
	if (poll(&fd, 1, (int)((end_ns - now) / 1000000) + 1) < 0)
		return errno == EINTR ? 0 : -errno;
	if (!fd.revents)
		return -ETIMEDOUT;
	n = recv(c->fd, c->in, sizeof(c->in), MSG_DONTWAIT);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	c->in_at = 0;
	c->in_len = (size_t)n;
	return n == 0 ? -ECONNRESET : 0;
}

/* The next object that the server sends. */
static int next_object(struct qmp_client *c, uint64_t end_ns, json_t **ret_object)
{
	enum qmp_split_found found = QMP_SPLIT_NOTHING;
	json_t *object;
	size_t used;

	while (found == QMP_SPLIT_NOTHING) {
		int r = c->in_at < c->in_len ? 0 : receive(c, end_ns);

		if (r < 0)
			return r;
		found = qmp_split_feed(&c->split, c->in + c->in_at, c->in_len - c->in_at, &used);
		c->in_at += used;
	}
	if (found != QMP_SPLIT_VALUE)
		return found == QMP_SPLIT_NO_MEMORY ? -ENOMEM : -EPROTO;
	object = json_loadb(c->split.text, c->split.len, 0, NULL);
	if (!object)
		return -EPROTO;
	*ret_object = object;
	return 0;
}

static int send_command(struct qmp_client *c, const char *command, json_t *arguments)
{
	json_t *json = json_pack("{s:s}", "execute", command);
	CLEANUP_FREE char *text = NULL;
	ssize_t n;

	if (arguments)
		json_object_set_new(json, "arguments", arguments);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (!text)
		return -ENOMEM;
	/* Small, and the first to wait for: it fits, or there is something wrong. */
	n = send(c->fd, text, strlen(text), MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return (size_t)n < strlen(text) ? -ETIMEDOUT : 0;
}

/* The answer, behind whatever events. */
static int answer(struct qmp_client *c, uint64_t end_ns, json_t **ret_return, struct error *err)
{
	json_t *object, *error;
	int r;

	do {
		r = next_object(c, end_ns, &object);
		if (r < 0)
			return r;
		error = json_object_get(object, "error");
		if (error) {
			const char *desc = json_string_value(json_object_get(error, "desc"));

			r = error_usage(err, "%s", desc ?: "the command failed");
		} else if (json_object_get(object, "return") && ret_return) {
			*ret_return = json_incref(json_object_get(object, "return"));
		}
		if (!error && !json_object_get(object, "return"))
			r = 1;
		json_decref(object);
	} while (r == 1);
	return r;
}

int qmp_client_execute(struct qmp_client *c, const char *command, json_t *arguments,
		       json_t **ret_return, struct error *err)
{
	uint64_t end_ns = now_ns() + c->limit_ns;
	struct error refused = {0};
	int r = send_command(c, command, arguments);

	if (r == 0)
		r = answer(c, end_ns, ret_return, &refused);
	if (refused.code < 0) {
		*err = refused;
		return r;
	}
	return r < 0 ? error_set(err, r, "asking the VM for %s", command) : 0;
}

int qmp_client_open(const char *path, uint64_t limit_ns, struct qmp_client *ret_client,
		    struct error *err)
{
	struct qmp_client *c = ret_client;
	json_t *greeting;
	int fd, r = qmp_socket_connect(path, limit_ns, &fd, err);

	if (r < 0)
		return r;
	*c = (struct qmp_client){.fd = fd, .limit_ns = limit_ns};
	qmp_split_init(&c->split, QMP_ANSWER_MAX);
	r = next_object(c, now_ns() + limit_ns, &greeting);
	if (r == 0) {
		r = json_object_get(greeting, "QMP") ? 0 : -EPROTO;
		json_decref(greeting);
	}
	if (r < 0)
		error_set(err, r, "greeting the VM");
	else
		r = qmp_client_execute(c, "qmp_capabilities", NULL, NULL, err);
	if (r < 0)
		qmp_client_close(c);
	return r;
}

void qmp_client_close(struct qmp_client *c)
{
	fd_close(&c->fd);
	qmp_split_done(&c->split);
}
