// The CometD and Faye clients in a page, on one transport.
import {CometD} from "./lib/cometd/cometd.js";

const clients = {
    cometd(url, transport) {
        const client = new CometD();
        client.getTransportTypes().filter(type => type !== transport).forEach(type => client.unregisterTransport(type));
        client.configure({url, logLevel: "error"});
        const outcome = (ok, failed) => reply => reply.successful ? ok() : failed(new Error(JSON.stringify(reply)));
        return {
            open: () => new Promise((ok, failed) => client.handshake(outcome(ok, failed))),
            subscribe: (channel, take) => new Promise((ok, failed) =>
                client.subscribe(channel, message => take(message.data), outcome(ok, failed))),
            publish: (channel, data) => new Promise((ok, failed) => client.publish(channel, data, outcome(ok, failed))),
            transport: () => client.getTransport().type,
            close: () => new Promise(ok => client.disconnect(ok)),
        };
    },
    faye(url, transport) {
        const client = new Faye.Client(url, {retry: 1});
        ["websocket", "eventsource", "long-polling", "cross-origin-long-polling", "callback-polling"]
            // It shakes hands by HTTP, from a page of another origin by scripts.
            .filter(type => type !== transport && type !== "callback-polling").forEach(type => client.disable(type));
        return {
            open: () => new Promise(ok => client.connect(ok)),
            subscribe: async (channel, take) => { await client.subscribe(channel, take); },
            publish: (channel, data) => client.publish(channel, data),
            transport: () => client._dispatcher.connectionType,
            close: () => client.disconnect(),
        };
    },
};

// Opens a client and subscribes; returns it. What comes is in window.seen.
export async function bayeux(name, transport, url, channel) {
    const client = clients[name](url, transport);
    window.seen = [];
    await client.open();
    await client.subscribe(channel, data => window.seen.push(data));
    return window.client = client;
}
