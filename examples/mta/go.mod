module smtpkit.example/smtp/examples/mta

go 1.26.0

require (
	github.com/emersion/go-msgauth v0.7.0
	smtpkit.example/smtp v0.0.0
	smtpkit.example/smtp/client/dkim v0.0.0
	smtpkit.example/smtp/client/queue/sqlstore/sqlite v0.0.0
)

require (
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect
	github.com/ncruces/go-sqlite3 v0.37.0 // indirect
	github.com/ncruces/go-sqlite3-wasm/v6 v6.5.35401 // indirect
	github.com/ncruces/julianday v1.0.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace (
	smtpkit.example/smtp => ../..
	smtpkit.example/smtp/client/dkim => ../../client/dkim
	smtpkit.example/smtp/client/queue/sqlstore/sqlite => ../../client/queue/sqlstore/sqlite
)
