// The official CometD client on one transport, with promises.
import {CometD} from "cometd";
import {adapt} from "cometd-nodejs-client";
import {Console} from "node:console";
import {Inbox, Refused} from "./inbox.mjs";
import {scripts} from "./scripts.mjs";

// Cookies by host and port: clients that share a wire are tabs of one browser.
const jars = new Map();
const jar = uri => jars.get(uri.host) ?? jars.set(uri.host, new Map()).get(uri.host);

const keep = (uri, header) => {
    const pair = header.split(";", 1)[0].trim();
    jar(uri).set(pair.split("=", 1)[0], pair);
};

adapt({
    cookies: {
        storeCookie(uri, header, done) {
            keep(uri, header);
            done();
        },
        retrieveCookies(_context, uri, done) {
            done(null, [...jar(uri).values()]);
        },
    },
});
scripts(window, {keep, cookies: uri => [...jar(uri).values()].join("; ")});
window.console = new Console(process.stderr); // stdout belongs to the results

const outcome = (ok, failed, value) => reply =>
    reply.successful ? ok(value ?? reply) : failed(new Refused(reply.error, reply));

export class Client {
    constructor(url, transport) {
        this.native = new CometD();
        for (const other of this.native.getTransportTypes().filter(type => type !== transport)) {
            this.native.unregisterTransport(other);
        }
        this.native.configure({url, logLevel: "error", backoffIncrement: 200, maxSendBayeuxMessageSize: 1 << 20});
    }

    // Shakes hands; resolves with the reply.
    open() {
        return new Promise((ok, failed) => this.native.handshake(outcome(ok, failed)));
    }

    // Resolves once the client has been told that the server knows it is there:
    // from then on its connects are held.
    connected() {
        return this.heard("/meta/connect", reply => reply.successful);
    }

    // Resolves with the next message on a /meta channel that satisfies a test.
    heard(channel, test) {
        return new Promise(ok => {
            const listener = this.native.addListener(channel, message => {
                if (test(message)) {
                    this.native.removeListener(listener);
                    ok(message);
                }
            });
        });
    }

    subscribe(channel) {
        return new Promise((ok, failed) => {
            const inbox = new Inbox();
            inbox.handle = this.native.subscribe(channel, m => inbox.push(m), outcome(ok, failed, inbox));
        });
    }

    // Listens without a subscription: the server may make one.
    listen(channel) {
        const inbox = new Inbox();
        this.native.addListener(channel, m => inbox.push(m));
        return inbox;
    }

    unsubscribe(inbox) {
        return new Promise((ok, failed) => this.native.unsubscribe(inbox.handle, outcome(ok, failed)));
    }

    publish(channel, data) {
        return new Promise((ok, failed) => this.native.publish(channel, data, outcome(ok, failed)));
    }

    // Sends what fn sends in one request.
    batch(fn) {
        let sent;
        this.native.batch(() => sent = fn());
        return Promise.all(sent);
    }

    call(target, data, ms = 8000) {
        return new Promise((ok, failed) =>
            this.native.remoteCall(target, data, ms, reply =>
                reply.successful ? ok(reply) : failed(new Refused(reply.error ?? "call failed", reply))));
    }

    // Says goodbye; resolves with the reply.
    close() {
        if (this.native.isDisconnected()) {
            return Promise.resolve();
        }
        return new Promise(ok => this.native.disconnect(ok));
    }
}
