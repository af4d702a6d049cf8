/* Runs in a guest, and says what of a freeze is to be seen from in there: by its clocks, a timer,
 * and TCP. It knows of the freeze by the host's clock, which KVM tells paired with the guest's
 * (ptp_kvm). usage: witness; "ready" on standard output: freeze it now. Ends a while after the
 * thaw, with one figure a line, or 77 where there is no such clock. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S	1000000000ll
#define NAP_NS		100000000ll
#define JUMP_NS		(5 * NS_PER_S)	/* between the host's clock and ours: a freeze */
#define PATIENCE_NS	(90 * NS_PER_S) /* for the freeze */
#define AFTER_NS	(5 * NS_PER_S)	/* how long it goes on after it */
#define READS		2000
#define USER_TIMEOUT_MS 45000 /* of a connection that gets no answer, in the guest's time */
#define MESSAGE		1000

/* PTP devices as clocks: include/linux/posix-timers.h, "CPUCLOCK" and FD_TO_CLOCKID. */
#define CLOCK_OF_FD(fd) ((~(clockid_t)(fd) << 3) | 3)

static clockid_t host_clock;
static _Atomic bool over;

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now(clockid_t id)
{
	struct timespec t;

	must(clock_gettime(id, &t) == 0, "reading a clock");
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static int64_t mono(void)
{
	return now(CLOCK_MONOTONIC);
}

/* ---- how far one clock is ahead of another ----------------------------------------------------
 */

/* Between at and at + width. */
struct ahead {
	int64_t at, width;
};

/* A reading between two of MONOTONIC's narrows the bounds: what is ahead by a constant is ahead by
 * at least reading - end and at most reading - begin. */
static void narrow(struct ahead *a, int64_t begin, int64_t reading, int64_t end)
{
	int64_t low = reading - end, high = reading - begin;

	if (a->width >= 0 && low < a->at)
		low = a->at;
	if (a->width >= 0 && high > a->at + a->width)
		high = a->at + a->width;
	*a = (struct ahead){low, high > low ? high - low : 0};
}

static struct ahead host_ahead(void)
{
	struct ahead a = {.width = -1};

	for (int i = 0; i < READS; i++) {
		int64_t begin = mono(), host = now(host_clock);

		narrow(&a, begin, host, mono());
	}
	return a;
}

/* The stamps of the kernel's messages are sched_clock, in microseconds (Documentation/ABI/testing/
 * dev-kmsg). */
static struct ahead sched_ahead(void)
{
	int out = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	struct ahead a = {.width = -1};

	must(out >= 0, "/dev/kmsg");
	for (int i = 0; i < 50; i++) {
		int in = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		char line[256], mark[32];
		int64_t begin, end;
		long long us = -1;

		must(in >= 0 && lseek(in, 0, SEEK_END) >= 0, "/dev/kmsg");
		snprintf(mark, sizeof(mark), "<7>witness %d\n", i);
		begin = mono();
		must(write(out, mark, strlen(mark)) > 0, "writing to /dev/kmsg");
		end = mono();
		while (us < 0) {
			ssize_t n = read(in, line, sizeof(line) - 1);

			must(n > 0, "reading /dev/kmsg");
			line[n] = '\0';
			if (strstr(line, "witness "))
				sscanf(line, "%*u,%*u,%lld", &us);
		}
		close(in);
		/* It cuts off less than a microsecond. */
		narrow(&a, begin - 1000, us * 1000, end);
		usleep(1000);
	}
	close(out);
	return a;
}

/* ---- a timer ------------------------------------------------------------------------------------
 */

struct naps {
	int64_t frozen; /* how long the one took that the freeze fell into */
	int64_t worst;	/* of the others */
	int64_t shortest;
	unsigned count;
};

/* Timers of 100 ms, one after the other. */
static void *nap(void *arg)
{
	const struct itimerspec once = {.it_value = {.tv_nsec = NAP_NS}};
	struct naps *n = arg;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	must(fd >= 0, "timerfd");
	n->shortest = INT64_MAX;
	while (!atomic_load(&over)) {
		int64_t begin = mono(), host = now(host_clock), took;
		uint64_t fired;

		begin = mono();
		must(timerfd_settime(fd, 0, &once, NULL) == 0, "arming a timer");
		must(read(fd, &fired, sizeof(fired)) == sizeof(fired), "waiting for a timer");
		took = mono() - begin;
		if (now(host_clock) - host - took > JUMP_NS)
			n->frozen = took;
		else if (took > n->worst)
			n->worst = took;
		if (took < n->shortest)
			n->shortest = took;
		n->count++;
	}
	close(fd);
	return NULL;
}

/* ---- TCP ----------------------------------------------------------------------------------------
 */

struct connection {
	int from, to;
	int device; /* for ioctls about the loopback device it runs over */
	_Atomic uint64_t received;
	pthread_t sender, receiver;
};

static void loopback_up(int device, bool up)
{
	struct ifreq request = {.ifr_name = "lo"};

	must(ioctl(device, SIOCGIFFLAGS, &request) == 0, "looking at lo");
	request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
	must(ioctl(device, SIOCSIFFLAGS, &request) == 0, "setting lo");
}

/* On a thread of its own, since it moves into a network of its own. */
static void *connect_to_self(void *arg)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(to);
	struct connection *c = arg;
	int listener;

	must(unshare(CLONE_NEWNET) == 0, "a network of its own");
	c->device = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	must(c->device >= 0, "a socket");
	loopback_up(c->device, true);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	c->from = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(listener >= 0 && c->from >= 0 && bind(listener, (struct sockaddr *)&to, len) == 0 &&
		     getsockname(listener, (struct sockaddr *)&to, &len) == 0 &&
		     listen(listener, 1) == 0 && connect(c->from, (struct sockaddr *)&to, len) == 0,
	     "connecting");
	c->to = accept(listener, NULL, NULL);
	must(c->to >= 0, "accepting");
	close(listener);
	return NULL;
}

static void connection_open(struct connection *c)
{
	unsigned ms = USER_TIMEOUT_MS;
	pthread_t thread;

	must(pthread_create(&thread, NULL, connect_to_self, c) == 0 &&
		     pthread_join(thread, NULL) == 0,
	     "a thread");
	must(setsockopt(c->from, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)) == 0,
	     "TCP_USER_TIMEOUT");
}

static void fill(uint8_t *data, size_t len, uint64_t at)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)((at + i) * 167 >> 3);
}

static void *send_on(void *arg)
{
	struct connection *c = arg;
	uint8_t data[MESSAGE];
	uint64_t at = 0;

	while (!atomic_load(&over)) {
		fill(data, sizeof(data), at);
		must(send(c->from, data, sizeof(data), MSG_NOSIGNAL) == sizeof(data), "sending");
		at += sizeof(data);
		usleep(500);
	}
	must(shutdown(c->from, SHUT_WR) == 0, "ending a connection");
	return NULL;
}

static void *receive(void *arg)
{
	uint8_t data[MESSAGE], want[MESSAGE];
	struct connection *c = arg;
	ssize_t n;

	while ((n = recv(c->to, data, sizeof(data), 0)) > 0) {
		fill(want, (size_t)n, c->received);
		must(memcmp(data, want, (size_t)n) == 0, "other data received than sent");
		c->received += (uint64_t)n;
	}
	must(n == 0, "receiving");
	return NULL;
}

static struct tcp_info info(int fd)
{
	struct tcp_info tcp = {0};
	socklen_t len = sizeof(tcp);

	must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &tcp, &len) == 0, "TCP_INFO");
	return tcp;
}

/* What is sent now gets no answer, so the timer for sending it again runs. */
static void lose(struct connection *c)
{
	uint8_t data[MESSAGE];

	loopback_up(c->device, false);
	fill(data, sizeof(data), 0);
	must(send(c->from, data, sizeof(data), MSG_NOSIGNAL) == sizeof(data), "sending");
	while (info(c->from).tcpi_retransmits < 2)
		usleep(10000);
}

/* How long it then takes until it has arrived. */
static int64_t find_again(struct connection *c)
{
	uint8_t data[MESSAGE], want[MESSAGE];
	int64_t begin = mono();

	loopback_up(c->device, true);
	must(recv(c->to, data, sizeof(data), MSG_WAITALL) == sizeof(data), "receiving");
	fill(want, sizeof(want), 0);
	must(memcmp(data, want, sizeof(data)) == 0, "other data received than sent");
	return mono() - begin;
}

/* ---- the freeze
 * ----------------------------------------------------------------------------------- */

/* Reads the clock over and over; returns the longest between two reads, or -1 without a freeze. */
static int64_t wait_for_freeze(int64_t ahead)
{
	int64_t begin = mono(), last = begin, longest = 0, looked = begin, t;

	while ((t = mono()) - begin < PATIENCE_NS) {
		if (t - last > longest)
			longest = t - last;
		last = t;
		if (t - looked < NS_PER_S / 100)
			continue;
		if (now(host_clock) - t - ahead > JUMP_NS)
			return longest;
		looked = last = mono();
	}
	return -1;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	must(sched_setaffinity(0, sizeof(set), &set) == 0, "pinning");
}

static void print(const char *name, int64_t value)
{
	printf("%s %lld\n", name, (long long)value);
}

int main(void)
{
	static struct connection busy, lost;
	struct ahead host[2], sched[2];
	int64_t gap, arrived, begin;
	uint64_t received;
	struct naps naps = {0};
	pthread_t napper;
	int ptp = open("/dev/ptp0", O_RDONLY | O_CLOEXEC);

	if (ptp < 0) {
		fprintf(stderr, "/dev/ptp0: %s\n", strerror(errno));
		return 77;
	}
	host_clock = CLOCK_OF_FD(ptp);
	connection_open(&busy);
	connection_open(&lost);
	must(pthread_create(&busy.sender, NULL, send_on, &busy) == 0 &&
		     pthread_create(&busy.receiver, NULL, receive, &busy) == 0 &&
		     pthread_create(&napper, NULL, nap, &naps) == 0,
	     "a thread");
	pin(0);
	sched[0] = sched_ahead();
	host[0] = host_ahead();
	lose(&lost);
	printf("ready\n");
	fflush(stdout);
	begin = mono();
	gap = wait_for_freeze(host[0].at);
	must(gap >= 0, "no freeze came");
	host[1] = host_ahead();
	sched[1] = sched_ahead();
	print("ran_before_ns", mono() - begin);
	print("retransmits", info(lost.from).tcpi_retransmits);
	print("unacked", info(lost.from).tcpi_unacked);
	received = atomic_load(&busy.received);
	arrived = find_again(&lost);
	for (begin = mono(); mono() - begin < AFTER_NS;)
		usleep(10000);
	atomic_store(&over, true);
	pthread_join(napper, NULL);
	pthread_join(busy.sender, NULL);
	pthread_join(busy.receiver, NULL);

	print("hidden_ns", host[1].at + host[1].width / 2 - host[0].at - host[0].width / 2);
	print("hidden_error_ns", (host[0].width + host[1].width) / 2 + 1);
	print("sched_ns", sched[1].at + sched[1].width / 2 - sched[0].at - sched[0].width / 2);
	print("sched_error_ns", (sched[0].width + sched[1].width) / 2 + 1);
	print("gap_ns", gap);
	print("nap_ns", naps.frozen);
	print("nap_worst_ns", naps.worst);
	print("nap_shortest_ns", naps.shortest);
	print("naps", naps.count);
	print("lost_arrived_ns", arrived);
	print("bytes_before", (int64_t)received);
	print("bytes_after", (int64_t)(busy.received - received));
	return 0;
}
