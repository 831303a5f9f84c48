package sqlstore

import (
	"container/list"

	"smtpkit.example/smtp/client/queue"
)

// How much is kept of messages that were handed out when they were added, or were read with a job: they are about to be
// read.
const (
	recentOctets = 8 << 20
	recentLimit  = 64 << 10 // of one message
)

// A recent keeps the messages that were handed out last, in memory. Those that do not fit are read from the database.
type recent struct {
	messages map[queue.ID]*list.Element
	order    list.List // of *kept, the oldest first
	octets   int
}

// A kept is a message and its content. Neither changes.
type kept struct {
	id               queue.ID
	message, content []byte
}

func (r *recent) add(k *kept) {
	if r.messages == nil {
		r.messages = map[queue.ID]*list.Element{}
	}
	r.remove(k.id)
	r.messages[k.id] = r.order.PushBack(k)
	r.octets += k.size()
	for r.octets > recentOctets {
		r.remove(r.order.Front().Value.(*kept).id)
	}
}

func (r *recent) remove(id queue.ID) {
	if e := r.messages[id]; e != nil {
		r.octets -= r.order.Remove(e).(*kept).size()
		delete(r.messages, id)
	}
}

func (r *recent) get(id queue.ID) *kept {
	if e := r.messages[id]; e != nil {
		return e.Value.(*kept)
	}
	return nil
}

// size is what is counted of a message, with what the list and the map take.
func (k *kept) size() int { return len(k.message) + len(k.content) + 256 }
