package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"smtpkit.example/smtp/proto"
)

// doubtful is an error of somebody's own Sender.
type doubtful struct{ inDoubt bool }

func (doubtful) Error() string        { return "the program was killed" }
func (doubtful) Status() proto.Status { return proto.Status{4, 3, 0} }
func (e doubtful) InDoubt() bool      { return e.inDoubt }
func partOf(to []int, errs ...error) Part {
	p := Part{To: to, Result: &Result{Octets: 10}}
	for _, err := range errs {
		p.Result.Recipients = append(p.Result.Recipients, proto.Outcome{Err: err})
	}
	for _, err := range errs {
		if err != nil {
			p.Err = &SendError{Result: p.Result, Err: err, Unknown: isMarked(err)}
			break
		}
	}
	return p
}

// TestJoin joins parts. Each outcome is written as the retryable recipients, those in doubt, and those accepted.
func TestJoin(t *testing.T) {
	refused, later := proto.Refuse(550, proto.Status{5, 1, 1}, "no"), proto.Refuse(450, proto.Status{4, 2, 0}, "later")
	unconnected := &LostError{Doing: "dialling", Err: io.EOF, unconnected: true}
	lost := &LostError{Doing: "waiting", Err: io.EOF, InDoubt: true}
	bare := errors.New("bare")
	unmarked := partOf([]int{0, 1}, later, &LostError{Doing: "waiting", Err: io.EOF})
	unmarked.Err.(*SendError).Unknown = true
	empty := partOf([]int{1, 2}, later, later)
	empty.Result.Recipients = nil
	contradictory := partOf([]int{1, 2}, nil, nil)
	contradictory.Err = later
	for _, c := range []struct {
		name  string
		parts []Part
		want  string // an outcome for each of a, b, c: ok, again, doubt, never
		first error
	}{
		{"all accepted", []Part{partOf([]int{2, 0}, nil, nil), partOf([]int{1}, nil)}, "ok ok ok", nil},
		{"in the order of To", []Part{partOf([]int{2, 0}, refused, nil), partOf([]int{1}, later)}, "ok again never", later},
		{"in doubt leaves the others", []Part{partOf([]int{0}, unconnected), partOf([]int{2, 1}, lost, refused)},
			"again never doubt", lost},
		{"an error of one's own", []Part{partOf([]int{0}, doubtful{}), partOf([]int{1, 2}, doubtful{true}, nil)},
			"again doubt ok", doubtful{true}},
		{"Unknown without a mark", []Part{unmarked, partOf([]int{2}, unconnected)}, "again doubt again", nil},
		{"no result", []Part{{To: []int{1, 0, 2}, Err: unconnected}}, "again again again", unconnected},
		{"no result, no error", []Part{{To: []int{1, 0, 2}}}, "ok ok ok", nil},
		{"result in the error", []Part{{To: []int{2}, Err: partOf(nil, refused).Err}, partOf([]int{0, 1}, nil, nil)},
			"ok ok never", refused},
		{"result of other recipients", []Part{partOf([]int{0}, nil), empty}, "ok again again", later},
		{"an error and nobody has one", []Part{partOf([]int{0}, nil), contradictory}, "ok again again", later},
		{"an error that is not ours", []Part{partOf([]int{0}, nil), {To: []int{1, 2}, Err: bare}}, "ok never never", bare},
		{"in no part", []Part{partOf([]int{1, 5, -1}, nil, nil, nil)}, "again ok again", errInNoPart},
		{"the last one counts", []Part{partOf([]int{0, 1, 2}, later, refused, nil), partOf([]int{0, 1}, nil, nil)},
			"ok ok ok", nil},
	} {
		m := message("", "a@x.example", "b@x.example", "c@x.example")
		res, err := Join(m, c.parts)
		var again *Message
		failed, ok := err.(*SendError)
		if ok {
			again = failed.Retry(m)
		}
		var got []string
		for i, r := range res.Recipients {
			if !r.Address.Equal(m.To[i].Address) {
				t.Errorf("%s: %v in place %d", c.name, r.Address, i)
			}
			retried := false
			for j := 0; again != nil && j < len(again.To); j++ {
				retried = retried || again.To[j].Address.Equal(r.Address)
			}
			switch {
			case r.Err == nil:
				got = append(got, "ok")
			case retried:
				got = append(got, "again")
			case isMarked(r.Err):
				got = append(got, "doubt")
			default:
				got = append(got, "never")
			}
		}
		text := strings.Join(got, " ")
		if text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
		if (err == nil) != (c.want == "ok ok ok") || ok && failed.Unknown != strings.Contains(c.want, "doubt") {
			t.Errorf("%s: %+v", c.name, err)
		}
		if ok && c.first != nil && failed.Err != c.first {
			t.Errorf("%s: first %v, want %v", c.name, failed.Err, c.first)
		}
		// Retry tries the same ones as SendError.Retry.
		var tried string
		first := true
		Retry{First: -1, Attempts: 2}.Send(t.Context(), SenderFunc(func(_ context.Context, m *Message) (*Result, error) {
			if first {
				first = false
				return res, err
			}
			tried = fmt.Sprint(m.To)
			return unsent(m, refused)
		}), m)
		if want := ""; again != nil && tried != fmt.Sprint(again.To) || again == nil && tried != want {
			t.Errorf("%s: Retry tried %s", c.name, tried)
		}
	}
}

// TestJoinResult: a joined result has the octets of all parts and the last reply.
func TestJoinResult(t *testing.T) {
	a, b, c := partOf([]int{0}, nil), partOf([]int{1}, nil), partOf([]int{2}, nil)
	a.Result.Reply, b.Result.Reply = proto.Reply{Code: 250}, proto.Reply{Code: 251}
	res, err := Join(message("", "a@x.example", "b@x.example", "c@x.example"), []Part{a, b, c})
	if err != nil || res.Octets != 30 || res.Reply.Code != 251 {
		t.Errorf("%+v, %v", res, err)
	}
	if res, err := Join(nil, nil); err != nil || len(res.Recipients) != 0 {
		t.Errorf("%+v, %v", res, err)
	}
}
