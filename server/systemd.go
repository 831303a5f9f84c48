package server

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// SystemdListeners returns the sockets that systemd has opened for the process (socket activation, sd_listen_fds), by
// the names that FileDescriptorName of the socket units gives them, and in their order. A unit with several addresses
// has several listeners of one name.
//
// It returns none if systemd has passed no sockets to this process, as if somebody starts the program by hand. It
// unsets the variables LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, so that programs which the process starts do not take
// them for theirs, and a second call returns none. So that ListenAndServe can use the address "systemd:NAME", do not
// call SystemdListeners too.
//
// It returns an error if the variables are malformed, or if a descriptor is not a socket that listens, as with
// Accept=yes in a unit. Then it closes none of the descriptors.
func SystemdListeners() (map[string][]net.Listener, error) {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name)
	}
	list, err := activated(pid, fds, names)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	listeners := make([]net.Listener, 0, len(list))
	for i := range list {
		l, err := listenerOf(firstFD + i)
		if err != nil {
			for _, l := range listeners {
				l.Close() // which is a duplicate
			}
			return nil, fmt.Errorf("smtp: the descriptor %d that systemd has passed, named %q, is not a socket that "+
				"listens: use ListenStream and Accept=no in the socket unit: %w", firstFD+i, list[i], err)
		}
		listeners = append(listeners, l)
	}
	byName := make(map[string][]net.Listener)
	for i, name := range list {
		byName[name] = append(byName[name], listeners[i])
		closeFD(firstFD + i)
	}
	return byName, nil
}

const (
	firstFD = 3    // SD_LISTEN_FDS_START
	maxFDs  = 1024 // a bound for LISTEN_FDS; a unit has a few
)

// activated returns the names of the descriptors that have been passed to this process, by the values of the variables.
func activated(pid, fds, names string) ([]string, error) {
	if pid == "" || fds == "" {
		return nil, nil
	}
	p, err := strconv.Atoi(pid)
	if err != nil || p <= 0 {
		return nil, fmt.Errorf("smtp: LISTEN_PID is %q, which is no number of a process", pid)
	}
	if p != os.Getpid() {
		return nil, nil // they are for another process, which started this one
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > maxFDs {
		return nil, fmt.Errorf("smtp: LISTEN_FDS is %q: it has to be a number of descriptors, %d at most", fds, maxFDs)
	}
	list := slices.Repeat([]string{"unknown"}, n) // as sd_listen_fds_with_names
	if names == "" {
		return list, nil
	}
	if list = strings.Split(names, ":"); len(list) != n {
		return nil, fmt.Errorf("smtp: LISTEN_FDNAMES has %d names, and LISTEN_FDS is %d", len(list), n)
	}
	return list, nil
}

// passed has the listeners that ListenAndServe has not taken yet.
var passed struct {
	mu        sync.Mutex
	asked     bool
	listeners map[string][]net.Listener
	err       error
}

// takePassed returns the listeners of that name, once. The name may be empty if there is only one.
func takePassed(name string) ([]net.Listener, error) {
	passed.mu.Lock()
	defer passed.mu.Unlock()
	if !passed.asked {
		passed.asked = true
		passed.listeners, passed.err = SystemdListeners()
	}
	switch names := slices.Sorted(maps.Keys(passed.listeners)); {
	case passed.err != nil:
		return nil, passed.err
	case len(names) == 0:
		return nil, errors.New("smtp: systemd has passed no sockets, or all are in use: start the program by a socket " +
			"unit, or give another address")
	case name == "" && len(names) == 1:
		name = names[0]
	case len(passed.listeners[name]) == 0:
		return nil, fmt.Errorf("smtp: systemd has passed no socket with the FileDescriptorName %q, or it is in use; "+
			"there are %s", name, strings.Join(names, ", "))
	}
	list := passed.listeners[name]
	delete(passed.listeners, name)
	return list, nil
}

// serveAll serves several listeners until one of them ends, and then closes the others.
func serveAll(list []net.Listener, serve func(net.Listener) error) error {
	if len(list) == 1 {
		return serve(list[0])
	}
	errs := make(chan error, len(list))
	for _, l := range list {
		go func() { errs <- serve(l) }()
	}
	first := <-errs
	for _, l := range list {
		l.Close()
	}
	for range len(list) - 1 {
		<-errs
	}
	return first
}
