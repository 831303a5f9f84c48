// This program sends with the pool of nodemailer. It takes and answers the commands that child.go describes.
'use strict';

const readline = require('readline');
const nodemailer = require('nodemailer');

const role = JSON.parse(process.argv[process.argv.length - 1]);
const transport = nodemailer.createTransport({
    host: role.Host,
    port: role.Port,
    secure: false,
    pool: true,
    maxConnections: role.Conns
});
const message = { envelope: { from: role.From, to: [role.To] }, raw: Buffer.from(role.Text) };

// run has callers that wait for the outcome of a message each send n of them.
async function run(n) {
    const caller = async () => {
        while (n-- > 0) {
            await transport.sendMail(message);
        }
    };
    await Promise.all(Array.from({ length: role.Callers }, caller));
}

function answer(wall, err) {
    const { user, system } = process.cpuUsage();
    const usage = { CPU: (user + system) * 1000, Wall: Math.round(wall * 1e6), Err: err ? String(err) : '' };
    process.stdout.write(JSON.stringify(usage) + '\n');
}

async function main() {
    answer(0);
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [verb, n] = line.split(' ');
        const start = performance.now();
        let failed;
        if (verb === 'run') {
            try {
                await run(Number(n));
            } catch (err) {
                failed = err;
            }
        }
        answer(performance.now() - start, failed);
    }
    process.exit(0);
}

main();
