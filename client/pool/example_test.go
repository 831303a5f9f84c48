package pool_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/pool"
	"smtpkit.example/smtp/ext"
)

// listen starts a server that accepts everything, and returns its address.
func listen() (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	var all sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		replies := map[string]string{"EHLO": "250-mail.example\r\n250 PIPELINING", "DATA": "354 Go on", "QUIT": "221 Bye"}
		fmt.Fprint(c, "220 mail.example\r\n")
		content := false
		for lines := bufio.NewScanner(c); lines.Scan(); {
			verb, _, _ := strings.Cut(lines.Text(), " ")
			if content = content && verb != "."; content {
				continue
			}
			content = verb == "DATA"
			reply := "250 Ok"
			if r, ok := replies[verb]; ok {
				reply = r
			}
			fmt.Fprint(c, reply+"\r\n")
		}
	}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(c) })
		}
	})
	return l.Addr().String(), func() {
		l.Close()
		all.Wait()
	}
}

func newMessage(to, text string) *client.Message {
	body := strings.NewReader("From: news@example.org\r\nTo: " + to + "\r\nSubject: News\r\n\r\n" + text + "\r\n")
	m, err := client.NewMessage("news@example.org", []string{to}, body)
	if err != nil {
		log.Fatal(err)
	}
	return m
}

// Many goroutines send by one pool.
func Example() {
	addr, stop := listen()
	defer stop()
	ctx := context.Background()

	opt := &client.Options{TLS: ext.TLSInsecureNone} // leave this out, and set Credentials
	p, err := pool.New(addr, opt, nil)
	if err != nil {
		log.Fatal(err)
	}
	var senders sync.WaitGroup
	for i := range 20 {
		senders.Go(func() {
			m := newMessage(fmt.Sprintf("reader%d@example.net", i), "How are you?")
			if _, err := p.Send(ctx, m); err != nil {
				log.Print(err)
			}
		})
	}
	senders.Wait()
	s := p.Stats()
	fmt.Println("sent", s.Sent, "over at most four connections:", s.Opened <= 4)

	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		log.Print(err)
	}
	// Output: sent 20 over at most four connections: true
}

// A batch goes over all connections of the pool.
func ExamplePool_SendAll() {
	addr, stop := listen()
	defer stop()
	ctx := context.Background()
	p, err := pool.New(addr, &client.Options{TLS: ext.TLSInsecureNone}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)

	messages := []*client.Message{newMessage("bob@example.net", "One"), newMessage("carol@example.net", "Two")}
	err = p.SendAll(ctx, slices.Values(messages), func(m *client.Message, r *client.Result, err error) bool {
		fmt.Println(m.To[0].Address, r.Sent(), err)
		return true
	})
	fmt.Println(err)
	// Output:
	// bob@example.net 1 <nil>
	// carol@example.net 1 <nil>
	// <nil>
}

// A program that sends to several servers has a pool for each, and one bound for all connections.
func ExampleGroup() {
	first, stop := listen()
	defer stop()
	second, stop := listen()
	defer stop()
	ctx := context.Background()
	g := pool.NewGroup(&pool.Options{MaxConns: 50, MaxConnsPerHost: 2})
	defer g.Close(ctx)

	opt := &client.Options{TLS: ext.TLSInsecureNone}
	for _, addr := range []string{first, second, first} {
		p, err := g.Pool(addr, opt) // the third is the first again, with its connection
		if err != nil {
			log.Fatal(err)
		}
		_, err = p.Send(ctx, newMessage("bob@example.net", "Hello"))
		s := p.Stats()
		fmt.Println(err, s.Opened, s.Sent)
	}
	// Output:
	// <nil> 1 1
	// <nil> 1 1
	// <nil> 1 2
}

// A pool and a policy for attempts that fail.
func ExamplePool_retry() {
	addr, stop := listen()
	defer stop()
	ctx := context.Background()
	p, err := pool.New(addr, &client.Options{TLS: ext.TLSInsecureNone}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close(ctx)

	retry := client.Retry{Attempts: 3, First: time.Second}
	result, err := retry.Send(ctx, p, newMessage("bob@example.net", "Hello"))
	fmt.Println(result.Sent(), err)
	// Output: 1 <nil>
}
