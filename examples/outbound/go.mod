module smtpkit.example/smtp/examples/outbound

go 1.25.0

require (
	github.com/emersion/go-msgauth v0.7.0
	smtpkit.example/smtp v0.0.0
	smtpkit.example/smtp/client/dkim v0.0.0
)

require (
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect
	golang.org/x/crypto v0.55.0 // indirect
	golang.org/x/net v0.58.0 // indirect
	golang.org/x/text v0.41.0 // indirect
)

replace (
	smtpkit.example/smtp => ../..
	smtpkit.example/smtp/client/dkim => ../../client/dkim
)
