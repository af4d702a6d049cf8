/* Modules: order, packings, names, built-ins on made modules; a real tree where there is one. */
#include <elf.h>
#include <errno.h>
#include <glob.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "guest/elf_image.h"
#include "guest/modules.h"
#include "guest/unpack.h"
#include "scratch.h"

struct blob {
	uint8_t data[8192];
	size_t len;
};

/* An object file with .modinfo and the names of its sections, nothing else. */
static struct blob make_module(const char *info, size_t info_len)
{
	static const char names[] = "\0.shstrtab\0.modinfo";
	struct blob b = {.len = sizeof(Elf64_Ehdr)};
	Elf64_Shdr sections[3] = {0};
	Elf64_Ehdr e = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, 1},
		.e_type = ET_REL,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = 3,
		.e_shstrndx = 1,
	};

	sections[1] = (Elf64_Shdr){.sh_name = 1,
				   .sh_type = SHT_STRTAB,
				   .sh_offset = b.len,
				   .sh_size = sizeof(names)};
	memcpy(b.data + b.len, names, sizeof(names));
	b.len += sizeof(names);
	sections[2] = (Elf64_Shdr){.sh_name = 11,
				   .sh_type = SHT_PROGBITS,
				   .sh_offset = b.len,
				   .sh_size = info_len};
	memcpy(b.data + b.len, info, info_len);
	b.len += info_len;
	e.e_shoff = b.len;
	memcpy(b.data + b.len, sections, sizeof(sections));
	b.len += sizeof(sections);
	memcpy(b.data, &e, sizeof(e));
	return b;
}

static struct blob pack(const struct blob *b, const char *file)
{
	struct blob out = {0};
	const char *end = strrchr(file, '.');

	if (strcmp(end, ".gz") == 0) {
		z_stream z = {.next_in = (Bytef *)b->data, .avail_in = (uInt)b->len};

		assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
		z.next_out = out.data;
		z.avail_out = sizeof(out.data);
		assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
		out.len = sizeof(out.data) - z.avail_out;
		deflateEnd(&z);
	} else if (strcmp(end, ".xz") == 0) {
		assert_int_equal(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, NULL, b->data, b->len,
							 out.data, &out.len, sizeof(out.data)),
				 LZMA_OK);
	} else if (strcmp(end, ".zst") == 0) {
		out.len = ZSTD_compress(out.data, sizeof(out.data), b->data, b->len, 3);
		assert_false(ZSTD_isError(out.len));
	} else {
		out = *b;
	}
	return out;
}

/* info is a string literal with NULs between its parts. */
#define PUT(file, info) put(file, info, sizeof(info))

static void put(const char *file, const char *info, size_t info_len)
{
	struct blob plain = make_module(info, info_len), packed = pack(&plain, file);

	assert_int_equal(scratch_run("mkdir -p $(dirname %s)", file), 0);
	assert_int_equal(scratch_write(file, packed.data, packed.len), 0);
}

static size_t place(const struct module_list *list, const char *name)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->images[i].name, name) == 0)
			return i;
	return SIZE_MAX;
}

static void dependencies_come_first(void **state)
{
	static const char *const wanted[] = {"top-module", "far_one", "not_there", "top_module",
					     "mbcache"};
	struct module_list list;

	(void)state;
	PUT("kernel/a/top-module.ko.xz", "license=GPL\0depends=mid-a,mid_b\0name=top_module");
	PUT("kernel/b/mid-a.ko.gz", "depends=base");
	PUT("kernel/b/c/mid_b.ko.zst",
	    "depends=base,mid-a,mbcache\0softdep=pre: soft nowhere post: x");
	PUT("kernel/base.ko", "depends=");
	PUT("kernel/soft.ko", "softdep=pre: top_module");
	PUT("kernel/x.ko", "");
	PUT("extra/far-one.ko", "depends=x");
	PUT("updates/x.ko", "version=updated");
	assert_int_equal(scratch_run("printf 'kernel/fs/ext4.ko\\nkernel/fs/mbcache.ko\\n' > "
				     "modules.builtin && ln -s / source && ln -s . build"),
			 0);
	assert_int_equal(modules_load(scratch_dir, wanted, ARRAY_SIZE(wanted), &list, NULL), 0);
	assert_int_equal(list.count, 7);
	assert_true(place(&list, "base") < place(&list, "mid_a"));
	assert_true(place(&list, "mid_a") < place(&list, "mid_b"));
	assert_true(place(&list, "soft") < place(&list, "mid_b"));
	assert_true(place(&list, "mid_b") < place(&list, "top_module"));
	assert_true(place(&list, "x") < place(&list, "far_one"));
	assert_int_not_equal(place(&list, "far_one"), SIZE_MAX);
	assert_non_null(memmem(list.images[place(&list, "x")].data,
			       list.images[place(&list, "x")].len, "version=updated", 15));
	for (size_t i = 0; i < list.count; i++)
		assert_memory_equal(list.images[i].data, ELFMAG, 4);
	modules_done(&list);
	modules_done(&list);
}

static void failures_say_what_is_wrong(void **state)
{
	static const char *const needy = "needy", *const ring = "ring-a", *const bad = "bad";
	struct module_list list = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(modules_load("/no/such/folder", &bad, 1, &list, &err), -ENOENT);
	PUT("needy.ko", "depends=absent");
	/* Nothing known about what is built in: the guest will tell. */
	assert_int_equal(modules_load(scratch_dir, &needy, 1, &list, NULL), 0);
	assert_int_equal(list.count, 1);
	modules_done(&list);
	assert_int_equal(scratch_run("echo kernel/other.ko > modules.builtin"), 0);
	err = (struct error){0};
	assert_int_equal(modules_load(scratch_dir, &needy, 1, &list, &err), -EINVAL);
	assert_non_null(strstr(err.what, "needy needs absent"));
	assert_int_equal(list.count, 0);

	PUT("ring-a.ko", "depends=ring-b");
	PUT("ring-b.ko", "depends=ring-a");
	assert_int_equal(modules_load(scratch_dir, &ring, 1, &list, NULL), 0);
	assert_int_equal(list.count, 2);
	modules_done(&list);

	assert_int_equal(scratch_run("echo this is no module > bad.ko"), 0);
	err = (struct error){0};
	assert_int_equal(modules_load(scratch_dir, &bad, 1, &list, &err), -EBADMSG);
	assert_non_null(strstr(err.what, "bad.ko"));
	for (int i = 0; i < 3; i++) {
		static const char *const ends[] = {"gz", "xz", "zst"};

		assert_int_equal(scratch_run("rm -f bad.ko*; head -c 2000 /dev/urandom > bad.ko.%s",
					     ends[i]),
				 0);
		assert_int_equal(modules_load(scratch_dir, &bad, 1, &list, NULL), -EBADMSG);
	}
	assert_int_equal(list.count, 0);
}

typedef int unpacker(const uint8_t *, size_t, size_t, uint8_t **, size_t *);

static void unpack_one(unpacker *unpack, const char *file)
{
	struct blob plain = {.len = 5000}, packed, broken;
	uint8_t *out = NULL;
	size_t len = 0;
	unsigned seed = 7;

	for (size_t i = 0; i < plain.len; i++)
		plain.data[i] = (uint8_t)(i * i >> 7);
	packed = pack(&plain, file);
	assert_int_equal(unpack(packed.data, packed.len, 5000, &out, &len), 0);
	assert_int_equal(len, plain.len);
	assert_memory_equal(out, plain.data, len);
	free(out);
	out = NULL;
	assert_int_equal(unpack(packed.data, packed.len, 4999, &out, &len), -EFBIG);
	assert_int_equal(unpack(packed.data, packed.len, 0, &out, &len), -EFBIG);
	assert_null(out);
	for (size_t n = 0; n < packed.len; n++) {
		uint8_t *exact = malloc(n ? n : 1);

		assert_non_null(exact);
		memcpy(exact, packed.data, n);
		assert_int_equal(unpack(exact, n, 5000, &out, &len), -EBADMSG);
		free(exact);
	}
	assert_null(out);
	for (unsigned round = 0; round < 3000; round++) {
		broken = packed;
		seed = seed * 1664525 + 1013904223;
		broken.data[(seed >> 8) % broken.len] ^= (uint8_t)(1u << (seed >> 28) % 8);
		if (unpack(broken.data, broken.len, 8000, &out, &len) == 0) {
			assert_true(len <= 8000);
			free(out);
			out = NULL;
		}
	}
}

static void packings_are_bounded(void **state)
{
	(void)state;
	unpack_one(unpack_gzip, ".gz");
	unpack_one(unpack_xz, ".xz");
	unpack_one(unpack_zstd, ".zst");
}

static void broken_objects_end_in_a_result(void **state)
{
	static const char info[] = "depends=a,b\0softdep=pre: c";
	struct blob good = make_module(info, sizeof(info));
	const uint8_t *section;
	size_t section_len;
	unsigned seed = 3;

	(void)state;
	for (size_t n = 0; n < good.len; n++) {
		uint8_t *exact = malloc(n ? n : 1);

		assert_non_null(exact);
		memcpy(exact, good.data, n);
		assert_true(elf_image_section(exact, n, ".modinfo", &section, &section_len) < 0);
		free(exact);
	}
	for (unsigned round = 0; round < 50000; round++) {
		uint8_t *exact = malloc(good.len);

		assert_non_null(exact);
		memcpy(exact, good.data, good.len);
		for (unsigned i = 0; i <= round % 3; i++) {
			seed = seed * 1664525 + 1013904223;
			exact[(seed >> 8) % good.len] = (uint8_t)(seed >> 24);
		}
		if (elf_image_section(exact, good.len, ".modinfo", &section, &section_len) == 0) {
			assert_true(section >= exact && section <= exact + good.len);
			assert_true(section_len <= good.len - (size_t)(section - exact));
		}
		free(exact);
	}
}

/* STASIS_TEST_MODULES, or the host's own. */
static void real_tree(void **state)
{
	static const char *const wanted[] = {"virtio-mmio", "virtio_blk", "virtio_net", "overlay",
					     "kvm_amd"};
	const char *dir = getenv("STASIS_TEST_MODULES");
	struct module_list list;
	struct error err = {0};
	glob_t g = {0};

	(void)state;
	if (!dir && glob("/lib/modules/*/modules.builtin", 0, NULL, &g) == 0) {
		*strrchr(g.gl_pathv[0], '/') = '\0';
		dir = g.gl_pathv[0];
	}
	if (!dir) {
		globfree(&g);
		print_message("skipped: no kernel modules here\n");
		skip();
	}
	if (modules_load(dir, wanted, ARRAY_SIZE(wanted), &list, &err) != 0)
		fail_msg("%s", err.what);
	for (size_t i = 0; i < list.count; i++)
		print_message("%s %zu\n", list.images[i].name, list.images[i].len);
	if (place(&list, "virtio_net") != SIZE_MAX && place(&list, "net_failover") != SIZE_MAX)
		assert_true(place(&list, "net_failover") < place(&list, "virtio_net"));
	if (place(&list, "kvm_amd") != SIZE_MAX && place(&list, "kvm") != SIZE_MAX)
		assert_true(place(&list, "kvm") < place(&list, "kvm_amd"));
	modules_done(&list);
	globfree(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(dependencies_come_first, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(failures_say_what_is_wrong, scratch_make,
						scratch_remove),
		cmocka_unit_test(packings_are_bounded),
		cmocka_unit_test(broken_objects_end_in_a_result),
		cmocka_unit_test(real_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
