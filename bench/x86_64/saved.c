/* Runs the measured program with a planted guest, and tells it by its control socket to save it.
 * Main thread. */
#include "saved.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "guest.h"
#include "planted.h"

#define IN_USE_MIB "64"
#define LIMIT_NS   60000000000u

static char **argv_of(const struct bench *b, const char *socket, struct error *err)
{
	char **plain = child_product_argv(b, NULL, 1, "bench-halt.elf", err);
	char *words[32];
	size_t n = 0;

	if (!plain)
		return NULL;
	for (; plain[n]; n++)
		words[n] = plain[n];
	free(plain); /* its words are taken */
	words[n++] = strdup("--qmp");
	words[n++] = strdup(socket);
	return child_argv(words, n, err);
}

int saved_start(const struct bench *b, const char *work, struct saved *ret_saved, struct error *err)
{
	CLEANUP_FREE char *socket = text_format("%s/qmp", work);
	struct saved s = {.client.fd = -1};
	char **argv = socket ? argv_of(b, socket, err) : NULL;
	int r = argv ? 0 : error_set_shortage(err, -ENOMEM, "making a command line");

	if (r == 0) {
		setenv(PLANTED_MIB, IN_USE_MIB, 1);
		r = child_start(b, argv, -1, &s.child, err);
		unsetenv(PLANTED_MIB);
	}
	child_argv_free(argv);
	if (r < 0)
		return r;
	r = qmp_client_open(socket, LIMIT_NS, &s.client, err);
	if (r < 0) {
		saved_end(&s);
		return error_set(err, r, "asking the machine to be saved");
	}
	*ret_saved = s;
	return 0;
}

int saved_tell(struct saved *s, const char *command, struct error *err)
{
	return qmp_client_execute(&s->client, command, NULL, NULL, err);
}

int saved_save(struct saved *s, const char *folder, struct error *err)
{
	return qmp_client_execute(&s->client, "x-stasis-snapshot",
				  json_pack("{s:s, s:b}", "path", folder, "keep-running", 1), NULL,
				  err);
}

void saved_end(struct saved *s)
{
	if (!s->child.pid)
		return;
	qmp_client_close(&s->client);
	child_end(&s->child, SIGTERM);
	s->child.pid = 0;
}

int saved_bytes(const char *folder, uint64_t *ret_bytes, struct error *err)
{
	CLEANUP_FREE char *path = text_format("%s/memory", folder);
	struct stat st;

	if (!path || stat(path, &st) < 0)
		return error_set(err, path ? -errno : -ENOMEM, "looking at a snapshot");
	*ret_bytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

int saved_release(const char *folder, struct error *err)
{
	const off_t at = GUEST_AREA_GPA + offsetof(struct guest_area, answer);
	CLEANUP_FREE char *path = text_format("%s/memory", folder);
	CLEANUP_FD int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	const uint32_t yes = 1;

	if (fd < 0 || pwrite(fd, &yes, sizeof(yes), at) != (ssize_t)sizeof(yes))
		return error_set(err, path ? -errno : -ENOMEM, "writing to a snapshot");
	return 0;
}
