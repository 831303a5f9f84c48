// Package dkim signs messages on their way out with DKIM (RFC 6376), so that receivers can tell that they come from the
// domain in their From field. It is a module of its own, since it stands on github.com/emersion/go-msgauth:
//
//	go get smtpkit.example/smtp/client/dkim
//
// The module of the library does not require it, so programs that do not sign do not depend on it.
//
// Sign each message before a pool sends it:
//
//	key, err := dkim.ParsePrivateKey(text) // what is in the file rsa.pem
//	if err != nil {
//		return err
//	}
//	signer, err := dkim.New(&dkim.Options{Keys: []dkim.Key{
//		{Domain: "example.org", Selector: "2026a", Signer: key},
//	}})
//	if err != nil {
//		return err
//	}
//	out := signer.Sender(pool) // or whatever else is a client.Sender
//	result, err := out.Send(ctx, m)
//
// # Keys
//
// Make a key with OpenSSL, as [ParsePrivateKey] says, and publish the record that [Key.Record] returns:
//
//	record, err := key.Record()
//	fmt.Println(record) // 2026a._domainkey.example.org. IN TXT ( "v=DKIM1; k=rsa; p=MIIB…" )
//
// Wait until the record can be looked up, and then sign. To change a key, publish the new one under another selector,
// sign with that, and leave the old record where it is for a week: mail may wait in queues.
//
// Give each domain an RSA key of 2048 bits, which everybody can verify, and if you like an Ed25519 key (RFC 8463). All
// keys of a domain sign each of its messages, and a receiver needs one of the signatures.
//
// The program examples/signed prints records, and sends files with signatures.
//
// # What is signed
//
// The domain of the address in From decides which keys sign; see [Signer.Prepare]. Signed are the whole body, and the
// header fields in Options.Fields and Options.IfPresent. Most of them are listed once more than they are there, so that
// nobody can add a second Subject, say. White space may change on the way (relaxed/relaxed). Mailing lists that add a
// footer, and servers that encode content anew, break the signature. What they break counts as unsigned (RFC 6376
// section 6.1).
//
// The signature is of what the client transmits, where each CR and LF is part of a CRLF. So sign last: nothing between
// the signer and the server may change the message.
//
// # Signing for each attempt
//
// A [Signer] around a Sender signs once for each call of its Send. What makes several attempts by itself can call
// [Signer.Prepare] for each of them: a signature that expires is fresh then. Package client/mx does so:
//
//	d, err := mx.New(&mx.Options{Prepare: signer.Prepare})
//
// # Errors
//
// A message that cannot be signed is not sent. Each recipient then has the error: a [client.MessageError], which is
// permanent, or a [KeyError], which is temporary. If the Body fails, nothing of the message is sent either.
//
// # Memory and goroutines
//
// The header is held in memory, up to Options.MaxHeader. So is the content, up to Options.MaxHeld, unless Body is an
// [io.Seeker]. A content with more than 262144 empty lines in a row, and text behind them, is an error. Prepare runs a
// goroutine for each key, and none is left when it returns, whatever happens. It calls the keys one after the other.
package dkim
