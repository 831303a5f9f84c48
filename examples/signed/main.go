// Signed sends a message from a file, or from the standard input, with a DKIM signature of each key.
//
//	openssl genrsa -out rsa.pem 2048
//	go run . -key example.org:2026a:rsa.pem -records
//	go run . -key example.org:2026a:rsa.pem smtp://alice:secret@mail.example.org alice@example.org bob@example.net FILE
//
// With -records it prints what to publish in the DNS before anybody can verify a signature.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"smtpkit.example/smtp/client"
	"smtpkit.example/smtp/client/dkim"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("signed: ")
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	opt := &dkim.Options{}
	f := flag.NewFlagSet("signed", flag.ContinueOnError)
	f.Func("key", "`DOMAIN:SELECTOR:FILE` of a key in PEM; may be given several times", func(s string) error {
		k, err := readKey(s)
		opt.Keys = append(opt.Keys, k)
		return err
	})
	records := f.Bool("records", false, "print the records of the keys, and send nothing")
	f.BoolVar(&opt.Required, "required", false, "send nothing that no key signs")
	f.DurationVar(&opt.Expiry, "expiry", 0, "how long signatures are valid; 0: without end")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *records {
		return printRecords(out, opt.Keys)
	}
	if f.NArg() < 3 || f.NArg() > 4 {
		return errors.New("usage: signed -key DOMAIN:SELECTOR:FILE [flags] URL FROM TO [FILE]")
	}
	server, err := client.ParseURL(f.Arg(0))
	if err != nil {
		return err
	}
	signer, err := dkim.New(opt)
	if err != nil {
		return err
	}
	body := os.Stdin
	if f.NArg() == 4 {
		if body, err = os.Open(f.Arg(3)); err != nil {
			return err
		}
		defer body.Close()
	}
	m, err := client.NewMessage(f.Arg(1), strings.Split(f.Arg(2), ","), body)
	if err != nil {
		return err
	}
	result, err := signer.Sender(server).Send(ctx, m)
	for _, r := range result.Recipients {
		if r.Err == nil {
			fmt.Fprintln(out, r.Recipient.Address, "accepted")
		} else {
			fmt.Fprintln(out, r.Recipient.Address, r.Err)
		}
	}
	return err
}

// readKey returns the key that DOMAIN:SELECTOR:FILE names.
func readKey(s string) (dkim.Key, error) {
	parts := strings.SplitN(s, ":", 3)
	if len(parts) != 3 {
		return dkim.Key{}, errors.New("write DOMAIN:SELECTOR:FILE")
	}
	text, err := os.ReadFile(parts[2])
	if err != nil {
		return dkim.Key{}, err
	}
	private, err := dkim.ParsePrivateKey(text)
	return dkim.Key{Domain: parts[0], Selector: parts[1], Signer: private}, err
}

func printRecords(out io.Writer, keys []dkim.Key) error {
	for _, k := range keys {
		record, err := k.Record()
		if err != nil {
			return err
		}
		fmt.Fprintln(out, record)
	}
	return nil
}
