// Faye's client on one transport, with the same face as that of CometD.
import assert from "node:assert/strict";
import {setTimeout as pause} from "node:timers/promises";
import faye from "faye";
import {Inbox, Refused} from "./inbox.mjs";

const refused = error => new Refused(error && `${error.code}:${(error.params ?? []).join(",")}:${error.message}`, error);

export class Client {
    constructor(url, transport) {
        this.transport = transport;
        this.native = new faye.Client(url, {retry: 1});
        if (transport !== "websocket") {
            this.native.disable("websocket");
        }
    }

    // Faye's client shakes hands by long-polling, and changes once the other
    // transport has proved to work.
    async open() {
        await new Promise(ok => this.native.connect(ok));
        for (let n = 0; n < 100 && this.native._dispatcher.connectionType !== this.transport; n++) {
            await pause(50);
        }
        assert.equal(this.native._dispatcher.connectionType, this.transport);
    }

    subscribe(channel) {
        const inbox = new Inbox();
        inbox.handle = this.native.subscribe(channel).withChannel((channel, data) => inbox.push({channel, data}));
        return new Promise((ok, failed) => inbox.handle.then(() => ok(inbox), e => failed(refused(e))));
    }

    async unsubscribe(inbox) {
        inbox.handle.cancel();
    }

    publish(channel, data) {
        return new Promise((ok, failed) => this.native.publish(channel, data).then(ok, e => failed(refused(e))));
    }

    // Faye's client sends what one tick brings in one request.
    batch(fn) {
        return Promise.all(fn());
    }

    async close() {
        await this.native.disconnect();
    }
}
