package dkim

import (
	"context"
	"crypto"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/ext"
	"smtpkit.example/smtp/proto"
)

const head = "From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: Hello\r\n"

// messages are what has to arrive with good signatures.
var messages = map[string]string{
	"plain":           head + "\r\nHello,\r\n\r\nworld.\r\n",
	"LF alone":        "From: alice@example.org\nSubject: a\n b\n\nHello,\n\n\nworld.\n",
	"CR alone":        "From: alice@example.org\rSubject: a\r\rHello,\r\rworld.\r",
	"mixed ends":      "From: alice@example.org\n\rHello\r\r\n\n\rworld\n\r\n\r",
	"dots":            head + "\r\n.\r\n..\r\n. a\r\n.b\r\n\r\n.",
	"8-bit":           head + "X: \xfc\r\n\r\n\xff\xfe\xfdGr\xc3\xbc\xc3\x9fe\r\n.\x80\r\n",
	"no body":         head + "\r\n",
	"header alone":    head,
	"cut header":      "From: alice@example.org\r\nSubject: without an end",
	"empty lines":     head + "\r\n\r\n\r\ntext\r\n\r\n\r\n\r\n",
	"only lines":      head + "\r\n\r\n\r\n\r\n",
	"no end":          head + "\r\nthe last line has no end",
	"white space":     head + "\r\n a\t\tb  \r\n \t \r\n\t\r\n c \r\n  \r\n \r\n",
	"only space":      head + "\r\n \t \r\n  ",
	"folded":          head + "References: <a@b>\r\n\t<c@d>\r\n   <e@f>  \r\nCC:\r\n x@y.example\r\nX-Long: " + strings.Repeat("a b ", 200) + "\r\n\r\nHi\r\n",
	"space and colon": "FROM : alice@example.org\r\nsubject \t:  a   b\r\n\r\nHi\r\n",
	"twice": head + "Subject: another\r\nTo: third@example.net\r\nReceived: a\r\nReceived: b\r\n" +
		"DKIM-Signature: v=1; d=old.example; h=from\r\n\r\nHi\r\n",
	"long line":  head + "\r\n" + strings.Repeat("a", 998) + "\r\n",
	"large":      head + "\r\n" + strings.Repeat("A line of text, with a few words in it.\r\n", 4000),
	"large LF":   head + "\r\n" + strings.Repeat("\n .A line \t of text, with a few words in it.  ", 4000),
	"resent":     "Resent-From: x@y.example\r\nResent-To: z@y.example\r\n" + head + "\r\nHi\r\n",
	"mail lists": head + "List-Unsubscribe: <https://example.org/>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nHi\r\n",
}

// TestSigned: what arrives at a server, by DATA and by BDAT, has two good signatures and is the message otherwise.
func TestSigned(t *testing.T) {
	keys := bothKeys(t, "example.org")
	z := zoneOf(t, keys...)
	s := newSigner(t, &Options{Keys: keys})
	for _, without := range [][]string{{"CHUNKING", "BINARYMIME"}, nil} {
		l := newLab(t, without...)
		for name, text := range messages {
			if name == "twice" {
				continue // the old signature is not to be verified
			}
			for kind, body := range bodies(text) {
				if _, err := s.Sender(l.sender()).Send(t.Context(), message(t, body)); err != nil {
					t.Errorf("%s from a %s: %v", name, kind, err)
					continue
				}
				got := l.take()[0]
				want := strings.TrimSuffix(crlf(text), "\r\n")
				if signed := strings.TrimSuffix(got, "\r\n"); !strings.HasSuffix(signed, "\r\n"+want) {
					t.Errorf("%s from a %s arrives as %.500q", name, kind, got)
				}
				domains, err := verifyBoth(got, z)
				if err != nil || !slices.Equal(domains, []string{"example.org", "example.org"}) {
					t.Errorf("%s from a %s: signatures of %v, %v", name, kind, domains, err)
				}
			}
		}
	}
}

// bodies are the kinds of Body that a message may have.
func bodies(text string) map[string]io.Reader {
	return map[string]io.Reader{
		"ReaderAt": strings.NewReader(text),
		"seeker":   struct{ io.ReadSeeker }{strings.NewReader(text)},
		"reader":   iotest.HalfReader(strings.NewReader(text)),
		"writer": client.WriterBody(client.WriterFunc(func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})),
	}
}

// TestDuplicates: every field of a name is signed, from the bottom.
func TestDuplicates(t *testing.T) {
	keys := bothKeys(t, "example.org")
	m := message(t, strings.NewReader(messages["twice"]))
	signed, err := newSigner(t, &Options{Keys: keys}).Prepare(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Replace(sent(t, signed), "DKIM-Signature: v=1; d=old", "X-Signature: v=1; d=old", 1)
	all, err := verify(got, zoneOf(t, keys...))
	if err != nil || len(all) != 2 || strings.Count(all[0]["h"], "Subject:") != 3 {
		t.Errorf("%v, %v", all, err)
	}
	for _, change := range [][2]string{{"Subject: Hello", "Subject: hello"}, {"Subject: another", "Subject: Another"},
		{"To: third", "To: fourth"}, {"To: bob", "To: bab"}} {
		if _, err := verify(strings.Replace(got, change[0], change[1], 1), zoneOf(t, keys...)); err == nil {
			t.Errorf("%q can be changed", change[0])
		}
	}
}

// TestOversigned: whatever is added or changed breaks both signatures, but for the fields that systems on the way add.
func TestOversigned(t *testing.T) {
	keys := bothKeys(t, "example.org")
	z := zoneOf(t, keys...)
	text := head + "List-Unsubscribe: <https://example.org/>\r\nResent-To: x@y.example\r\n\r\nHi\r\n"
	signed, err := newSigner(t, &Options{Keys: keys}).Prepare(t.Context(), message(t, strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	got := sent(t, signed)
	if _, err := verifyBoth(got, z); err != nil {
		t.Fatal(err)
	}
	for _, added := range []string{"Received: x", "X-Spam: no", "Return-Path: <a@b.example>", "Resent-To: z@y.example", "Sender: a@b"} {
		if _, err := verifyBoth(added+"\r\n"+got, z); err != nil {
			t.Errorf("with %s: %v", added, err)
		}
	}
	for _, name := range append(slices.Clone(defaultFields), "List-Unsubscribe", "from", "SUBJECT") {
		if _, err := verifyBoth(name+": mallory@example.net\r\n"+got, z); err == nil {
			t.Errorf("%s can be added", name)
		}
	}
	for i := strings.Index(got, "From: Alice"); i < len(got); i++ {
		if strings.ContainsRune(" \r\n", rune(got[i])) {
			continue // it may not count, in the relaxed form
		}
		changed := got[:i] + string(got[i]^1) + got[i+1:]
		if _, err := verify(changed, z); err == nil {
			t.Errorf("octet %d, %q, can be changed", i, got[i])
		}
	}
}

// TestTags: the tags of a signature, and how long it is valid.
func TestTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := bothKeys(t, "Example.org")
		s := newSigner(t, &Options{
			Keys: keys, Expiry: time.Hour, Fields: []string{"subject", "Subject", "X"}, IfPresent: []string{},
		})
		signed, err := s.Prepare(t.Context(), message(t, strings.NewReader(head+"\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		z := zoneOf(t, keys...)
		all, err := verify(sent(t, signed), z)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []map[string]string{{"a": "rsa-sha256", "s": "r"}, {"a": "ed25519-sha256", "s": "e"}} {
			want["h"], want["d"], want["t"], want["x"] = "From:From:subject:subject:X", "example.org", "946684800", "946688400"
			for name, value := range want {
				if all[i][name] != value {
					t.Errorf("%s=%s, want %s", name, all[i][name], value)
				}
			}
			if _, ok := all[i]["l"]; ok {
				t.Error("there is a length")
			}
		}
		time.Sleep(time.Hour + time.Second) // of the bubble
		if _, err := verifyBoth(sent(t, signed), z); err == nil {
			t.Error("the signature has not expired")
		}
		if signed, err = s.Prepare(t.Context(), message(t, strings.NewReader(head+"\r\n"))); err != nil {
			t.Fatal(err)
		}
		if _, err := verifyBoth(sent(t, signed), z); err != nil {
			t.Errorf("signed again: %v", err)
		}
	})
}

// TestLimits: what would take up memory without end is refused.
func TestLimits(t *testing.T) {
	s := newSigner(t, &Options{Keys: bothKeys(t, "example.org"), MaxHeader: 1000, MaxHeld: 1})
	for name, test := range map[string]struct {
		text, want string
	}{
		"at the bound": {head + "X:" + strings.Repeat("x", 1000-len(head)-4-2) + "\r\n\r\n", ""},
		"header":       {head + "X:" + strings.Repeat("x", 1000-len(head)-4-1) + "\r\n\r\n", "it has more than 1000 octets"},
		"endless line": {head + "X:" + strings.Repeat("x", 1<<20), "it has more than 1000 octets"},
		"empty lines":  {head + strings.Repeat("\r\n", maxEmpty) + "text", ""},
		"too many":     {head + "\r\nx\r\n" + strings.Repeat(" \r\n", maxEmpty) + "text", "empty lines in a row"},
		"at the end":   {head + strings.Repeat("\r\n", 4*maxEmpty), ""},
	} {
		signed, err := s.Prepare(t.Context(), message(t, strings.NewReader(test.text)))
		if test.want == "" && err != nil || test.want != "" && !isMessageError(err, test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if (signed == nil) != (err != nil) {
			t.Errorf("%s: %v with the error %v", name, signed, err)
		}
	}
}

// TestListIsBounded: the list of fields has room in a line, or the message is refused.
func TestListIsBounded(t *testing.T) {
	keys := bothKeys(t, "example.org")
	s := newSigner(t, &Options{Keys: keys})
	all := head
	for _, name := range slices.Concat(defaultFields[3:], defaultIfPresent) {
		all += name + ": x\r\n"
	}
	signed, err := s.Prepare(t.Context(), message(t, strings.NewReader(all+"\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifyBoth(sent(t, signed), zoneOf(t, keys...)); err != nil {
		t.Error(err)
	}
	refused := 0
	for n := range 120 {
		signed, err := s.Prepare(t.Context(), message(t, strings.NewReader(all+strings.Repeat("Subject: x\r\n", n)+"\r\n")))
		if err != nil {
			if !isMessageError(err, "it has more fields to be signed") {
				t.Fatal(err)
			}
			refused++
			continue
		}
		for line := range strings.SplitSeq(sent(t, signed), "\r\n") {
			if len(line) > 998 {
				t.Fatalf("a line of %d octets", len(line))
			}
		}
	}
	if refused == 0 || refused == 120 {
		t.Errorf("%d of 120 are refused", refused)
	}
	m := message(t, strings.NewReader(strings.Repeat("To:\r\n", 100000)+head+"\r\n"))
	if _, err := s.Prepare(t.Context(), m); err == nil {
		t.Error("100000 fields are listed")
	}
}

// TestBinary: DKIM has no form for a CR or LF alone in binary content.
func TestBinary(t *testing.T) {
	keys := bothKeys(t, "example.org")
	s := newSigner(t, &Options{Keys: keys})
	for text, good := range map[string]bool{
		head + "\r\n\x00\x01\xff\r\n":                     true,
		head + "\r\n\x00\x01\xff":                         true,
		head + "\r\na\nb":                                 false,
		head + "\r\na\rb":                                 false,
		head + "\r\na\r":                                  false,
		head + "\r\na\r\r\n":                              false,
		head + "\r\n" + strings.Repeat("a\r\n", 50000):    true,
		head + "X\r\n" + strings.Repeat("aa\r\n", 50000):  false, // no field
		head + "\r\nx" + strings.Repeat("a\r\n", 50000):   true,
		head + "\r\nxx" + strings.Repeat("a\r\n", 50000):  true,
		head + "\r\nx\n" + strings.Repeat("a\r\n", 50000): false,
	} {
		m := message(t, strings.NewReader(text))
		m.Needs = ext.Binary
		signed, err := s.Prepare(t.Context(), m)
		if (err == nil) != good {
			t.Errorf("%.120q: %v", text, err)
		}
		if err != nil {
			continue
		}
		l := newLab(t)
		if _, err := l.sender().Send(t.Context(), signed); err != nil {
			t.Fatal(err)
		}
		got := l.take()[0]
		if _, err := verify(got, zoneOf(t, keys...)); err != nil || !strings.HasSuffix(got, text) {
			t.Errorf("%.120q: %v", text, err)
		}
	}
}

// A badKey fails to sign.
type badKey struct {
	crypto.Signer
	sign func() ([]byte, error)
}

func (b badKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return b.sign() }

// TestKeyFails: if one of two keys fails, the message is not sent, and another attempt may succeed.
func TestKeyFails(t *testing.T) {
	failed := errors.New("the module is away")
	for name, sign := range map[string]func() ([]byte, error){
		"error":   func() ([]byte, error) { return nil, failed },
		"panic":   func() ([]byte, error) { panic(failed) },
		"nothing": func() ([]byte, error) { return nil, nil },
	} {
		keys := bothKeys(t, "example.org")
		keys[1].Signer = badKey{keys[1].Signer, sign}
		s := newSigner(t, &Options{Keys: keys})
		none := client.SenderFunc(func(context.Context, *client.Message) (*client.Result, error) {
			t.Errorf("%s: it is sent", name)
			return nil, nil
		})
		res, err := s.Sender(none).Send(t.Context(), message(t, strings.NewReader(head+"\r\n")))
		var failure *KeyError
		var all *client.SendError
		if !errors.As(err, &failure) || failure.Selector != "e" || !errors.As(err, &all) || all.Result != res ||
			!client.Temporary(err) || !client.SafeToRetry(err) || len(res.Recipients) != 1 || res.Recipients[0].Err == nil {
			t.Errorf("%s: %v, %v", name, res, err)
		}
	}
}

// TestReaderFails: if the Body fails, whatever it had before that, nothing is sent, no key is used, and no goroutine is
// left behind.
func TestReaderFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it fails if a goroutine is left at its end
		keys := bothKeys(t, "example.org")
		for i := range keys {
			keys[i].Signer = badKey{keys[i].Signer, func() ([]byte, error) {
				t.Error("the key is used")
				return []byte("x"), nil
			}}
		}
		s := newSigner(t, &Options{Keys: keys})
		failed := errors.New("the disk is gone")
		for n := range 100 {
			text := head + "\r\n" + strings.Repeat("line\r\n", 1000*(n%20))
			r := io.MultiReader(strings.NewReader(text[:len(text)-n%len(head)]), iotest.ErrReader(failed))
			m := message(t, r)
			if _, err := s.Prepare(t.Context(), m); !isMessageError(err, "the disk is gone") {
				t.Fatalf("%v, want a MessageError", err)
			}
			if _, err := s.Prepare(t.Context(), m); !isMessageError(err, "cannot be read again") {
				t.Fatalf("the second time %v", err)
			}
		}
	})
}

// TestReaderPanics: a panic of the Body reaches the caller, and leaves no goroutine behind.
func TestReaderPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, &Options{Keys: bothKeys(t, "example.org")})
		body := client.WriterBody(client.WriterFunc(func(w io.Writer) error {
			if _, err := io.WriteString(w, head+"\r\n"+strings.Repeat("line\r\n", 20000)); err != nil {
				return err
			}
			panic("no more")
		}))
		defer func() {
			if p := recover(); p != "no more" {
				t.Errorf("the panic is %v", p)
			}
		}()
		_, err := s.Prepare(t.Context(), message(t, body))
		t.Errorf("it returns %v", err)
	})
}

// TestContext: when the context ends, so does the reading.
func TestContext(t *testing.T) {
	s := newSigner(t, &Options{Keys: bothKeys(t, "example.org")})
	ctx, cancel := context.WithCancel(t.Context())
	text := head + "\r\n" + strings.Repeat("line\r\n", 100000)
	at := 0
	r := readerFunc(func(p []byte) (int, error) {
		if at > 200000 {
			cancel()
		}
		n := copy(p, text[at:])
		at += n
		return n, nil
	})
	if _, err := s.Prepare(ctx, message(t, r)); err != context.Canceled || at > 300000 {
		t.Errorf("%v after %d octets", err, at)
	}
	if _, err := s.Prepare(ctx, message(t, strings.NewReader(head))); err != context.Canceled {
		t.Errorf("with a context that has ended: %v", err)
	}
	idle := readerFunc(func([]byte) (int, error) { return 0, nil })
	if _, err := s.Prepare(t.Context(), message(t, idle)); !isMessageError(err, io.ErrNoProgress.Error()) {
		t.Errorf("a Body without octets and without an end: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestOutcomes: the outcomes of the wrapped Sender are those for the recipients of the message.
func TestOutcomes(t *testing.T) {
	s := newSigner(t, &Options{Keys: bothKeys(t, "example.org")})
	m, err := client.NewMessage("a@b.example", []string{"c@d.example", "e@f.example"}, strings.NewReader(head))
	if err != nil {
		t.Fatal(err)
	}
	refused := proto.Refuse(550, proto.Status{5, 1, 1}, "no")
	next := client.SenderFunc(func(_ context.Context, signed *client.Message) (*client.Result, error) {
		res := &client.Result{Recipients: []proto.Outcome{{Recipient: signed.To[0]}, {Recipient: signed.To[1], Err: refused}}}
		return res, &client.SendError{Result: res, Err: refused}
	})
	res, err := s.Sender(next).Send(t.Context(), m)
	if len(res.Recipients) != 2 || res.Recipients[1].Address != m.To[1].Address || !errors.Is(err, refused) {
		t.Errorf("%v, %v", res, err)
	}
	if _, err := s.Sender(newLab(t).sender()).Send(t.Context(), nil); !isMessageError(err, "recipients") {
		t.Errorf("no message: %v", err)
	}
}
