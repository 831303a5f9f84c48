// Package journal is a log on disk of what is to become files later. A record costs one write to a file that has its
// size already, and shares a sync with all that are written meanwhile. Without it, a store has to make, sync, rename
// and sync a file for each message. With it, the store answers after one sync for many messages, and makes files later.
//
// # Use
//
// Append writes a record: it survives a crash of the process. Sync makes it survive a loss of power too. When what it
// says is in other files, or means nothing any more, the user calls Settle. Open gives the user all records that may
// not be settled, in their order: it begins at any place before them, and misses none. So doing again what they say
// must lead to the same end.
//
// # Segments
//
// A journal is a row of segments, which are files named "journal.1" and so on. Records go to the last one. When it is
// full, the next one is made, or one is used again all of whose records are settled. Segments are used again in the
// order in which they were filled, so those on disk are always the end of the log, without a gap. Before segments are
// used again the user's files are synced: see Options.Sync.
//
// A record has a number, and the next one has the next number. Its checksum covers the number and a key, which is
// random for each use of a segment. So nothing else is taken for a record: not what is left of an earlier use, or of
// another file on the same blocks of the disk, and not what somebody has put into a record. Each Open begins a new life
// of the journal, with a segment of its own, and numbers from 0. So what an earlier life wrote and lost, with a gap, is
// never continued.
//
// Two syncs keep that true: a segment's first block is durable before there is a record in it, and a segment is synced
// before the one after it.
package journal
