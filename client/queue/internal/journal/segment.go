package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"smtpkit.example/smtp/client/queue/internal/vfs"
)

// A segment begins with a block that has its version, the life of the journal in which it was begun, the number of its
// first record, and a checksum of these. The rest of the block is zero, so no later write touches its sector.
const (
	blockSize = 512
	version   = "smtpkit journal 1\n"
)

// HeaderSize is how many octets a record has in front of what the user has given: a checksum (CRC-32C) of what follows
// it, the length, and the number, all in network byte order.
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
func appendBlock(b []byte, life, first uint64) []byte {
	at := len(b)
	b = append(b, version...)
	b = binary.BigEndian.AppendUint64(b, life)
	b = binary.BigEndian.AppendUint64(b, first)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
	return append(b, make([]byte, blockSize-len(b)+at)...)
}

// parseBlock returns what appendBlock was given. It reports false if b is not the first block of a segment.
func parseBlock(b []byte) (life, first uint64, ok bool) {
	if len(b) < blockSize || string(b[:len(version)]) != version {
		return 0, 0, false
	}
	life = binary.BigEndian.Uint64(b[len(version):])
	first = binary.BigEndian.Uint64(b[len(version)+8:])
	return life, first, string(appendBlock(nil, life, first)) == string(b[:blockSize])
}

// errSync is the error of a sync that has failed.
var errSync = errors.New("journal: a sync has failed")

// begin makes a segment one without records, durably.
func (s *segment) begin(life, first uint64) error {
	if _, err := s.file.WriteAt(appendBlock(make([]byte, 0, blockSize), life, first), 0); err != nil {
		return err
	}
	if err := s.file.SyncData(); err != nil {
		return fmt.Errorf("%w: %w", errSync, err)
	}
	s.life, s.first, s.end, s.size, s.unsettled = life, first, blockSize, max(s.size, blockSize), 0
	return nil
}

// seal writes the header of a record.
func seal(record []byte, number uint64) {
	binary.BigEndian.PutUint32(record[4:], uint32(len(record)-HeaderSize))
	binary.BigEndian.PutUint64(record[8:], number)
	binary.BigEndian.PutUint32(record, crc32.Checksum(record[4:], castagnoli))
}

// open returns the record at the beginning of b, with its header. It reports false if there is none of this number.
func open(b []byte, number uint64) (record []byte, ok bool) {
	if len(b) < HeaderSize || binary.BigEndian.Uint64(b[8:]) != number {
		return nil, false
	}
	length := int64(binary.BigEndian.Uint32(b[4:]))
	if length > int64(len(b)-HeaderSize) {
		return nil, false
	}
	record = b[:HeaderSize+length]
	return record, crc32.Checksum(record[4:], castagnoli) == binary.BigEndian.Uint32(record)
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
