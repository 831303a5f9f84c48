package server

import (
	"sync"

	"smtpkit.example/smtp/proto"
)

// A loan is the buffer that the engine uses: a large one while there is content to read, one for a group of commands
// otherwise, and the connection's own, which is tiny, while the client is silent. The first two come from pools.
type loan struct {
	rx       *proto.Receiver
	content  *[contentBuffer]byte // borrowed; nil if it is not
	commands *[commandBuffer]byte // likewise; unused while there is content
	resting  bool                 // the engine uses own, and nothing has arrived
	flooded  bool                 // the last read filled the buffer, so that more has most likely arrived
	own      [restBuffer]byte
}

var (
	contentBuffers = sync.Pool{New: func() any { return new([contentBuffer]byte) }}
	commandBuffers = sync.Pool{New: func() any { return new([commandBuffer]byte) }}
)

// forInput lends the engine a buffer for what comes next, unless the connection rests. What is left of content in the
// large one stays there while keep is set.
func (l *loan) forInput(keep bool) {
	if !l.resting && (!keep || l.content == nil) {
		l.forCommands()
	}
}

// forContent lends the engine a large buffer.
func (l *loan) forContent() {
	if l.content != nil {
		return
	}
	big := contentBuffers.Get().(*[contentBuffer]byte)
	if !l.lend(big[:]) {
		contentBuffers.Put(big)
		return
	}
	l.content = big
}

// forCommands lends the engine a buffer for commands, if what is left in the large one fits into it.
func (l *loan) forCommands() {
	if l.commands == nil {
		l.commands = commandBuffers.Get().(*[commandBuffer]byte)
	} else if l.content == nil {
		return
	}
	if l.lend(l.commands[:]) && l.content != nil {
		contentBuffers.Put(l.content)
		l.content = nil
	}
}

// rest takes from the engine what it has borrowed, if there is no input.
func (l *loan) rest() {
	if l.rx.Buffered() > 0 {
		return
	}
	l.lend(l.own[:])
	l.resting = true
	if l.content != nil {
		contentBuffers.Put(l.content)
	}
	if l.commands != nil {
		commandBuffers.Put(l.commands)
	}
	l.content, l.commands = nil, nil
}

// end takes back what was lent, at the end of the connection.
func (l *loan) end() {
	if l.content != nil {
		l.forCommands()
	}
	l.rest()
}

// lend lends buf to the engine. It reports false if the engine has more input than fits into buf.
func (l *loan) lend(buf []byte) bool {
	old := l.rx.Lend(buf)
	return len(old) == 0 || &old[0] != &buf[0]
}
