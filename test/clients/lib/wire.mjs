// A TCP relay between one client and the server: its network, which a scenario
// can cut, whose answers it can lose, and whose bytes it can read.
import net from "node:net";

export class Wire {
    #server;
    #pairs = new Set();
    #cut = false;
    #lose;
    #tap;

    // Opens a relay to the server of a URL; wire.url is that URL through it.
    static async open(url) {
        const wire = new Wire();
        const target = new URL(url);
        if (target.protocol !== "http:") {
            throw new Error(`the wire relays http, not ${target.protocol}`);
        }
        wire.#server = net.createServer(client => wire.#relay(client, target));
        await new Promise(listening => wire.#server.listen(0, "127.0.0.1", listening));
        target.host = `127.0.0.1:${wire.#server.address().port}`;
        wire.url = target.href;
        target.host = new URL(url).host;
        return wire;
    }

    #relay(client, target) {
        if (this.#cut) {
            client.destroy();
            return;
        }
        const server = net.connect(Number(target.port || 80), target.hostname);
        const pair = {client, server, polling: false, upgraded: false};
        this.#pairs.add(pair);
        const end = () => {
            client.destroy();
            server.destroy();
            this.#pairs.delete(pair);
        };
        for (const socket of [client, server]) {
            socket.setNoDelay(true);
            socket.on("error", end);
            socket.on("close", end);
        }
        client.on("data", bytes => {
            pair.polling = bytes.includes("/meta/connect") || bytes.includes("%2Fmeta%2Fconnect");
            pair.upgraded ||= /^upgrade: websocket/im.test(bytes.toString("latin1"));
            server.write(bytes);
        });
        server.on("data", bytes => {
            const polled = pair.upgraded ? bytes.includes("/meta/connect") : pair.polling;
            if (this.#lose && polled) {
                const lost = this.#lose;
                this.#lose = undefined;
                end();
                lost(bytes.toString());
                return;
            }
            if (this.#tap !== undefined) {
                this.#tap += bytes.toString();
            }
            client.write(bytes);
        });
    }

    // Takes the network away: connections break, new ones are refused.
    cut() {
        this.#cut = true;
        for (const {client, server} of [...this.#pairs]) {
            client.destroy();
            server.destroy();
        }
    }

    // Gives the network back.
    restore() {
        this.#cut = false;
    }

    // Loses the next answer to a /meta/connect, together with its connection;
    // resolves with what was lost.
    loseNextPoll() {
        return new Promise(lost => this.#lose = lost);
    }

    // Keeps what the server sends from now on; text returns it.
    tap() {
        this.#tap = "";
    }

    get text() {
        return this.#tap;
    }

    close() {
        this.cut();
        this.#server.close();
    }
}
