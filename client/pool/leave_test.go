package pool

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/proto"
)

// TestContextEnds: whenever a context ends, the outcome is true, and the message and its Body belong to the caller.
func TestContextEnds(t *testing.T) {
	seeds := 2
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		for _, keywords := range [][]string{
			{"PIPELINING"}, {"PIPELINING", "CHUNKING"}, {"PIPELINING", "LIMITS RCPTMAX=1"},
			{"PIPELINING", "CHUNKING", "LIMITS RCPTMAX=1"}, {"PIPELINING", "CHUNKING", "LIMITS MAILMAX=3"},
		} {
			synctest.Test(t, func(t *testing.T) { contextEnds(t, keywords, rand.New(rand.NewPCG(uint64(seed), 3))) })
		}
	}
}

// An impatient is a message whose sender gives up after some time.
type impatient struct {
	name     string
	m        *client.Message
	seeker   *strings.Reader // nil: the Body cannot be read again
	patience time.Duration
	sent     int // for how many recipients it was reported as accepted
	doubt    int // and as in doubt
	err      error
}

func newImpatient(name string, rnd *rand.Rand) *impatient {
	i := &impatient{name: name, m: named(name), patience: time.Duration(1+rnd.IntN(60)) * time.Millisecond / 2}
	for range rnd.IntN(4) {
		i.m.To = append(i.m.To, i.m.To[0])
	}
	content := strings.NewReader(name + "\r\n" + strings.Repeat("x\r\n", rnd.IntN(2)*60_000))
	i.m.Body = content
	switch rnd.IntN(3) {
	case 0:
		i.m.Body = io.MultiReader(content)
	case 1:
		i.m.Body = client.WriterBody(client.WriterFunc(func(w io.Writer) error {
			content.Seek(0, io.SeekStart)
			_, err := io.Copy(w, content)
			return err
		}))
	default:
		i.seeker = content
	}
	return i
}

// send sends the message, and uses it at once when it has the outcome.
func (i *impatient) send(t *testing.T, pool *Pool) {
	ctx, cancel := context.WithTimeout(t.Context(), i.patience)
	defer cancel()
	res, err := pool.Send(ctx, i.m)
	i.sent, i.err = res.Sent(), err
	for _, r := range res.Recipients {
		if r.Err != nil && !client.SafeToRetry(r.Err) {
			i.doubt++
		}
	}
	if len(res.Recipients) != len(i.m.To) || (err == nil) != (res.Sent() == len(i.m.To)) {
		t.Errorf("%s: result %v, error %v", i.name, res, err)
	}
	if i.seeker != nil {
		if at, _ := i.seeker.Seek(0, io.SeekCurrent); at != 0 {
			t.Errorf("%s: the body stands at %d; %v", i.name, at, err)
		}
	}
	_, _ = io.ReadAll(i.m.Body)
	for n := range i.m.To {
		i.m.To[n] = proto.Recipient{}
	}
	*i.m = client.Message{}
}

func contextEnds(t *testing.T, keywords []string, rnd *rand.Rand) {
	p := &peer{keywords: keywords, delay: time.Millisecond}
	pool := newPool(t, p, &Options{MaxConnsPerHost: 2})
	var all []*impatient
	var senders sync.WaitGroup
	for g := range 8 {
		mine := make([]*impatient, 10)
		for n := range mine {
			mine[n] = newImpatient(fmt.Sprintf("m%d-%d", g, n), rnd)
		}
		all = append(all, mine...)
		senders.Go(func() {
			for _, i := range mine {
				i.send(t, pool)
			}
		})
	}
	senders.Wait()
	closePool(t, pool, p)
	sent := 0
	for _, i := range all {
		n := p.count(i.name)
		if strings.HasSuffix(keywords[len(keywords)-1], "RCPTMAX=1") && (n < i.sent || n > i.sent+i.doubt) ||
			n == 0 && i.sent > 0 || n > 0 && i.sent+i.doubt == 0 {
			t.Errorf("%v: %s was accepted %d times: %d sent, %d in doubt; %v", keywords, i.name, n, i.sent, i.doubt, i.err)
		}
		if i.err == nil {
			sent++
		}
	}
	if sent == 0 {
		t.Errorf("%v: %d of %d were sent", keywords, sent, len(all))
	}
}
