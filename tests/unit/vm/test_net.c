/* --net: what is taken, what is refused and how, and what init and the lab are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vm/net.h"

static struct vm_net parse(const char *value)
{
	struct vm_net n;
	struct error err = {0};

	assert_int_equal(vm_net_parse(value, &n, &err), 0);
	return n;
}

static void takes_a_tap(void **state)
{
	struct vm_net n = parse("tap=br-tap,mac=02:00:5e:00:00:01,ip=10.1.2.3/20,gw=10.1.0.1,dns="
				"10.1.0.2,offloads=off");
	char *line;

	(void)state;
	assert_int_equal(n.kind, VM_NET_TAP);
	assert_string_equal(n.tap, "br-tap");
	assert_false(n.offloads);
	vm_net_settle(&n, "name", 0);
	line = vm_net_line(&n);
	assert_string_equal(line, "02:00:5e:00:00:01 10.1.2.3/20 10.1.0.1 10.1.0.2 0");
	free(line);
	n = parse("tap=t");
	vm_net_settle(&n, "name", 0);
	line = vm_net_line(&n);
	assert_string_equal(line + 18, "-/0 - - 0");
	free(line);
	assert_true(parse("tap=t,offloads=on").offloads);
}

static void user_mode_has_its_addresses(void **state)
{
	struct vm_net n = parse("user");
	char *text;

	(void)state;
	vm_net_settle(&n, "name", 0);
	text = vm_net_line(&n);
	assert_string_equal(text + 18, "10.0.2.15/24 10.0.2.2 10.0.2.3 65520");
	free(text);
	/* The one in the lab parses what this one writes. */
	text = vm_net_inner(&n, 2);
	n = parse(text);
	assert_int_equal(n.kind, VM_NET_TAP);
	assert_int_equal(n.uplink, 2);
	assert_true(n.mac_given);
	free(text);
}

static void the_address_is_made_of_the_name(void **state)
{
	struct vm_net a = parse("user"), b = parse("user"), c = parse("user"), d = parse("user");

	(void)state;
	vm_net_settle(&a, "one", 0);
	vm_net_settle(&b, "one", 0);
	vm_net_settle(&c, "two", 0);
	vm_net_settle(&d, "one", 1);
	assert_memory_equal(a.mac, b.mac, sizeof(a.mac));
	assert_memory_not_equal(a.mac, c.mac, sizeof(a.mac));
	assert_memory_not_equal(a.mac, d.mac, sizeof(a.mac));
	assert_int_equal(a.mac[0] & 3, 2);
	assert_int_equal(c.mac[0] & 3, 2);
}

static void refuses_the_rest(void **state)
{
	static const char *const bad[] = {
		"",
		"tap",
		"tap=",
		"tap=sixteen-and-more",
		"tap=a b",
		"tap=x,",
		"tap=x,mac=",
		"tap=x,mac=01:02:03:04:05:06",
		"tap=x,mac=00:00:00:00:00:00",
		"tap=x,mac=2:2:2:2:2:2",
		"tap=x,mac=02:02:02:02:02:0x",
		"tap=x,ip=10.0.0.1",
		"tap=x,ip=10.0.0.1/33",
		"tap=x,ip=10.0.0/8",
		"tap=x,ip=0.0.0.0/8",
		"tap=x,gw=10.0.0.1",
		"tap=x,uplink=4",
		"tap=x,offloads=maybe",
		"user,ip=10.0.0.1/8",
		"user,offloads=off",
		"users",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vm_net n = {.tap = "untouched"};
		struct error err = {0};

		assert_true(vm_net_parse(bad[i], &n, &err) < 0);
		assert_int_equal(err.kind, ERROR_USAGE);
		assert_int_equal(strncmp(err.what, bad[i], strlen(bad[i])), 0);
		assert_string_equal(n.tap, "untouched");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_a_tap),
		cmocka_unit_test(user_mode_has_its_addresses),
		cmocka_unit_test(the_address_is_made_of_the_name),
		cmocka_unit_test(refuses_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
