//go:build !(darwin || linux || windows)

package vfs

func free(string) (int64, bool) { return 0, false }
