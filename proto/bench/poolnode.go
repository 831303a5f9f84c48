package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nodemailer is a library for Node.js. Debian has both in the package node-nodemailer.
const nodemailer = "nodemailer"

//go:embed poolnode.js
var nodeProgram string

// nodeLibraries is where Debian has the libraries for Node.js. They are found in NODE_PATH too.
const nodeLibraries = "/usr/share/nodejs"

// nodePrograms are the names under which Node.js is looked for, Debian's first.
var nodePrograms = []string{"/usr/bin/node", "node"}

// node returns a command that runs Node.js.
func node(args ...string) (*exec.Cmd, error) {
	for _, name := range nodePrograms {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		cmd := exec.Command(path, args...)
		search := filepath.SplitList(os.Getenv("NODE_PATH"))
		search = append(search, nodeLibraries)
		cmd.Env = append(os.Environ(), "NODE_PATH="+strings.Join(search, string(filepath.ListSeparator)))
		return cmd, nil
	}
	return nil, errNotInstalled
}

// nodemailerVersion returns "" if nodemailer is not installed.
func nodemailerVersion() string {
	cmd, err := node("-p", "require('nodemailer/package.json').version")
	if err != nil {
		return ""
	}
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// spawnNode starts a process that sends with nodemailer.
func spawnNode(r role) (*process, error) {
	if nodemailerVersion() == "" {
		return nil, errNotInstalled
	}
	addr, err := net.ResolveTCPAddr("tcp", r.Addr)
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(map[string]any{
		"Host": addr.IP.String(), "Port": addr.Port, "Conns": r.Conns, "Callers": r.Callers,
		"From": mailFrom, "To": rcptTo, "Text": string(r.load().text()),
	})
	if err != nil {
		return nil, err
	}
	cmd, err := node("-e", nodeProgram, string(arg))
	if err != nil {
		return nil, err
	}
	p, err := startProcess(cmd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.By, err)
	}
	return p, nil
}
