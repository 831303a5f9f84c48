//go:build !unix

package deliver

import (
	"os"
	"os/exec"
)

const noFollow = 0

func isNoSpace(error) bool   { return false }
func isOverQuota(error) bool { return false }

// syncDir does nothing: there is no such call here.
func syncDir(string) error { return nil }

// lockFile does nothing: the dot lock has to do.
func lockFile(*os.File) (bool, error) { return true, nil }

// group does nothing: the program is killed, and what it has started is not.
func group(*exec.Cmd) {}
