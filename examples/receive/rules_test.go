package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"smtpkit.example/smtp/proto"
	"smtpkit.example/smtp/server/servertest"
)

// TestRules has the sessions keep the rules of server.Session, with users and without.
func TestRules(t *testing.T) {
	no, err := proto.ParseAddress("no@d.example")
	if err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]servertest.BackendOptions{
		"anybody": {},
		"users":   {User: "alice", Password: "secret"},
	} {
		t.Run(name, func(t *testing.T) {
			drop, err := openDrop(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			b := &backend{drop: drop, reject: []proto.Address{no}}
			if opt.User != "" {
				b.users = map[string]string{opt.User: opt.Password}
			}
			opt.Unknown = "no@d.example"
			opt.Kept = func() []*servertest.Message { return kept(t, drop.dir) }
			servertest.TestBackend(t, b, &opt)
		})
	}
}

// kept returns the messages in a drop. What was left behind is one, too.
func kept(t *testing.T, dir string) []*servertest.Message {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	var found []*servertest.Message
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		if filepath.Ext(name) == ".json" {
			continue
		}
		m := &servertest.Message{Raw: text}
		found = append(found, m)
		var facts envelope
		text, err = os.ReadFile(name[:len(name)-len(filepath.Ext(name))] + ".json")
		if err != nil || json.Unmarshal(text, &facts) != nil {
			continue
		}
		m.From, _ = proto.ParseAddress(facts.From)
		for _, to := range facts.To {
			if a, err := proto.ParseAddress(to); err == nil { // "postmaster" has no domain
				m.To = append(m.To, proto.Recipient{Address: a})
			}
		}
	}
	return found
}
