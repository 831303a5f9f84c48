package queue

import (
	"errors"
	"strings"

	"smtpkit.example/smtp/proto"
)

// decode parses all of b into a value, and sets *v only if there is no error.
func decode[T any](b []byte, v *T, parse func(*decoder, *T)) error {
	d := decoder{s: string(b)}
	var out T
	parse(&d, &out)
	d.end()
	if d.err != nil {
		return d.err
	}
	*v = out
	return nil
}

func (d *decoder) message(m *Message) {
	d.object(func(key string) {
		switch key {
		case "id":
			m.ID = ID(d.string())
		case "arrived":
			m.Arrived = d.time()
		case "from":
			m.From = d.address()
		case "params":
			m.Params = d.params()
		case "needs":
			m.Needs = d.features()
		case "received_from":
			m.ReceivedFrom = d.mta()
		case "tag":
			m.Tag = d.string()
		case "size":
			m.Size = d.int64()
		default:
			d.skip()
		}
	})
}

func (d *decoder) job(j *Job) {
	d.object(func(key string) {
		switch key {
		case "id":
			j.ID = d.jobID()
		case "destination":
			j.Destination = d.string()
		case "to":
			j.To = nil
			d.array(func() {
				j.To = append(j.To, Recipient{})
				d.recipient(&j.To[len(j.To)-1])
			})
		case "state":
			j.State = d.state()
		case "why":
			j.Why = d.string()
		case "lane":
			j.Lane = Lane(d.int(0, 255))
		case "due":
			j.Due = d.time()
		case "alarm":
			j.Alarm = d.time()
		case "expires":
			j.Expires = d.time()
		case "attempts":
			j.Attempts = d.int(minInt, maxInt)
		case "last_attempt":
			j.LastAttempt = d.time()
		case "told":
			j.Told = d.bool()
		case "edits":
			j.Edits = d.int(minInt, maxInt)
		case "epoch":
			j.Epoch = d.int64()
		default:
			d.skip()
		}
	})
}

func (d *decoder) recipient(r *Recipient) {
	d.object(func(key string) {
		switch key {
		case "address":
			r.Address = d.address()
		case "params":
			r.Params = d.params()
		case "last":
			r.Last = new(Failure)
			d.failure(r.Last)
		default:
			d.skip()
		}
	})
}

func (d *decoder) failure(f *Failure) {
	d.object(func(key string) {
		switch key {
		case "status":
			f.Status = d.status()
		case "reply":
			f.Reply = d.reply()
		case "host":
			f.Host = d.string()
		case "text":
			f.Text = d.string()
		default:
			d.skip()
		}
	})
}

var errAddress = errors.New("not an address")

// parseAddress is the inverse of encoder.address. It takes what lax servers have taken, such as underscores in domains.
func parseAddress(s string) (proto.Address, error) {
	var a proto.Address
	rest := ""
	if strings.HasPrefix(s, `"`) {
		var local []byte
		i := 1
		for ; i < len(s) && s[i] != '"'; i++ {
			if s[i] == '\\' && i+1 < len(s) {
				i++
			}
			local = append(local, s[i])
		}
		if i >= len(s) {
			return a, errAddress
		}
		a.Local, rest = string(local), s[i+1:]
	} else if i := strings.LastIndexByte(s, '@'); i >= 0 {
		a.Local, rest = s[:i], s[i:]
	} else {
		a.Local = s
	}
	if rest == "" {
		return a, nil
	}
	if rest[0] != '@' {
		return a, errAddress
	}
	domain, err := proto.ParseDomain(rest[1:])
	if err != nil {
		lax, _, refused := proto.ParseRcptArgs([]byte("TO:<a"+rest+">"), true)
		if refused != nil {
			return a, err
		}
		domain = lax.Domain
	}
	a.Domain = domain
	return a, nil
}
