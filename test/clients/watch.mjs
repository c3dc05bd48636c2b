// Follows channels with the CometD client and its ack extension, as an
// application would: it subscribes after every handshake. With --replay it asks
// for what it missed.
// Prints a line of JSON for each event:
//   node watch.mjs --url http://127.0.0.1:8080/cometd --channel /a [--channel /b …] [--replay]
//   {"event":"session"|"subscribed"|"message"|"resync"|"lost","at":<ms since 1970>,"channel","n":<data.n>,"sent":<data.at>}
import {parseArgs} from "node:util";
import {AckExtension} from "cometd/AckExtension.js";
import {Client} from "./lib/cometd.mjs";

const {values: options} = parseArgs({
    options: {
        url: {type: "string", default: "http://127.0.0.1:8080/cometd"},
        channel: {type: "string", multiple: true, default: ["/watch"]},
        replay: {type: "boolean", default: false},
    },
});
const tell = (event, more) => console.log(JSON.stringify({event, at: Date.now(), ...more}));

const {native} = new Client(options.url, "long-polling");
native.configure({url: options.url, logLevel: "error", backoffIncrement: 200, maxBackoff: 1000});
native.registerExtension("ack", new AckExtension());

const retained = -2; // everything that there is
const last = new Map(options.channel.map(channel => [channel, retained]));
if (options.replay) {
    native.registerExtension("replay", {
        outgoing(message) {
            if (message.channel === "/meta/handshake") {
                message.ext = {...message.ext, replay: true};
            } else if (message.channel === "/meta/subscribe") {
                message.ext = {...message.ext, replay: {[message.subscription]: last.get(message.subscription)}};
            }
            return message;
        },
        incoming(message) {
            if (message.ext?.replay?.id) {
                last.set(message.channel, message.ext.replay.id);
            }
            return message;
        },
    });
}

let session = 0; // counts handshakes
function subscribe(mine, channel) {
    const take = ({data}) => mine === session && tell("message", {channel, n: data.n, sent: data.at});
    native.subscribe(channel, take, reply => {
        if (mine !== session) {
            return;
        }
        if (reply.successful) {
            tell("subscribed", {channel});
            return;
        }
        tell("lost", {channel, error: reply.error});
        if (reply.error?.endsWith(":replay_lost")) {
            tell("resync", {channel});
            last.set(channel, retained);
        }
        setTimeout(() => mine === session && subscribe(mine, channel), 500);
    });
}

native.addListener("/meta/handshake", reply => {
    if (!reply.successful) {
        tell("lost", {error: reply.error});
        return;
    }
    const mine = ++session;
    tell("session");
    native.batch(() => options.channel.forEach(channel => subscribe(mine, channel)));
});
native.addListener("/meta/connect", reply => {
    for (const channel of reply.ext?.comet?.resync ?? []) {
        tell("resync", {channel});
    }
});
native.handshake();
