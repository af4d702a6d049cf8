/* What stasis and its init program say to each other on the virtio-console ports.
 * Included by both sides; nothing but constants. Owner: none.
 *
 * Control port, both ways: lines of at most SESSION_LINE_MAX bytes with their '\n', a word and
 * its arguments split by single spaces. Unknown words are ignored.
 *
 *   guest → host                                     host → guest
 *   hello 2             init is up                   go                 start COMMAND
 *   started             COMMAND execed               signal N           send to COMMAND's group
 *   closed stdin        COMMAND reads no more        winsize ROWS COLS  console size
 *   exited STATUS       COMMAND ended                closed stdout      host's reader is gone
 *   signalled N         … of a signal                closed stderr      (or stderr's)
 *   failed STATUS TEXT  could not start it           bye                power off now
 *   done                all output sent, file systems synced
 *
 * One conversation: hello, which waits for go (the host may have to arm watches), then failed, or
 * started and exited or signalled, then done. The status of failed is a shell's: 127 not found, 126
 * found but not run. What COMMAND wrote before its end is in the output ports' queues before exited
 * is in the control port's. closed stdin may also come as COMMAND ends. After done, init waits for
 * bye, however long: what it sent may still be in queues in the guest's memory. It powers off by
 * itself when the host closes the control port, at any time. The host opens a port
 * (VIRTIO_CONSOLE_PORT_OPEN) before it names it: a port that isn't open reads as end of file, and
 * init waits only SESSION_CONNECT_MS for it to be opened.
 */
#ifndef STASIS_GUEST_SESSION_PROTOCOL_H
#define STASIS_GUEST_SESSION_PROTOCOL_H

#define SESSION_VERSION	   2
#define SESSION_LINE_MAX   512
#define SESSION_PORTS_MS   30000 /* how long init waits for each port: emulated guests are slow */
#define SESSION_CONNECT_MS 2000

#define SESSION_PORT_CONTROL "org.stasis.control"
#define SESSION_PORT_STDIN   "org.stasis.stdin"
#define SESSION_PORT_STDOUT  "org.stasis.stdout"
#define SESSION_PORT_STDERR  "org.stasis.stderr"

/* In the initramfs: what to run. Each file holds NUL-terminated strings, one after another. */
#define SESSION_ARGV_FILE "/stasis/argv" /* COMMAND and its arguments; absent: a shell on hvc0 */
#define SESSION_ENV_FILE  "/stasis/env"	 /* NAME=VALUE, over init's own few */
#define SESSION_MODULES_FILE                                                                       \
	"/stasis/modules" /* names under /stasis/modules.d/NAME.ko, in order                       \
			   */
/* One string for each network interface: "MAC ADDRESS/PREFIX GATEWAY DNS MTU", "-" (and 0) for what
 * is left alone. */
#define SESSION_NETWORK_FILE "/stasis/network"
#define SESSION_MODULES_DIR  "/stasis/modules.d"

#endif
