// Drives a machine's control socket by go-qemu, a QMP client that knows nothing of stasis.
// usage: qmp_client SOCKET; TAP lines without numbers on standard output.
package main

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

func ok(good bool, format string, args ...interface{}) {
	word := "not ok"
	if good {
		word = "ok"
	}
	fmt.Printf("%s - go-qemu: %s\n", word, fmt.Sprintf(format, args...))
}

func main() {
	mon, err := qmp.NewSocketMonitor("unix", os.Args[1], 5*time.Second)
	if err == nil {
		err = mon.Connect()
	}
	ok(err == nil, "connects and negotiates (%v)", err)
	if err != nil {
		os.Exit(1)
	}
	heard, err := mon.Events(context.Background())
	// go-qemu waits for its reader before it looks at the next answer.
	events := make(chan qmp.Event, 64)
	go func() {
		for e := range heard {
			events <- e
		}
		close(events)
	}()
	ok(err == nil && mon.Version != nil, "is told a version and listens for events")
	machine := raw.NewMonitor(mon)

	status, err := machine.QueryStatus()
	ok(err == nil && status.Running && status.Status == raw.RunStateRunning,
		"query-status: running (%v %v)", status, err)
	version, err := machine.QueryVersion()
	ok(err == nil && version.Package != "", "query-version (%v %v)", version, err)
	name, err := machine.QueryName()
	ok(err == nil && name.Name != nil && *name.Name == "control", "query-name (%v)", err)
	kvm, err := machine.QueryKVM()
	ok(err == nil && kvm.Enabled && kvm.Present, "query-kvm (%v)", err)
	commands, err := machine.QueryCommands()
	ok(err == nil && len(commands) > 10, "query-commands (%d, %v)", len(commands), err)
	reply, err := mon.Run([]byte(`{"execute": "query-cpus-fast", "id": "x"}`))
	ok(err == nil && len(reply) > 100, "query-cpus-fast (%d bytes, %v)", len(reply), err)
	_, err = mon.Run([]byte(`{"execute": "no-such-thing"}`))
	ok(err != nil, "an unknown command is an error (%v)", err)

	err = machine.Stop()
	ok(err == nil, "stop (%v)", err)
	status, err = machine.QueryStatus()
	ok(err == nil && !status.Running, "query-status: paused (%v %v)", status, err)
	err = machine.Cont()
	ok(err == nil, "cont (%v)", err)
	for _, want := range []string{"STOP", "RESUME"} {
		select {
		case e := <-events:
			ok(e.Event == want, "event %s (%v)", want, e.Event)
		case <-time.After(5 * time.Second):
			ok(false, "event %s comes", want)
		}
	}

	core := filepath.Join(filepath.Dir(os.Args[1]), "go.core")
	_, err = mon.Run([]byte(`{"execute": "dump-guest-memory", "arguments": {"paging": false, ` +
		`"protocol": "file:` + core + `"}}`))
	ok(err == nil, "dump-guest-memory (%v)", err)
	file, err := elf.Open(core)
	ok(err == nil && file.Type == elf.ET_CORE && file.Class == elf.ELFCLASS64 && len(file.Progs) > 1,
		"... an ELF core (%v)", err)
	for _, want := range []string{"STOP", "DUMP_COMPLETED", "RESUME"} {
		select {
		case e := <-events:
			ok(e.Event == want, "event %s (%v)", want, e.Event)
		case <-time.After(5 * time.Second):
			ok(false, "event %s comes", want)
		}
	}
	_, err = mon.Run([]byte(`{"execute": "dump-guest-memory", "arguments": {"paging": false, ` +
		`"detach": true, "protocol": "file:` + core + `2"}}`))
	ok(err == nil, "dump-guest-memory, detached (%v)", err)
	for _, want := range []string{"STOP", "DUMP_COMPLETED", "RESUME"} {
		select {
		case e := <-events:
			ok(e.Event == want, "event %s (%v)", want, e.Event)
		case <-time.After(5 * time.Second):
			ok(false, "event %s comes", want)
		}
	}
	reply, err = mon.Run([]byte(`{"execute": "query-dump"}`))
	ok(err == nil && strings.Contains(string(reply), "completed"), "query-dump (%s, %v)", reply, err)
	reply, err = mon.Run([]byte(`{"execute": "query-dump-guest-memory-capability"}`))
	ok(err == nil && strings.Contains(string(reply), "elf"),
		"query-dump-guest-memory-capability (%s, %v)", reply, err)

	err = machine.Quit()
	ok(err == nil, "quit (%v)", err)
	timeout := time.After(5 * time.Second)
	for {
		select {
		case e, more := <-events:
			if e.Event == "SHUTDOWN" {
				ok(e.Data["reason"] == "host-qmp-quit", "SHUTDOWN says why (%v)", e.Data)
				return
			}
			if !more {
				ok(false, "SHUTDOWN comes before the end")
				return
			}
		case <-timeout:
			ok(false, "SHUTDOWN comes in time")
			return
		}
	}
}
