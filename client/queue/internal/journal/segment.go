package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// A segment begins with a block: its version, the life of the journal in which it was begun, the number of its first
// record, a key, and a checksum of these. The rest of the block is zero, so no later write touches its sector.
const (
	blockSize = 512
	version   = "smtpkit journal 1\n"
)

// HeaderSize is how many octets a record has in front of what the user has given: a checksum (CRC-32C) of the key and
// of what follows it, the length, and the number, all in network byte order.
const HeaderSize = 4 + 4 + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A segment is a file with records.
type segment struct {
	name      string
	serial    int      // in the name
	file      vfs.File // nil if an earlier life has made it
	reading   vfs.File // to read from; it is file, or open for that alone
	life      uint64   // see Journal
	first     uint64   // the number of the first record
	key       uint64   // random
	sum       uint32   // of the key
	end       int64    // of the records
	size      int64    // of the file
	unsettled int      // records that are not settled
}

const prefix = "journal."

func segmentName(serial int) string { return prefix + strconv.Itoa(serial) }

// serialOf returns the serial number in the name of a segment.
func serialOf(name string) (serial int, ok bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	serial, err := strconv.Atoi(digits)
	return serial, err == nil && serial > 0 && segmentName(serial) == name
}

// IsName reports whether a file of this name belongs to a journal.
func IsName(name string) bool {
	_, ok := serialOf(name)
	return ok
}

// appendBlock appends the first block of a segment.
func (s *segment) appendBlock(b []byte) []byte {
	at := len(b)
	b = append(b, version...)
	for _, n := range []uint64{s.life, s.first, s.key} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
	return append(b, make([]byte, blockSize-len(b)+at)...)
}

// parseBlock reads what appendBlock has written. It reports false if b is not the first block of a segment.
func (s *segment) parseBlock(b []byte) bool {
	if len(b) < blockSize || string(b[:len(version)]) != version {
		return false
	}
	for i, n := range []*uint64{&s.life, &s.first, &s.key} {
		*n = binary.BigEndian.Uint64(b[len(version)+8*i:])
	}
	return string(s.appendBlock(nil)) == string(b[:blockSize])
}

// keySum returns the checksum of the key, with which those of the records begin.
func (s *segment) keySum() uint32 {
	return crc32.Checksum(binary.BigEndian.AppendUint64(nil, s.key), castagnoli)
}

// errSync is the error of a sync that has failed.
var errSync = errors.New("journal: a sync has failed")

// begin makes a segment one without records, durably.
func (s *segment) begin(life, first uint64) error {
	var key [8]byte
	_, _ = rand.Read(key[:]) // it does not fail
	next := segment{life: life, first: first, key: binary.BigEndian.Uint64(key[:])}
	if _, err := s.file.WriteAt(next.appendBlock(make([]byte, 0, blockSize)), 0); err != nil {
		return err
	}
	if err := s.file.SyncData(); err != nil {
		return fmt.Errorf("%w: %w", errSync, err)
	}
	s.life, s.first, s.key, s.sum = life, first, next.key, next.keySum()
	s.end, s.size, s.unsettled = blockSize, max(s.size, blockSize), 0
	return nil
}

// sumOf returns the checksum of a record, given that of the key.
func sumOf(record []byte, sum uint32) uint32 { return crc32.Update(sum, castagnoli, record[4:]) }

// seal writes the header of a record.
func seal(record []byte, number uint64, sum uint32) {
	binary.BigEndian.PutUint32(record[4:], uint32(len(record)-HeaderSize))
	binary.BigEndian.PutUint64(record[8:], number)
	binary.BigEndian.PutUint32(record, sumOf(record, sum))
}

// open returns the record at the beginning of b, with its header. It reports false if there is none of this number.
func open(b []byte, number uint64, sum uint32) (record []byte, ok bool) {
	if len(b) < HeaderSize || binary.BigEndian.Uint64(b[8:]) != number {
		return nil, false
	}
	length := int64(binary.BigEndian.Uint32(b[4:]))
	if length > int64(len(b)-HeaderSize) {
		return nil, false
	}
	record = b[:HeaderSize+length]
	return record, sumOf(record, sum) == binary.BigEndian.Uint32(record)
}

// readAll reads a file.
func readAll(f vfs.File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}
