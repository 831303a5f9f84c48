// Sends one raw message with nodemailer: node nodemailer.js PORT starttls|tls USER PASSWORD FILE FROM TO...
// The environment may have more options in JSON: TRANSPORT for those of the transport, MESSAGE for those of the message.
'use strict';

const fs = require('fs');
const nodemailer = require('nodemailer');

const [port, kind, user, pass, file, from, ...to] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host: '127.0.0.1',
  port: Number(port),
  name: 'client.example',
  secure: kind === 'tls',
  requireTLS: true,
  tls: { servername: 'peer.example' },
  auth: { user, pass },
  ...JSON.parse(process.env.TRANSPORT || '{}'),
});

const more = JSON.parse(process.env.MESSAGE || '{}');

transport.sendMail({ envelope: { from, to }, raw: fs.readFileSync(file), ...more }).then(
  (info) => process.exit(info.rejected.length ? 1 : 0),
  (err) => {
    console.error(err);
    process.exit(1);
  },
);
