/* What stasis and its init program say to each other on the virtio-console ports.
 * Included by both sides; nothing but constants. Owner: none.
 *
 * Control port, both ways: lines of at most SESSION_LINE_MAX bytes, '\n' at the end, a word and
 * its arguments split by single spaces. Unknown words are ignored.
 *
 *   guest → host                          host → guest
 *   hello 1            init is up         signal N          send to COMMAND's group
 *   started            COMMAND execed     winsize ROWS COLS console size
 *   exited STATUS      COMMAND ended      closed stdout     host's reader is gone (or stderr)
 *   signalled N        … of a signal      bye               power off now
 *   failed TEXT        could not start it
 *   done               all output sent, file systems synced
 */
#ifndef STASIS_GUEST_SESSION_PROTOCOL_H
#define STASIS_GUEST_SESSION_PROTOCOL_H

#define SESSION_LINE_MAX     512
#define SESSION_PORT_CONTROL "org.stasis.control"
#define SESSION_PORT_STDIN   "org.stasis.stdin"
#define SESSION_PORT_STDOUT  "org.stasis.stdout"
#define SESSION_PORT_STDERR  "org.stasis.stderr"

/* In the initramfs: what to run. Each file holds NUL-terminated strings, one after another. */
#define SESSION_ARGV_FILE    "/stasis/argv"    /* COMMAND and its arguments; absent: a shell on hvc0 */
#define SESSION_ENV_FILE     "/stasis/env"     /* NAME=VALUE */
#define SESSION_MODULES_FILE "/stasis/modules" /* names under /stasis/modules.d/NAME.ko, in order */
#define SESSION_MODULES_DIR  "/stasis/modules.d"

#endif
