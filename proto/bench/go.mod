module smtpkit.example/smtp/proto/bench

go 1.26.0

require smtpkit.example/smtp v0.0.0

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace smtpkit.example/smtp => ../..
