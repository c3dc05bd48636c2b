// What one subscription has received, in order.
import assert from "node:assert/strict";
import {setTimeout as pause} from "node:timers/promises";

export class Inbox {
    #messages = [];
    #waiting = [];

    // Takes a message {channel, data, …}.
    push(message) {
        const first = this.#waiting.shift();
        first ? first(message) : this.#messages.push(message);
    }

    // Returns the next message, waiting for it.
    async next(ms = 8000) {
        if (this.#messages.length > 0) {
            return this.#messages.shift();
        }
        let timer;
        try {
            return await new Promise((got, failed) => {
                this.#waiting.push(got);
                timer = setTimeout(() => {
                    this.#waiting.splice(this.#waiting.indexOf(got), 1);
                    failed(new Error(`no message within ${ms} ms`));
                }, ms);
            });
        } finally {
            clearTimeout(timer);
        }
    }

    // Asserts that the next messages carry exactly these data, in order.
    async expect(...data) {
        for (const want of data) {
            assert.deepEqual((await this.next()).data, want);
        }
    }

    // Returns what has come and was not taken.
    drain() {
        return this.#messages.splice(0);
    }

    // Asserts that nothing more comes.
    async nothing(ms = 400) {
        await pause(ms);
        assert.deepEqual(this.#messages, [], "more messages than expected");
    }
}

// A reply that was not successful.
export class Refused extends Error {
    constructor(error, reply) {
        super(error || `refused without an error: ${JSON.stringify(reply)}`);
        this.reply = reply;
    }
}
