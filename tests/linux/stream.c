/* Known bytes over TCP, both ways, each of them checked: net.sh's program, on the host and in the
 * guest.
 *
 * stream serve ADDRESS MIB: port 7001 echoes a line, 7002 sends so much, 7003 takes it; until its
 * input ends stream receive|send ADDRESS MIB: the other side. "N bytes", or what was wrong, and 1;
 * 2: cut short
 *
 * The host ends every connection: the user-mode network may lose it where the guest does. Of what
 * it takes it says "." for each MiB: passt of 2023 ends a connection in which only the guest sends
 * after 24 seconds. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ECHO_PORT = 7001, SOURCE_PORT, SINK_PORT, PORTS = 3 };
enum { OK, WRONG, SHORT };

#define WORDS 8192u
#define MIB   (1u << 20)

/* Word n of the stream: any that is lost, twice there or in another's place is seen. */
static uint64_t word(uint64_t n)
{
	n = (n + 1) * 0x9e3779b97f4a7c15;
	n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
	return n ^ n >> 27;
}

static size_t read_whole(int fd, void *data, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, (char *)data + have, len - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	return have;
}

static int write_whole(int fd, const void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = send(fd, (const char *)data + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n < 0 ? 0 : (size_t)n;
	}
	return 0;
}

static int give(int fd, uint64_t bytes)
{
	uint64_t block[WORDS];

	for (uint64_t n = 0; n < bytes / 8; n += WORDS) {
		for (size_t i = 0; i < WORDS; i++)
			block[i] = word(n + i);
		if (write_whole(fd, block, sizeof(block)) < 0)
			return SHORT;
	}
	return OK;
}

/* says: what is found, a line. All is taken even so: who leaves bytes unread resets the connection,
 * and its answer with it. */
static int take(int fd, uint64_t bytes, bool receipts, char says[64])
{
	uint64_t block[WORDS], wrong = UINT64_MAX;

	for (uint64_t n = 0; n < bytes / 8; n += WORDS) {
		size_t have = read_whole(fd, block, sizeof(block));

		for (size_t i = 0; i < have / 8 && wrong == UINT64_MAX; i++)
			if (block[i] != word(n + i))
				wrong = (n + i) * 8;
		if (have < sizeof(block)) {
			snprintf(says, 64, "only %llu bytes\n", (unsigned long long)(n * 8 + have));
			return SHORT;
		}
		if (receipts && (n + WORDS) % (MIB / 8) == 0)
			(void)write_whole(fd, ".", 1);
	}
	if (wrong != UINT64_MAX) {
		snprintf(says, 64, "wrong at byte %llu\n", (unsigned long long)wrong);
		return WRONG;
	}
	snprintf(says, 64, "%llu bytes\n", (unsigned long long)bytes);
	return OK;
}

/* ---- the host's side ---------------------------------------------------------------------- */

static void echo(int fd)
{
	char line[256];
	size_t len = 0;

	while (len < sizeof(line) && read(fd, line + len, 1) == 1)
		if (line[len++] == '\n')
			break;
	(void)write_whole(fd, line, len);
}

static _Noreturn void serve_one(int fd, int port, uint64_t bytes)
{
	char says[64];

	if (port == ECHO_PORT) {
		echo(fd);
	} else if (port == SOURCE_PORT) {
		(void)give(fd, bytes);
	} else {
		if (take(fd, bytes, true, says) != OK)
			fprintf(stderr, "stream: %s", says);
		(void)write_whole(fd, says, strlen(says));
	}
	exit(0);
}

static int listen_at(struct sockaddr_in *at, int port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	at->sin_port = htons((uint16_t)port);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)at, sizeof(*at)) < 0 || listen(fd, 128) < 0) {
		fprintf(stderr, "stream: port %d: %s\n", port, strerror(errno));
		exit(1);
	}
	return fd;
}

static int serve(struct sockaddr_in *at, uint64_t bytes)
{
	struct pollfd fds[PORTS + 1];

	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < PORTS; i++)
		fds[i] = (struct pollfd){.fd = listen_at(at, ECHO_PORT + i), .events = POLLIN};
	fds[PORTS] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	puts("ready");
	fflush(stdout);
	while (poll(fds, PORTS + 1, -1) >= 0 || errno == EINTR) {
		if (fds[PORTS].revents)
			return 0;
		for (int i = 0; i < PORTS; i++) {
			int fd = fds[i].revents ? accept(fds[i].fd, NULL, NULL) : -1;

			if (fd >= 0 && fork() == 0)
				serve_one(fd, ECHO_PORT + i, bytes);
			if (fd >= 0)
				close(fd);
		}
	}
	return 1;
}

/* ---- the guest's ---------------------------------------------------------------------------- */

static int transfer(struct sockaddr_in *to, int port, uint64_t bytes)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), result;
	char says[64] = "";

	to->sin_port = htons((uint16_t)port);
	if (fd < 0 || connect(fd, (struct sockaddr *)to, sizeof(*to)) < 0) {
		perror("stream");
		return SHORT;
	}
	if (port == SOURCE_PORT) {
		result = take(fd, bytes, false, says);
	} else {
		char want[64];

		/* Cut short is who got no answer, too. */
		result = give(fd, bytes);
		if (result != OK)
			perror("stream: send");
		while (read_whole(fd, says, 1) == 1 && says[0] == '.')
			;
		says[1 + read_whole(fd, says + 1, sizeof(says) - 2)] = '\0';
		snprintf(want, sizeof(want), "%llu bytes\n", (unsigned long long)bytes);
		if (result == OK && strcmp(says, want) != 0)
			result = says[0] == 'w' ? WRONG : SHORT;
	}
	fputs(says, stdout);
	return result;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	uint64_t bytes = argc == 4 ? strtoull(argv[3], NULL, 10) << 20 : 0;

	if (bytes == 0 || inet_pton(AF_INET, argv[2], &at.sin_addr) != 1) {
		fputs("usage: stream serve|receive|send ADDRESS MIB\n", stderr);
		return 1;
	}
	if (!strcmp(argv[1], "serve"))
		return serve(&at, bytes);
	return transfer(&at, !strcmp(argv[1], "receive") ? SOURCE_PORT : SINK_PORT, bytes);
}
