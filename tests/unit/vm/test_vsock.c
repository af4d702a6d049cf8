/* The host's services that a guest connects to: there, absent, busy. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "vm/vsock.h"

#define PORT  5
#define TRIES 100

static char folder[] = "/tmp/stasis-vsock-XXXXXX";
static char path[sizeof(folder) + sizeof(RUNTIME_VSOCK) + 8];

static int set_up(void **state)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/" RUNTIME_VSOCK "_%d", folder, PORT);
	memcpy(a.sun_path, path, sizeof(path));
	assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	*state = (void *)(intptr_t)fd;
	return 0;
}

static int tear_down(void **state)
{
	close((int)(intptr_t)*state);
	unlink(path);
	rmdir(folder);
	return 0;
}

static long waits(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_nvcsw;
}

/* The control thread asks on a guest's behalf, as often as the guest likes. */
static void a_service_that_is_busy_makes_nobody_wait(void **state)
{
	struct vm_vsock s = {.folder = folder};
	int listener = (int)(intptr_t)*state, fd, r = 0;
	int held[TRIES], n = 0;
	long before;

	assert_int_equal(vm_vsock_connect(&s, PORT + 1), -ENOENT);
	assert_int_equal(vm_vsock_connect(&s, PORT), -ECONNREFUSED);
	assert_int_equal(listen(listener, 1), 0);
	while (n < TRIES && (r = vm_vsock_connect(&s, PORT)) >= 0)
		held[n++] = r;
	assert_int_equal(r, -EAGAIN);
	assert_in_range(n, 1, 3);
	assert_true(fcntl(held[0], F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(held[0], F_GETFD) & FD_CLOEXEC);
	before = waits();
	for (unsigned i = 0; i < TRIES; i++)
		assert_int_equal(vm_vsock_connect(&s, PORT), -EAGAIN);
	assert_in_range(waits() - before, 0, TRIES / 2);
	/* It takes one: there is room for another. */
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	close(fd);
	fd = vm_vsock_connect(&s, PORT);
	assert_true(fd >= 0);
	close(fd);
	while (n > 0)
		close(held[--n]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_service_that_is_busy_makes_nobody_wait, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
